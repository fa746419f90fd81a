"""Cancelling, dying, draining, and what the supervisor does about each."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from faas.wire import messages as m
from tests.conformance.runtime.node import Node
from tests.support import wait_until_sync


def test_cancel_of_a_plain_handler(node: Node) -> None:
    node.init("slow")
    stream = node.open()
    node.until(node.data, m.LOG)
    node.control.send(m.cancel(stream, "deadline"))
    answer = node.finish(stream)
    assert (answer.error["kind"], answer.error["type"]) == ("cancelled", "Cancelled")
    assert answer.texts() == ["cleaning up"]
    assert node.call(b'{"seconds": 0}').body == b"done"


def test_cancelled_handler_may_still_answer(node: Node) -> None:
    node.init("slow")
    stream = node.open(b'{"swallow": true}')
    node.until(node.data, m.LOG)
    node.control.send(m.cancel(stream, "deadline"))
    assert node.finish(stream).body == b"partial"


def test_cancel_is_only_for_its_own_call(node: Node) -> None:
    node.init("slow")
    first = node.open(b'{"seconds": 0}')
    node.finish(first)
    node.control.send(m.cancel(first, "late"))
    node.control.send(m.cancel(first + 100, "never was"))
    node.control.send(m.ping(1))
    node.until(node.control, m.PONG)
    assert node.call(b'{"seconds": 0.1}').body == b"done"


def test_cancel_that_comes_before_the_call_begins(node: Node) -> None:
    node.init("slow")
    node.control.send(m.cancel(2, "early"))
    node.control.send(m.ping(1))
    node.until(node.control, m.PONG)
    assert node.call().error["kind"] == "cancelled"


def test_cancel_of_an_async_handler(node: Node) -> None:
    node.init("slow_async")
    stream = node.open()
    node.until(node.data, m.LOG)
    node.data.send(m.cancel(stream, "deadline"))
    answer = node.finish(stream)
    assert answer.error["kind"] == "cancelled"
    assert answer.texts() == ["cleaning up"]


def test_cancel_of_a_stream_that_waits_for_credit(node: Node) -> None:
    node.init("stream")
    stream = node.open(b'{"count": 100, "size": 131072}')
    for _ in range(5):
        node.data.read()
    node.control.send(m.cancel(stream, "the client is gone"))
    assert node.finish(stream).error["kind"] == "cancelled"
    assert node.call().status == 200


def test_kill_ends_what_cannot_be_cancelled(node: Node) -> None:
    node.init("stubborn")
    stream = node.open()
    node.control.send(m.cancel(stream, "deadline"))
    node.control.send(m.ping(7))
    assert node.until(node.control, m.PONG)[0] == [m.PONG, 7]
    node.control.send(m.kill("deadline"))
    cause, _ = node.exited()
    assert cause == {"code": None, "signal": signal.SIGKILL, "oom": False, "detail": "killed: deadline"}
    assert node.init("hello", handler="hello")[0] == m.READY


@pytest.mark.parametrize(
    ("how", "code", "number", "detail"),
    [
        ("segfault", None, signal.SIGSEGV, "SIGSEGV"),
        ("exit", 7, None, "exited with code 7"),
        ("abort", None, signal.SIGABRT, "SIGABRT"),
        ("kill", None, signal.SIGKILL, "SIGKILL"),
        ("close", 71, None, "code 71"),
        ("close_all", 71, None, "code 71"),
    ],
)
def test_death(node: Node, how: str, code: int | None, number: int | None, detail: str) -> None:
    node.init("crash")
    stream = node.open(f'{{"how": "{how}"}}'.encode())
    cause, logs = node.exited()
    assert (cause["code"], cause["signal"], cause["oom"]) == (code, number, False)
    assert detail in cause["detail"]
    assert f"about to {how}" in [log[4] for log in logs]
    words = [log for log in logs if log[4].startswith("last words")]
    assert [log[1] for log in words] == [f"c-{stream}"]
    if how == "segfault":
        assert any("Segmentation fault" in log[4] for log in logs)
    assert node.init("crash")[0] == m.READY
    assert node.call(b'{"how": "nothing"}').body == b'{"survived":"nothing"}'


def test_garbage_on_every_descriptor(node: Node) -> None:
    node.init("crash")
    node.open(b'{"how": "garbage"}')
    with pytest.raises(Exception, match="frame"):
        node.until(node.data, m.REPLY)
    node.control.send(m.kill("broke the protocol"))
    assert node.exited()[0]["signal"] == signal.SIGKILL


def test_stopped_child_can_be_killed(node: Node) -> None:
    node.init("crash")
    node.open(b'{"how": "stop"}')
    node.until(node.data, m.LOG)
    node.control.send(m.kill("deadline"))
    assert node.exited()[0]["signal"] == signal.SIGKILL


def test_signals_to_the_supervisor(node: Node) -> None:
    node.init("crash")
    node.open(b'{"how": "parent"}')
    node.until(node.data, m.REPLY)
    node.control.send(m.ping(1))
    assert node.until(node.control, m.PONG)[0] == [m.PONG, 1]


def _descendants(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found += [int(entry.name), *_descendants(int(entry.name))]
    return found


def test_nothing_of_a_dead_child_lives_on(node: Node) -> None:
    node.init("orphans")
    node.open()
    cause, _ = node.exited()
    assert cause["code"] == 1
    assert len(_descendants(node.process.pid)) == 1, "only the new child"


def test_copy_of_the_child_does_not_answer(node: Node) -> None:
    node.init("orphans")
    answer = node.call(b'{"fork": true}')
    assert answer.body == b"the original"
    assert node.call(b'{"fork": true}').body == b"the original"


def test_supervisor_ends_with_its_node(node: Node) -> None:
    node.init("orphans", "hello", handler="orphans")
    node.call(b'{"fork": true}')
    pids = _descendants(node.process.pid)
    assert len(pids) >= 4
    node.control.sock.close()
    assert node.process.wait(10) == 0
    for pid in pids:
        wait_until_sync(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 5, f"{pid} is gone")  # type: ignore[misc]


def test_ping(node: Node) -> None:
    for wire in (node.control, node.data):
        wire.send(m.ping(5))
        assert wire.read() == [m.PONG, 5]
    node.init("hello")
    node.data.send(m.ping(6))
    assert node.data.read() == [m.PONG, 6]


def test_healthz(node: Node) -> None:
    node.init("healthy")
    assert node.ready["healthz"] is True
    node.data.send(m.ping(1))
    assert node.data.read() == [m.PONG, 1]
    node.call(b'{"fine": false}')
    node.data.send(m.ping(2))
    with pytest.raises(EOFError):
        node.data.read()
    cause, logs = node.exited()
    assert cause["code"] == 71
    assert any("the pool is gone" in log[4] for log in logs)


@pytest.mark.parametrize(("handler", "concurrency"), [("healthy_async", 0), ("healthy", 2)])
def test_healthz_lets_calls_end(node: Node, handler: str, concurrency: int) -> None:
    node.init(handler, concurrency=concurrency)
    assert node.call(b'{"fine": false}').status == 200
    stream = node.open(b'{"fine": false, "sleep": 0.3}')
    node.data.send(m.ping(2))
    assert node.finish(stream).status == 200, "and no PONG"
    with pytest.raises(EOFError):
        node.data.read()
    assert node.exited()[0]["code"] == 71


def test_hooks_and_drain(node: Node) -> None:
    node.init("hooks")
    assert node.call().body == b'["start","async start"]'
    node.data.send(m.drain(1000))
    _, logs = node.until(node.data, m.DRAINED)
    assert "stopping" in [log[4] for log in logs]
    assert any("stop hook" in log[4] and log[2] == "error" for log in logs)
    assert node.exited()[0]["code"] == 0


def test_drain_finishes_calls_first(node: Node) -> None:
    node.init("hello_async")
    stream = node.open(b'{"sleep": 0.1}')
    node.data.send(m.drain(1000))
    assert node.finish(stream).status == 200
    assert node.data.read() == [m.DRAINED]
    assert node.exited()[0]["code"] == 0


def test_drain_of_a_stem_cell(node: Node) -> None:
    node.data.send(m.drain(1000))
    assert node.data.read() == [m.DRAINED]
    assert node.exited()[0]["code"] == 0


def test_children_that_die_young_are_slowed_down(node: Node) -> None:
    began = time.monotonic()
    for _ in range(7):
        node.data.sock.shutdown(socket.SHUT_RDWR)
        assert node.exited()[0]["code"] == 71
    assert time.monotonic() - began > 0.1


def test_supervisor_cannot_be_traced(node: Node) -> None:
    if os.geteuid() == 0:
        status = Path(f"/proc/{node.process.pid}/mem").stat()
        assert status.st_uid == 0
    child = _descendants(node.process.pid)[0]
    assert Path(f"/proc/{child}/status").exists()
