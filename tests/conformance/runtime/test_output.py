"""Everything a function says arrives before its call ends, with the call's id, and within bounds."""

from __future__ import annotations

import fcntl
import json
import sys
import termios
import time

from faas.wire import limits
from faas.wire import messages as m
from tests.conformance.runtime.node import Node
from tests.support import wait_until_sync


def test_every_way_to_say_something(node: Node) -> None:
    node.init("prints")
    assert [(log[1], log[4]) for log in node.logs] == [("", "at import")]
    for _ in range(3):
        answer = node.call()
        call_id = answer.logs[0][1]
        assert {log[1] for log in answer.logs} == {call_id}
        assert answer.texts("stdout")[:2] == ["one", "two"]
        assert sorted(answer.texts("stdout")) == sorted(
            ["one", "two", "no endfrom a thread", "from C", "buffered", "from a program"]
        )
        assert answer.texts("stderr") == ["to stderr", "raw no end"]
        assert answer.texts("info") == ["told"]
        warning = next(log for log in answer.logs if log[2] == "warning")
        assert (warning[4], warning[5]) == ("careful", {"logger": "shop", "item": 7})
        assert "ZeroDivisionError" in answer.texts("error")[0]


def test_long_lines_are_cut(node: Node) -> None:
    node.init("flood")
    answer = node.call(b'{"how": "long"}')
    lines = sorted(answer.texts())
    assert len(lines) == 2
    assert all(len(line.encode()) <= limits.LOG_LINE_MAX for line in lines)
    assert lines[0].endswith(f"… [cut, {100_000 - lines[0].index('…')} bytes]")
    assert lines[1].endswith(f"… [cut, {40_000 - 2 * lines[1].index('…')} bytes]")


def test_rate_is_limited_and_drops_are_counted(node: Node) -> None:
    node.init("flood")
    for how in ("print", "raw"):
        answer = node.call(json.dumps({"how": how, "lines": 8000}).encode())
        texts = answer.texts()
        kept = sum(1 for text in texts if text.startswith("x"))
        dropped = [text.split() for text in texts if text.startswith("[dropped")]
        assert 3500 < kept < 8000
        if how == "print":
            assert kept + sum(int(words[1]) for words in dropped) == 8000
            assert sum(int(words[3]) for words in dropped) == 1000 * (8000 - kept)


def test_prints_in_signal_handlers_do_not_break_frames(node: Node) -> None:
    node.init("prints_in_signal")
    answer = node.call(b'{"lines": 3000}')
    assert answer.body == b"ok"
    assert [t for t in answer.texts() if t != "tick"] == [f"line {n}" for n in range(3000)]
    assert "tick" in answer.texts()


def _unread(node: Node) -> int:
    count = bytearray(4)
    fcntl.ioctl(node.control.sock, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


def test_kill_is_heard_while_nobody_reads_the_logs(node: Node) -> None:
    node.init("flood")
    node.open(b'{"how": "raw", "lines": 1000000}')
    wait_until_sync(lambda: _unread(node) > 30_000, what="the control connection is full")
    node.control.send(m.kill("enough"))
    cause, logs = node.exited()
    assert cause["detail"] == "killed: enough"
    assert {log[4] for log in logs if log[2] == "stdout"} <= {"x" * 999, "x" * 998, *("x" * n for n in range(999))}
    assert len(logs) < 3000, "what waits for the node is bounded"


def test_program_in_the_background_does_not_hold_calls_up(node: Node) -> None:
    node.init("chatty")
    began = time.monotonic()
    for _ in range(20):
        assert node.call().body == b"ok"
    assert time.monotonic() - began < 10, "20 calls, each waits for at most a few reads"
