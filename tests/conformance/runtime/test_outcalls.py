"""Calls that a function makes."""

from __future__ import annotations

import json

import pytest

from faas.wire import limits
from faas.wire import messages as m
from tests.conformance.runtime.node import JSON, Node


def test_call_and_answer(node: Node) -> None:
    node.init("calls")
    stream = node.open(b'{"data": {"n": 1}}', timeout_ms=9000, extra={"trace": "00-a-b-01", "chain": ["web"]})
    invoke = node.data.read()
    assert invoke[:2] == [m.INVOKE, 1]
    call_id, kind, method, path, query, headers, timeout_ms, extra = invoke[2]
    assert (call_id, kind, method, path, query) == (f"c-{stream}", "call", "POST", "other.shop@3", "")
    assert headers == [[b"content-type", b"application/json"]]
    assert 8000 < timeout_ms <= 9000
    assert extra == {"trace": "00-a-b-01", "chain": ["web"]}
    assert (invoke[3], invoke[4]) == (b'{"n":1}', True)
    node.data.send(m.reply(1, 200, JSON, b'{"x": 2}', {"run_us": 1}))
    assert json.loads(node.finish(stream).body) == {"answer": {"x": 2}}


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (m.error(1, {"kind": "raised", "type": "KeyError", "message": "x", "hint": "h"}), ("raised", "KeyError", 0)),
        (m.error(1, {"kind": "caller", "type": "T", "message": "x", "status": 404}), ("caller", "T", 404)),
        (m.reply(1, 503, [], b"later", {}), ("status", "", 503)),
    ],
)
def test_call_that_fails(node: Node, frame: m.Message, expected: tuple[str, str, int]) -> None:
    node.init("calls")
    stream = node.open(b'{"timeout": 1.5}')
    assert node.data.read()[2][6] == 1500
    node.data.send(frame)
    seen = json.loads(node.finish(stream).body)
    assert (seen["kind"], seen["type"], seen["status"]) == expected


def test_large_bodies_both_ways(node: Node) -> None:
    node.init("calls")
    size = limits.WINDOW + 2 * limits.CHUNK_MAX
    stream = node.open(json.dumps({"data": "x" * 1000}).encode())
    node.data.read()
    node.data.send(m.head(1, 200, [(b"content-type", b"text/plain")]))
    for _ in range(size // limits.CHUNK_MAX):
        node.data.send(m.chunk(1, b"y" * limits.CHUNK_MAX))
        assert node.data.read() == [m.CREDIT, 1, limits.CHUNK_MAX]
    node.data.send(m.end(1, {}))
    assert json.loads(node.finish(stream).body) == {"answer": "y" * size}


def test_large_body_waits_for_credit(node: Node) -> None:
    node.init("calls")
    size = limits.WINDOW + limits.CHUNK_MAX
    text = json.dumps({"data": "x" * size}).encode()
    stream = node.open(b"", last=False)
    for at in range(0, len(text), limits.CHUNK_MAX):
        node.data.send(m.chunk(stream, text[at : at + limits.CHUNK_MAX]))
        node.data.read()
    node.data.send(m.end(stream, {}))
    invoke = node.data.read()
    assert (invoke[3], invoke[4]) == (b"", False)
    sent = sum(len(node.data.read()[2]) for _ in range(limits.WINDOW // limits.CHUNK_MAX))
    assert sent == limits.WINDOW
    node.data.send(m.credit(1, limits.WINDOW))
    assert len(node.data.read()[2]) == limits.CHUNK_MAX
    assert node.data.read()[:2] == [m.END, 1]
    node.data.send(m.reply(1, 204, [], b"", {}))
    assert json.loads(node.finish(stream).body) == {"answer": None}


def _echo(node: Node, message: m.Message) -> None:
    if message[0] == m.INVOKE:
        node.data.send(m.reply(message[1], 200, JSON, message[3], {}))


@pytest.mark.parametrize(
    ("handler", "event", "expected"),
    [
        ("calls", {"how": "thread"}, [0, 1, 2, 3]),
        ("calls", {"how": "loop", "data": [7]}, [7]),
        ("calls_async", {}, [0, 1, 2]),
        ("calls_async", {"how": "thread"}, 1),
    ],
)
def test_calls_from_threads_and_loops(node: Node, handler: str, event: object, expected: object) -> None:
    node.init(handler)
    stream = node.open(json.dumps(event).encode())
    assert json.loads(node.finish(stream, lambda frame: _echo(node, frame)).body) == expected


def test_blocking_call_in_async_code_is_refused(node: Node) -> None:
    node.init("calls_async")
    assert "faas.call.aio" in node.call(b'{"how": "blocking"}').error["message"]


def test_cancel_while_a_call_waits(node: Node) -> None:
    node.init("calls")
    stream = node.open()
    node.data.read()
    node.control.send(m.cancel(stream, "deadline"))
    seen: list[m.Message] = []
    assert node.finish(stream, seen.append).error["kind"] == "cancelled"
    assert [frame[:2] for frame in seen] == [[m.CANCEL, 1]]
    node.data.send(m.reply(1, 200, [], b"", {}))
    node.data.send(m.ping(3))
    assert node.data.read() == [m.PONG, 3]
