"""Accepting background calls, listing them, and acting on them, against a real Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from faas.control.held import Holdings
from faas.control.invocations import STATES, Invocations
from faas.control.jobs import Jobs, Terms, at_from
from faas.control.once import OnceOnly, Replay
from faas.control.steps import Platform
from faas.errors import Conflict, FaasError, HandlerRaised, Invalid, NoRoom, NotFound, TooLarge, Unavailable
from faas.ids import new_id
from faas.model import Function, Settings, Version
from faas.names import FunctionName, parse_target
from faas.node.call import Call, Reply
from faas.store.connection import connect
from faas.store.queue import Bells, Claims, Done, Enqueued, Enqueuer, Queue, Reads, Want
from faas.wire.messages import Pairs

VERSION = Version(number=1, code="0" * 64, settings=Settings(retries=0, max_age_s=60))
FUNCTION = Function(app="default", name="f", aliases={"live": {1: 100}}, versions={1: VERSION})
TARGET = parse_target("f")


class Room:
    """Jobs, and what a test needs to play the node."""

    def __init__(self, redis: Redis, jobs: Jobs, trouble: list[str]) -> None:
        self.redis = redis
        self.jobs = jobs
        self.queue = jobs.queue
        self.trouble = trouble

    @property
    def invocations(self) -> Invocations:
        return self.jobs.invocations

    async def accept(self, body: bytes = b"{}", **terms: object) -> str:
        stored = await self.jobs.accept(TARGET, FUNCTION, VERSION, call(body), Terms(**terms))  # type: ignore[arg-type]
        return stored.id

    async def die(self, most: int = 64) -> list[str]:
        """Take what waits and bury it."""
        taken = (await self.queue.take(Want(node="n-1", most=most, each=most))).jobs
        await self.queue.turn([Done(id=job.id, take=job.take, state="dead", cause="as asked") for job in taken])
        return [job.id for job in taken]


@pytest.fixture
async def room(fresh_redis: Callable[[], str]) -> AsyncIterator[Room]:
    url = fresh_redis()
    trouble: list[str] = []

    async def durable() -> str:
        return "".join(trouble)

    async with AsyncExitStack() as stack:
        redis = await connect(url)
        stack.push_async_callback(redis.aclose)
        queue = Queue(redis)
        enqueuer = await stack.enter_async_context(Enqueuer(queue))
        bells = await stack.enter_async_context(Bells(redis, lambda: connect(url, blocking=True)))
        yield Room(redis, Jobs(queue, Reads(redis), enqueuer, bells, durable, Claims(redis)), trouble)


def call(body: bytes = b"{}") -> Call:
    return Call(new_id("c"), body=body)


async def test_nothing_is_accepted_that_could_be_lost(room: Room) -> None:
    room.trouble.append("no append-only file")
    with pytest.raises(Unavailable, match="no append-only file"):
        await room.accept()
    with pytest.raises(Unavailable):
        await room.jobs.accept_many(TARGET, FUNCTION, VERSION, [call()], Terms())


async def test_many_are_stored_in_moves_of_bounded_size(room: Room) -> None:
    calls = [call(b"x" * 1024 * 1024) for _ in range(9)] + [call() for _ in range(600)]
    answers = await room.jobs.accept_many(TARGET, FUNCTION, VERSION, calls, Terms())
    assert [answer.id for answer in answers if isinstance(answer, Enqueued)] == [one.id for one in calls]


async def test_a_batch_has_a_key_for_each_of_its_calls(room: Room) -> None:
    bodies = [b"1", b"2"]
    first, again = [
        await room.jobs.accept_many(TARGET, FUNCTION, VERSION, [call(body) for body in bodies], Terms(key="k"))
        for _ in range(2)
    ]
    assert again == [Enqueued(answer.id, duplicate=True) for answer in first if isinstance(answer, Enqueued)]
    other = await room.jobs.accept_many(TARGET, FUNCTION, VERSION, [call(b"1"), call(b"3")], Terms(key="k"))
    assert isinstance(other[1], FaasError)
    assert other[1].status == 422


async def test_listing_goes_on_where_the_page_before_ended(room: Room) -> None:
    ids = {await room.accept() for _ in range(7)}
    assert set(await room.die()) == ids
    waiting = {await room.accept() for _ in range(3)}
    seen: list[str] = []
    cursor = ""
    for _ in range(20):
        page = await room.invocations.list_(["default/f"], STATES, since_ms=0, limit=2, cursor=cursor)
        seen += [one.id for one in page.invocations]
        cursor = page.cursor
        if not cursor:
            break
    assert set(seen) == ids | waiting
    assert len(seen) == 10, "no call twice, though several ended in the same millisecond"


@pytest.mark.parametrize("cursor", ["x", "1", "1-", "-1", "1-x", "9" * 20 + "-1", "1-99999"])
async def test_a_bad_cursor(room: Room, cursor: str) -> None:
    with pytest.raises(Invalid):
        await room.invocations.list_(["default/f"], STATES, since_ms=0, limit=2, cursor=cursor)


async def test_redrive_and_purge_keep_to_their_function(room: Room) -> None:
    for _ in range(5):
        await room.accept()
    ids = await room.die()
    other = FunctionName("default", "g")
    assert (await room.invocations.redrive(other, ids)).done == 0
    assert (await room.invocations.purge(other, None)).done == 0
    swept = await room.invocations.redrive(FUNCTION.id, ids[:2])
    assert (swept.done, swept.left) == (2, {})
    assert (await room.invocations.purge(FUNCTION.id, None)).done == 3
    with pytest.raises(NotFound):
        await room.jobs.info(ids[4])
    await room.queue.take(Want(node="n-1", most=1, each=1))
    with pytest.raises(Conflict):
        await room.invocations.again(ids[0])
    assert await room.invocations.cancel(ids[0]) == "asked"
    assert await room.invocations.cancel(ids[1]) == "cancelled"
    with pytest.raises(NotFound):
        await room.invocations.cancel(new_id("c"))


async def test_redrive_of_all_does_not_chase_what_dies_again(room: Room) -> None:
    for _ in range(300):
        await room.accept()
    while await room.die(256):
        pass
    assert (await room.invocations.redrive(FUNCTION.id, None)).done == 300
    assert (await room.invocations.redrive(FUNCTION.id, None)).done == 0


def test_times_to_begin_at() -> None:
    now = 1_767_225_600.0
    assert at_from("1767225660", lambda: now) == now + 60
    assert at_from("2026-01-01T00:01:00Z", lambda: now) == now + 60
    assert at_from("2026-01-01T01:01:00+01:00", lambda: now) == now + 60
    for bad in ("", "tomorrow", "2026-01-01T00:00:00", "nan", "inf", "-1", "1e12", "2030-01-01T00:00:00Z"):
        with pytest.raises(Invalid):
            at_from(bad, lambda: now)


# -- keys of plain calls -----------------------------------------------------------------------------------


class Handler:
    """Stands for the invoker."""

    def __init__(self, error: FaasError | None = None, *, begun: bool = True) -> None:
        self.error = error
        self.begun = begun
        self.runs = 0

    async def __call__(self, function: Function, version: Version, call: Call) -> Reply:
        self.runs += 1
        call.begun = self.begun
        if self.error is not None:
            raise self.error
        headers: Pairs = [(b"content-type", b"text/plain")]
        return Reply(201, headers, b"run %d" % self.runs)


async def test_one_execution_for_all_who_repeat(room: Room) -> None:
    handler = Handler()
    once = OnceOnly(room.jobs.claims, room.jobs.reads, handler)
    first = call()
    reply = await once.call(FUNCTION, VERSION, first, "k", "ada")
    assert isinstance(reply, Reply)
    replay = await once.call(FUNCTION, VERSION, call(), "k", "ada")
    assert isinstance(replay, Replay)
    assert (replay.id, replay.result.status, replay.result.body) == (first.id, 201, b"run 1")
    assert isinstance(await once.call(FUNCTION, VERSION, call(), "k", "bob"), Reply), "keys of others do not meet"
    with pytest.raises(Invalid, match="another request"):
        await once.call(FUNCTION, VERSION, call(b"other"), "k", "ada")
    assert handler.runs == 2


async def test_what_had_not_begun_may_be_repeated_and_what_failed_is_kept(room: Room) -> None:
    full = Handler(NoRoom("full"), begun=False)
    for _ in range(2):
        with pytest.raises(NoRoom):
            await OnceOnly(room.jobs.claims, room.jobs.reads, full).call(FUNCTION, VERSION, call(), "k", "ada")
    assert full.runs == 2
    raises = Handler(HandlerRaised("it broke"))
    once = OnceOnly(room.jobs.claims, room.jobs.reads, raises)
    with pytest.raises(HandlerRaised):
        await once.call(FUNCTION, VERSION, call(), "k", "ada")
    replay = await once.call(FUNCTION, VERSION, call(), "k", "ada")
    assert isinstance(replay, Replay)
    assert replay.result.error is not None
    assert replay.result.error["detail"] == "it broke"
    assert raises.runs == 1


async def test_a_key_that_a_background_call_has(room: Room) -> None:
    id = await room.accept(b"{}", key="k", caller="ada")
    once = OnceOnly(room.jobs.claims, room.jobs.reads, Handler())
    with pytest.raises(Conflict, match="has not ended") as busy:
        await once.call(FUNCTION, VERSION, call(), "k", "ada")
    assert busy.value.extra["first"] == id


# -- steps -------------------------------------------------------------------------------------------------


async def nobody(target: str, call: Call, *, timeout_s: float) -> Reply:
    raise AssertionError("no function is called")


def asked(method: str, id: str, body: bytes = b"", name: str = "charge", by: str = "f@1") -> Call:
    return Call(new_id("c"), method=method, query=name, body=body, extra={"parent": id, "chain": [by]})


async def test_steps(room: Room) -> None:
    holdings = Holdings()
    platform = Platform(nobody, room.queue, holdings)
    id = await room.accept()
    (job,) = (await room.queue.take(Want(node="n-1", each=1))).jobs
    with pytest.raises(NotFound):
        await platform.call("$step", asked("GET", id), timeout_s=1)
    held = holdings.add(job)
    assert (await platform.call("$step", asked("GET", id), timeout_s=1)).status == 404
    assert (await platform.call("$step", asked("PUT", id, b"one"), timeout_s=1)).body == b"one"
    assert (await platform.call("$step", asked("PUT", id, b"two"), timeout_s=1)).body == b"one", "the first stays"
    held.steps = None
    assert (await platform.call("$step", asked("GET", id), timeout_s=1)).body == b"one"
    with pytest.raises(NotFound):
        await platform.call("$step", asked("GET", id, by="g@1"), timeout_s=1)
    for bad in (asked("GET", id, name=""), asked("GET", id, name="x" * 201), asked("DELETE", id)):
        with pytest.raises(Invalid):
            await platform.call("$step", bad, timeout_s=1)
    with pytest.raises(TooLarge):
        await platform.call("$step", asked("PUT", id, b"x" * (1024 * 1024 + 1), name="big"), timeout_s=1)
    with pytest.raises(NotFound):
        await platform.call("$other", asked("GET", id), timeout_s=1)
    await room.queue.node_lost("n-1")
    with pytest.raises(Conflict, match="lost its lease"):
        await platform.call("$step", asked("PUT", id, b"x", name="late"), timeout_s=1)


async def test_the_clock_of_waiting_is_real(room: Room) -> None:
    id = await room.accept(delay_s=30.0)
    began = time.monotonic()
    info = await room.jobs.info(id, 0.3)
    assert info.state == "delayed"
    assert 0.25 < time.monotonic() - began < 3.0
