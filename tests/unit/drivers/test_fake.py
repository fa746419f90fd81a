"""The scripted driver does what its script says: other rooms' tests rest on it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from faas.drivers.api import Exit
from faas.drivers.fake import FakeDriver
from faas.drivers.script import Answer, Call, Crash, Die, Fail, Script
from faas.errors import Unavailable
from faas.wire import messages as m
from faas.wire.limits import CHUNK_MAX, INLINE_MAX, WINDOW
from tests.conformance.drivers.bench import Bench, Guest
from tests.support import wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="faas-fake-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def driver() -> AsyncIterator[FakeDriver]:
    async with FakeDriver() as driver:
        yield driver


@pytest.fixture
async def guest(driver: FakeDriver, folder: Path) -> AsyncIterator[Guest]:
    async with Bench(driver, folder, "n").guest() as guest:
        yield guest


def call(guest: Guest, stream: int, body: bytes = b"", *, last: bool = True) -> None:
    head = m.invoke_head(f"c-{stream}", "http", "POST", "/", "", [], 1000, {})
    guest.say("data", m.invoke(stream, head, body, last))


async def test_init_is_answered_and_remembered(guest: Guest, driver: FakeDriver) -> None:
    guest.say("data", m.init({"function": "hello", "concurrency": 5}))
    ready = await guest.hear(m.READY)
    assert ready[1]["concurrency"] == 5
    assert driver.inits == [{"function": "hello", "concurrency": 5}]


async def test_init_fails_as_told(guest: Guest, driver: FakeDriver) -> None:
    driver.script.init_error = "no module named eels"
    guest.say("data", m.init({}))
    assert (await guest.hear(m.INIT_FAILED))[1]["message"] == "no module named eels"


async def test_the_default_is_an_echo(guest: Guest, driver: FakeDriver) -> None:
    call(guest, 2, b"abc")
    reply = await guest.hear(m.REPLY)
    assert reply[1:5] == [2, 200, [], b"abc"]
    assert driver.counts.calls == 1


async def test_a_body_in_pieces_is_credited_and_put_together(guest: Guest) -> None:
    call(guest, 2, last=False)
    for piece in (b"ab", b"cd"):
        guest.say("data", m.chunk(2, piece))
    guest.say("data", m.end(2, {}))
    assert (await guest.hear(m.REPLY))[4] == b"abcd"
    assert sum(one[2] for one in guest.heard if one[0] == m.CREDIT) == 4


async def test_a_long_reply_waits_for_credit(guest: Guest, driver: FakeDriver) -> None:
    size = WINDOW + INLINE_MAX

    async def long(call: Call) -> Answer:
        return 200, bytes(size)

    driver.script.on_call = long
    call(guest, 2)

    def got() -> int:
        return sum(len(one[2]) for one in guest.heard if one[0] == m.CHUNK)

    await wait_until(lambda: got() == WINDOW, 5, "a window full")
    assert not [one for one in guest.heard if one[0] == m.END]
    guest.say("data", m.credit(2, size))
    await guest.hear(m.END)
    assert got() == size
    assert max(len(one[2]) for one in guest.heard if one[0] == m.CHUNK) == CHUNK_MAX


async def test_a_generator_is_streamed(guest: Guest, driver: FakeDriver) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def stream(call: Call) -> Answer:
        call.log("streaming")
        return pieces()

    driver.script.on_call = stream
    call(guest, 2)
    await guest.hear(m.END)
    assert [one[2] for one in guest.heard if one[0] == m.CHUNK] == [b"one", b"two"]
    assert (await guest.hear(m.LOG))[1:3] == ["c-2", "info"]


async def test_failures_have_the_kind_that_was_scripted(guest: Guest, driver: FakeDriver) -> None:
    async def fail(call: Call) -> Answer:
        raise Fail("caller", "BadInput", "no", status=422)

    driver.script.on_call = fail
    call(guest, 2)
    assert (await guest.hear(m.ERROR))[2] == {"kind": "caller", "type": "BadInput", "message": "no", "status": 422}


async def test_a_crash_is_reported_and_a_new_child_comes(guest: Guest, driver: FakeDriver) -> None:
    driver.script.crash_on_calls = frozenset({1})
    guest.hellos.clear()
    call(guest, 2)
    assert (await guest.hear(m.EXITED))[1]["signal"] == 11
    await wait_until(lambda: "data" in guest.hellos, 5, "another child")
    call(guest, 4, b"again")
    assert (await guest.hear(m.REPLY))[4] == b"again"


async def test_a_hanging_call_ends_by_cancel_or_by_kill(guest: Guest, driver: FakeDriver) -> None:
    driver.script.hang_on_calls = frozenset({1, 2})
    call(guest, 2)
    await wait_until(lambda: driver.counts.calls == 1, 5, "the first call")
    guest.say("control", m.cancel(2, "deadline"))
    assert (await guest.hear(m.ERROR))[2]["kind"] == "cancelled"
    driver.script.deaf = True
    call(guest, 4)
    await wait_until(lambda: driver.counts.calls == 2, 5, "the second call")
    guest.say("control", m.cancel(4, "deadline"))
    guest.say("control", m.kill("deadline"))
    assert (await guest.hear(m.EXITED))[1]["signal"] == 9


async def test_an_instance_dies_as_scripted_or_from_outside(driver: FakeDriver, folder: Path) -> None:
    async def die(call: Call) -> Answer:
        raise Die(Exit(code=3))

    driver.script.on_call = die
    bench = Bench(driver, folder, "n")
    async with bench.guest() as one, bench.guest() as other:
        call(one, 2)
        assert (await asyncio.wait_for(driver.wait(one.id), 5)).code == 3
        assert driver.running == [other.id]
        await driver.kill(other.id, Exit(signal=9, oom=True))
        assert (await driver.wait(other.id)).oom
        assert driver.running == []
    assert (driver.counts.started, driver.counts.destroyed, driver.counts.peak) == (2, 2, 2)


async def test_a_crash_asked_for_from_outside(guest: Guest, driver: FakeDriver) -> None:
    driver.crash(guest.id, Exit(code=1))
    assert (await guest.hear(m.EXITED))[1]["code"] == 1


async def test_a_start_fails_as_told_and_leaves_nothing(folder: Path) -> None:
    async with FakeDriver(Script(start_error=Unavailable("no engine today"))) as driver:
        with pytest.raises(Unavailable, match="today"):
            await driver.start(Bench(driver, folder, "n").spec())
        assert await driver.found() == []


async def test_drain_waits_for_calls(guest: Guest, driver: FakeDriver) -> None:
    gate = asyncio.Event()

    async def slow(call: Call) -> Answer:
        await gate.wait()
        return b"done"

    driver.script.on_call = slow
    call(guest, 2)
    await wait_until(lambda: driver.counts.calls == 1, 5, "the call")
    guest.say("data", m.drain(1000))
    gate.set()
    await guest.hear(m.DRAINED)
    assert [one[0] for one in guest.heard] == [m.REPLY, m.DRAINED]


def test_crashes_carry_their_cause() -> None:
    assert Crash().cause.signal == 11
    assert Die().exit.signal == 9
