"""What goes into the queue and comes out of it. Frozen data; times that end in `_ms` are Unix milliseconds."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from faas.errors import FaasError, Invalid, TooManyRequests

Priority = Literal["high", "normal", "low"]
EndState = Literal["succeeded", "failed", "dead", "cancelled"]
State = Literal["waiting", "delayed", "running", "succeeded", "failed", "dead", "cancelled"]

LIVE_STATES: tuple[State, ...] = ("waiting", "delayed", "running")
END_STATES: tuple[EndState, ...] = ("succeeded", "failed", "dead", "cancelled")
LANES: tuple[Priority, ...] = ("high", "normal", "low")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the queue; the same on every node."""

    length: int = 100_000
    """Most unfinished jobs of a function."""
    bytes: int = 1024 * 1024 * 1024
    """Most bytes of input of a function's unfinished jobs."""
    keep_s: float = 24 * 3600.0
    """How long results, and idempotency keys after the end, are kept."""
    dead_s: float = 14 * 86400.0
    """How long dead letters are kept."""
    listed: int = 10_000
    """Most ended jobs of a function that are listed, per state; the oldest leave the list first."""
    history: int = 20
    """Most failed attempts that are remembered of a job."""
    idle_s: float = 3600.0
    """How long the counters of a function without jobs are kept."""


