"""What travels over the control API besides the structs of `faas.model`. OpenAPI is generated from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from faas.control.access import LIFE_MAX_S, TokenView
from faas.control.diff import Changes
from faas.control.invocations import Invocation, Try
from faas.control.ports import PoolView
from faas.control.secrets import SecretView
from faas.control.tokens import Role
from faas.model import NodeInfo, Scale

State = Literal["ready", "cold", "crash_loop", "paused"]

LOG_LINES_MAX = 10_000
AUDIT_MAX = 10_000
INVOCATIONS_MAX = 500


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error (RFC 9457). Some kinds add members: `traceback`, `call_id`."""

    status: int
    code: str
    fault: Literal["caller", "function", "platform"]
    type: str = ""
    title: str = ""
    detail: str = ""
    hint: str = ""
    call_id: str = ""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A function at a glance. Counts are of this node."""

    name: str
    app: str
    function: str
    live: int | None
    """Version with the largest share of `live`; null before the first successful push."""
    aliases: dict[str, dict[str, int]]
    """Alias -> version -> percent."""
    runtime: str
    memory: int
    min: int
    max: int
    instances: int
    in_flight: int
    waiting: int
    url: str
    created_at: float
    updated_at: float
    created_by: str
    paused: str
    state: State
    public: bool


class Detail(View, frozen=True, kw_only=True):
    """A function in full. `settings` is the readable form, without defaults."""

    settings: dict[str, Any]
    scale: Scale
    code: str
    deps: str
    pools: list[PoolView]


class FunctionList(msgspec.Struct, frozen=True):
    functions: list[View]


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a function's history. `settings` is the readable form, without defaults.

    `changes` is against the entry before; null: there is none before.
    """

    number: int
    created_at: float
    created_by: str
    code: str
    deps: str
    settings: dict[str, Any]
    aliases: list[str]
    changes: Changes | None


class VersionList(msgspec.Struct, frozen=True):
    versions: list[VersionView]


class ScaleBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Instances by hand; null: what the version says."""

    min: int | None = None
    max: int | None = None


class RollbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Version to go back to; null: the one that was live before."""

    to: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Moved(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Versions `live` moved between."""

    from_: int
    to: int


class Rolled(msgspec.Struct, frozen=True):
    """What a rollback of many functions did. `stayed`: nothing of them was live before."""

    moved: dict[str, Moved]
    stayed: list[str]


class PauseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why calls are refused; callers read it. Empty: who paused it."""

    reason: str = ""


class AppView(msgspec.Struct, frozen=True, kw_only=True):
    """An app at a glance. Counts of instances and calls are of this node."""

    name: str
    functions: int
    paused: int
    """Functions of it that take no calls."""
    secrets: int
    instances: int
    in_flight: int
    waiting: int
    updated_at: float
    """Unix seconds of the last change to one of its functions; 0 when there are none."""


class AppList(msgspec.Struct, frozen=True):
    apps: list[AppView]


class AppDetail(msgspec.Struct, frozen=True):
    app: AppView
    functions: list[View]


class AppScaleBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scale of every function by hand: bounds, of which null ones stay, or a factor for both."""

    min: int | None = None
    max: int | None = None
    by: float | None = None


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to make. `apps` null: all that the maker has."""

    name: str
    roles: list[Role]
    apps: list[str] | None = None
    expires_s: Annotated[float, msgspec.Meta(gt=0, le=LIFE_MAX_S)] | None = None
    """Seconds until it expires; null: as long as the maker's own."""


class TokenList(msgspec.Struct, frozen=True):
    tokens: list[TokenView]


class WeightsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Version -> percent, summing to 100."""

    weights: dict[int, int]


class SecretBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: str


class SecretList(msgspec.Struct, frozen=True):
    secrets: list[SecretView]


class RuntimeList(msgspec.Struct, frozen=True):
    runtimes: list[str]


class NodeList(msgspec.Struct, frozen=True):
    nodes: list[NodeInfo]


class RedisStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the node's Redis is. `finding` says what is wrong and the fix; empty when all is well."""

    url: str
    ok: bool
    durable: bool
    finding: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The node that answers, and what it sees."""

    node: NodeInfo
    redis: RedisStatus
    functions: int
    instances: dict[str, int]
    version: str


class Health(msgspec.Struct, frozen=True):
    ok: bool


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this node should get calls; `problems` says per part what is wrong."""

    ready: bool
    problems: dict[str, str] = {}


class AppQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    app: str = ""
    """Only this app's."""


class DiffQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Versions to compare; 0: the one that was live before, and the live one."""

    from_: Annotated[int, msgspec.Meta(ge=0)] = 0
    to: Annotated[int, msgspec.Meta(ge=0)] = 0


class LockQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Version whose packages are meant; 0: the live one."""

    version: Annotated[int, msgspec.Meta(ge=0)] = 0


class Lock(msgspec.Struct, frozen=True):
    """Packages of a version, as requirements with versions and hashes; empty: it declared none."""

    version: int
    lock: str


class AuditQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    function: str = ""
    """Only changes of this function, as NAME or NAME.APP."""
    app: str = ""
    """Only changes in this app."""
    limit: Annotated[int, msgspec.Meta(ge=0, le=AUDIT_MAX)] = 100
    """At most so many entries of the past, the newest ones."""
    follow: bool = False
    """Go on with new entries; a blank line every 15 s says that the stream is alive."""


class InvocationQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which background calls to list, newest first."""

    function: str = ""
    """Only those of this function, as NAME or NAME.APP."""
    app: str = ""
    """Only those of this app."""
    state: str = ""
    """Only those in these states, with commas: waiting, delayed, running, succeeded, failed, dead, cancelled."""
    since_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Only those that entered their state since then, Unix milliseconds."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=INVOCATIONS_MAX)] = 100
    cursor: str = ""
    """Of the page before."""


class DeadQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of a function's dead letters."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=INVOCATIONS_MAX)] = 100
    cursor: str = ""
    """Of the page before."""


class WaitQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to wait for the end."""

    wait: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    """Wait up to so many seconds for the end."""


class RedriveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dead letters to run again; null: all."""

    ids: Annotated[list[str], msgspec.Meta(max_length=1000)] | None = None


class Cancelled(msgspec.Struct, frozen=True):
    """`cancelled`: it had not begun. `asked`: it runs, and its handler is told."""

    id: str
    status: Literal["cancelled", "asked"]


class InputView(msgspec.Struct, frozen=True, kw_only=True):
    """What a background call was called with. A body that is no text is in `base64`."""

    target: str
    kind: str
    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: str | None
    base64: str = ""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter in full."""

    invocation: Invocation
    tries: list[Try]
    error: dict[str, Any] | None
    input: InputView | None


class LogQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    call: str = ""
    """Only lines of this call."""
    since_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Only lines since then, Unix milliseconds."""
    limit: Annotated[int, msgspec.Meta(ge=0, le=LOG_LINES_MAX)] = 1000
    """At most so many stored lines, the newest ones."""
    level: str = ""
    """Only lines of this level and worse; `stdout` and `stderr`: only those."""
    grep: str = ""
    """Only lines that contain this text."""
    follow: bool = False
    """Go on with new lines; a blank line every 15 s says that the stream is alive."""