class Input(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What the attempt gets: the same at each of them. `target`: NAME[.APP][@VERSION|@ALIAS] as it was asked for."""

    target: str
    kind: str = "http"
    method: str = "POST"
    path: str = "/"
    query: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    extra: dict[str, Any] = {}


class Result(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How the last attempt ended: a reply, or an error as problem document."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    error: dict[str, Any] | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A failed attempt. `cause`: an error's code, or `node_lost`. `error`: its problem document."""

    number: int
    node: str
    started_ms: int
    ended_ms: int
    cause: str
    error: dict[str, Any] | None = None


class Once(msgspec.Struct, frozen=True):
    """An idempotency key, scoped to function and caller, and the digest of the request it came with."""

    key: str
    body: str

    @classmethod
    def of(cls, function: str, caller: str, key: str, *request: bytes) -> Once:
        """Args: `function`: APP/NAME; `request`: all parts that must be equal in a repeat.

        Raises:
            Invalid: the key is empty or longer than 255 characters.
        """
        if not 1 <= len(key) <= 255:
            raise Invalid(f"an Idempotency-Key has 1 to 255 characters, not {len(key)}")
        return cls(_digest(part.encode() for part in (function, caller, key)), _digest(request))


def _digest(parts: Any) -> str:
    """Of the parts, not of their concatenation: each goes in with its length."""
    total = hashlib.sha256()
    for part in parts:
        total.update(b"%d:" % len(part) + part)
    return total.hexdigest()[:40]


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job to be accepted. The caller makes the id, so that a repeat after a lost reply is harmless."""

    id: str
    function: str
    """APP/NAME."""
    input: Input
    priority: Priority = "normal"
    attempts: int = 3
    """Most attempts, the first included."""
    max_age_s: float = 6 * 3600.0
    """How long it may wait, from when it may begin; then it is dead."""
    delay_s: float = 0.0
    at: float | None = None
    """Unix seconds before which it does not begin; wins over `delay_s`."""
    once: Once | None = None
    notify: bool = False
    """Its end is put on the list of `Queue.notices`, for callbacks and destinations."""
    app_most: int = 0
    """Most unfinished jobs of all functions of its app, this one included; 0: any."""


class Enqueued(msgspec.Struct, frozen=True):
    """Stored. `duplicate`: nothing was stored now; `id` is that of the first."""

    id: str
    duplicate: bool = False


class Refused(msgspec.Struct, frozen=True):
    """Not stored. `error` is what to tell the caller."""

    id: str
    error: FaasError


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job under a lease of the node that took it. (`id`, `take`) names the lease."""

    id: str
    function: str
    take: int
    attempt: int
    """Counts from 1."""
    attempts: int
    accepted_ms: int
    expires_ms: int
    """No attempt begins after this."""
    input: Input


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt ended and so does the job. `attempt`: the record of a failed one."""

    id: str
    take: int
    state: EndState = "succeeded"
    cause: str = ""
    result: Result | None = None
    attempt: Attempt | None = None


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt failed and another may follow after `after_s`; if none is left, the job is dead."""

    id: str
    take: int
    after_s: float
    cause: str
    attempt: Attempt | None = None


class GiveBack(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt had not begun and does not count; the job goes back to its place."""

    id: str
    take: int


Outcome = Done | Retry | GiveBack


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has room for."""

    node: str
    most: int = 64
    """1 to 256."""
    lease_s: float = 10.0
    most_bytes: int = 8 * 1024 * 1024
    """Of input in one take; a single larger job is given alone."""
    each: int = 0
    """Room for each function that `rooms` does not name."""
    rooms: dict[str, int] = {}
    """Room by APP/NAME; 0 for what is paused or cannot run here."""
    limits: dict[str, int] = {}
    """`max_in_flight` by APP/NAME: most running on all nodes together."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """`lost`: ids of outcomes that came too late and did nothing. `more`: another take may find work at once.

    `next_due_s`: seconds until the earliest delay is over; None without delayed jobs.
    """

    jobs: tuple[Job, ...] = ()
    lost: tuple[str, ...] = ()
    more: bool = False
    next_due_s: float | None = None


class Kept(msgspec.Struct, frozen=True):
    """A lease after `renew`: `held` False: the job is somebody else's now; `cancel`: somebody asked for it."""

    held: bool
    cancel: bool = False


class Reaped(msgspec.Struct, frozen=True, kw_only=True):
    """`lost`: leases ended. `old`: jobs dead of age. `more`: call again."""

    lost: int
    old: int
    more: bool
    next_due_s: float | None


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is now. Times are 0 where they do not apply."""

    id: str
    function: str
    state: State
    priority: Priority
    accepted_ms: int
    began_ms: int = 0
    """Of the last attempt."""
    ended_ms: int = 0
    due_ms: int = 0
    expires_ms: int = 0
    attempt: int = 0
    """Attempts begun."""
    attempts: int = 1
    node: str = ""
    cause: str = ""
    bytes: int = 0
    cancel_asked: bool = False


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """A function's queue in numbers. `oldest_ms`: since when the first in line may begin; 0: nobody waits."""

    waiting: int
    delayed: int
    running: int
    dead: int
    unfinished: int
    bytes: int
    oldest_ms: int = 0


Claim = Literal["new", "busy", "done", "job", "conflict"]


def full(job: NewJob, used: int, what: str, limits: Limits) -> Refused:
    """The refusal of a job for which the queue of its function has no room."""
    if what == "app":
        app = job.function.partition("/")[0]
        error = TooManyRequests(
            f"app {app} has {used} unfinished background calls; its quota is {job.app_most}",
            hint="Send more slowly, or ask an admin for more: faas apps quota.",
            retry_after_s=5.0,
        )
        return Refused(job.id, error)
    if what == "length":
        said = f"{used} unfinished jobs; the limit is {limits.length}"
    else:
        said = f"{used} bytes of unfinished jobs and this one is more than fits; the limit is {limits.bytes}"
    return Refused(
        job.id,
        TooManyRequests(
            f"the queue of {job.function} has {said}",
            hint="Send more slowly, or raise the function's max so that it drains faster.",
            retry_after_s=5.0,
        ),
    )


def conflict(job: NewJob, first: str) -> Refused:
    """The refusal of a known idempotency key with another body."""
    hint = "Repeat exactly the same request, or use a new key."
    error = Invalid(f"this Idempotency-Key came with another request before: {first}", hint=hint)
    return Refused(job.id, error)
