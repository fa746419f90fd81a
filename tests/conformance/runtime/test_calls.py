"""Events in, replies out, and every way in which a call can fail without taking the instance along."""

from __future__ import annotations

import json
from typing import Any

import pytest

from faas.wire import limits
from faas.wire import messages as m
from tests.conformance.runtime.node import Node

MULTIPART = (
    b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--B\r\nContent-Disposition: form-data; name="f"; filename="x.bin"\r\nContent-Type: image/png'
    b"\r\n\r\nPNG\r\n--B--\r\n"
)
EVENTS: list[tuple[str, bytes, str, Any]] = [
    ("application/json", b'{"a": [1, 2.5, null]}', "", {"dict": {"a": [1, 2.5, None]}}),
    ("application/json; charset=utf-8", b'"x"', "", {"str": "x"}),
    ("application/vnd.api+json", b"[1]", "", {"list": [1]}),
    ("Application/JSON", b"\xef\xbb\xbf1", "", {"int": 1}),
    ("application/x-www-form-urlencoded", b"a=1&b=2&b=3&c=", "", {"dict": {"a": "1", "b": ["2", "3"], "c": ""}}),
    ("application/x-www-form-urlencoded", b' {"a": 1}', "", {"dict": {"a": 1}}),
    ("application/x-www-form-urlencoded", b"[1]", "", {"list": [1]}),
    ("application/x-www-form-urlencoded", b"{a=1", "", {"dict": {"{a": "1"}}),
    ("multipart/form-data; boundary=B", MULTIPART, "", {"dict": {"a": "1", "f": {"file": "x.bin", "data": "PNG"}}}),
    ("text/plain", "grüß".encode(), "", {"str": "grüß"}),
    ("text/csv; charset=latin-1", "ü".encode("latin-1"), "", {"str": "ü"}),
    ("image/png", b"\x00\xff", "", {"bytes": "\x00\xff"}),
    ("", b"raw", "", {"bytes": "raw"}),
    ("", b"", "a=1&a=2&b=%C3%BC", {"dict": {"a": ["1", "2"], "b": "ü"}}),
    ("application/json", b"", "", {"dict": {}}),
]
REPLIES: list[tuple[str, int, str | None, bytes]] = [
    ("dict", 200, "application/json", '{"ä":[1,2.5,null,true]}'.encode()),
    ("list", 200, "application/json", b"[1]"),
    ("str", 200, "text/plain; charset=utf-8", "grüß".encode()),
    ("bytes", 200, "application/octet-stream", b"\x00\xff"),
    ("none", 204, None, b""),
    ("int", 200, "application/json", b"42"),
    ("tuple", 201, "text/plain; charset=utf-8", b"made"),
    ("status", 404, None, b""),
    ("pair", 200, "application/json", b"[1,2]"),
    ("response", 202, "text/html", b"<p>"),
    ("surrogate", 200, "application/json", b'{"s":"\\ud800"}'),
    ("big", 200, "application/octet-stream", b"x" * 1_000_000),
    ("coroutine", 200, "application/json", b'{"late":true}'),
]
BAD_REPLIES = [
    ("nan", "nan at ['a'][1]['b']"),
    ("cycle", "contains itself"),
    ("date", "date at ['when'][0]"),
    ("key", "key '(1, 2)'"),
    ("deep", "nested too deeply"),
    ("bad_status", "99 is not an HTTP status"),
    ("bad_header", "line end"),
    ("bad_name", "'X A' is not a header name"),
    ("many_headers", "201 headers"),
    ("object", "a object"),
]


def test_events(node: Node) -> None:
    node.init("event")
    for label, body, query, expected in EVENTS:
        headers = [(b"Host", b"h"), (b"content-type", label.encode())] if label else []
        answer = node.call(body, headers=headers, query=query)
        assert json.loads(answer.body) == expected, (label, body)


@pytest.mark.parametrize(
    ("label", "body", "wanted"),
    [
        (b"application/json", b"{'a': 1}", "is not JSON"),
        (b"application/json", b"NaN", "is not JSON"),
        (b"application/json", b"\xff", "is not JSON"),
        (b"application/json", b"[" * 100_000, "nested too deeply"),
        (b"application/json", b"1" * 10_000, "is not JSON"),
        (b"text/plain", b"\xff", "cannot be read as utf-8"),
        (b"text/plain; charset=klingon", b"x", "klingon"),
        (b"multipart/form-data; boundary=B", b"x", "has no parts"),
    ],
)
def test_broken_bodies_are_the_callers_fault(node: Node, label: bytes, body: bytes, wanted: str) -> None:
    node.init("event")
    error = node.call(body, headers=[(b"Content-Type", label)]).error
    assert (error["kind"], error["status"]) == ("caller", 400)
    assert wanted in error["message"]
    assert not error["traceback"]
    assert node.call(b"1").body == b'{"int":1}'


def test_replies(node: Node) -> None:
    node.init("returns")
    for what, status, label, body in REPLIES:
        answer = node.call(json.dumps({"what": what}).encode())
        assert (answer.status, answer.headers.get("content-type"), answer.body) == (status, label, body), what
        assert all(len(chunk) <= limits.CHUNK_MAX for chunk in answer.chunks)


def test_replies_that_cannot_be_sent(node: Node) -> None:
    node.init("returns")
    for what, wanted in BAD_REPLIES:
        error = node.call(json.dumps({"what": what}).encode()).error
        assert error["kind"] == "reply", what
        assert wanted in error["message"], what
    assert node.call(b'{"what": "int"}').body == b"42"


def test_what_a_handler_raises(node: Node) -> None:
    node.init("raises", network="none")

    def error(what: str) -> dict[str, Any]:
        return node.call(json.dumps({"what": what}).encode()).error

    plain = error("plain")
    assert (plain["kind"], plain["type"], plain["message"]) == ("raised", "KeyError", "'missing'")
    assert plain["traceback"].count("File ") == 2
    assert 'raises.py", line 12, in handler' in plain["traceback"]
    assert "faas_runtime" not in plain["traceback"]
    assert (error("exit")["type"], error("exit")["message"]) == ("SystemExit", "3")
    assert (error("retry")["kind"], error("retry")["retry_after_ms"]) == ("retry", 2500)
    assert "cannot be shown: RuntimeError" in error("odd")["message"]
    assert error("recursion")["type"] == "RecursionError"
    assert len(error("recursion")["traceback"]) <= limits.TRACEBACK_MAX
    assert "--network egress" in error("network")["hint"]
    assert error("surrogate")["message"] == "\\ud800"
    assert node.call(b'{"what": "fine"}').body == b"fine"


def test_request_and_context(node: Node) -> None:
    node.init("request")
    extra = {"params": {"id": "7"}, "scheme": "https", "host": "a.example"}
    headers = [(b"X-Thing", b"1"), (b"x-thing", b"2"), (b"Content-Type", b"application/json")]
    answer = node.call(b"[1]", method="PUT", path="/a%20b", query="q=1", headers=headers, extra=extra)
    assert json.loads(answer.body) == {
        "method": "PUT",
        "path": "/a%20b",
        "query": {"q": "1"},
        "header": "1, 2",
        "url": "https://a.example/a%20b?q=1",
        "params": {"id": "7"},
        "body": "[1]",
        "data": [1],
    }


def test_context(node: Node) -> None:
    node.init("context", app="shop", version=3)
    event = {"id": "e1", "type": "t"}
    answer = node.call(b"{}", timeout_ms=5000, extra={"attempt": 2, "trace": "00-a-b-01", "cloudevent": event})
    seen = json.loads(answer.body)
    assert 4.0 < seen.pop("remaining") <= 5.0
    assert seen == {
        "call_id": "c-2", "function": "hello", "app": "shop", "version": 3, "attempt": 2, "trace": "00-a-b-01",
        "cloudevent": event, "instance": "i-test", "cwd": str(node.code), "private": [],
    }  # fmt: skip


def test_body_in_chunks_with_credits(node: Node) -> None:
    node.init("event")
    stream = node.open(b"", last=False, headers=[(b"Content-Type", b"text/plain")])
    for _ in range(8):
        node.data.send(m.chunk(stream, b"x" * limits.CHUNK_MAX))
        assert node.data.read() == [m.CREDIT, stream, limits.CHUNK_MAX]
    node.data.send(m.end(stream, {}))
    answer = node.finish(stream)
    assert json.loads(answer.body) == {"str": "x" * 8 * limits.CHUNK_MAX}


def test_body_that_breaks_off(node: Node) -> None:
    node.init("event")
    stream = node.open(b"", last=False)
    node.data.send(m.chunk(stream, b"x"))
    node.data.send(m.cancel(stream, "the caller is gone"))
    assert node.finish(stream).error["kind"] == "cancelled"
    node.data.send(m.chunk(stream, b"late"))
    assert node.call(b"1").body == b'{"int":1}'


@pytest.mark.parametrize("handler", ["stream", "stream_async"])
def test_streams_wait_for_credit(node: Node, handler: str) -> None:
    node.init(handler)
    stream = node.open(json.dumps({"count": 20, "size": limits.CHUNK_MAX}).encode())
    assert node.data.read()[:3] == [m.HEAD, stream, 200]
    chunks = [node.data.read() for _ in range(limits.WINDOW // limits.CHUNK_MAX)]
    assert all(c[0] == m.CHUNK for c in chunks)
    node.data.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        node.data.read()
    node.data.sock.settimeout(10)
    node.data.send(m.credit(stream, limits.WINDOW))
    assert sum(map(len, node.finish(stream).chunks)) == 16 * limits.CHUNK_MAX


def test_streams(node: Node) -> None:
    node.init("stream")
    answer = node.call()
    assert answer.headers == {"content-type": "text/plain; charset=utf-8"}
    assert answer.chunks == [b"piece 0\n", b"piece 1\n", b"piece 2\n"]
    assert node.call(b'{"count": 0}').body == b""
    failed = node.call(b'{"fail": true}')
    assert (failed.status, len(failed.chunks), failed.error["kind"]) == (200, 3, "raised")
    early = node.call(b'{"count": 0, "fail": true}')
    assert (early.status, early.error["message"]) == (0, "in the middle")


def test_async_stream_is_lines_of_json(node: Node) -> None:
    node.init("stream_async")
    answer = node.call(b'{"count": 2}')
    assert answer.headers == {"content-type": "application/x-ndjson"}
    assert answer.body == b'{"n":0}\n{"n":1}\n'
    assert answer.texts() == ["closed"]


def test_async_calls_overlap_and_keep_their_logs(node: Node) -> None:
    node.init("hello_async")
    assert (node.ready["mode"], node.ready["concurrency"]) == ("async", 16)
    slow, fast = node.open(b'{"sleep": 0.2}'), node.open(b"{}")
    others: list[m.Message] = []
    answer = node.finish(fast, others.append)
    assert not others, "the fast one need not wait"
    assert [log[1] for log in answer.logs] == [f"c-{fast}"]
    assert json.loads(node.finish(slow).body)["call"] == f"c-{slow}"


def test_threads(node: Node) -> None:
    node.init("threaded", concurrency=3)
    assert (node.ready["mode"], node.ready["concurrency"]) == ("threads", 3)
    streams = [node.open(json.dumps({"n": n}).encode()) for n in range(3)]
    ends: dict[int, m.Message] = {}
    logs: dict[str, str] = {}
    while len(ends) < 3:
        message = node.data.read()
        if message[0] == m.LOG:
            logs[message[1]] = message[4]
        else:
            ends[message[1]] = message
    for n, stream in enumerate(streams):
        assert json.loads(ends[stream][4]) == [n, f"c-{stream}"]
        assert logs[f"c-{stream}"] == f"in {n}"
    node.data.send(m.drain(1000))
    assert node.data.read() == [m.DRAINED]
    assert node.exited()[0]["code"] == 0


def test_frames_out_of_place_end_the_connection(node: Node) -> None:
    for frame in ([m.READY, {}], [99], [m.INVOKE, 2], [m.INIT, {}]):
        node.put("hello")
        node.init("hello")
        node.data.send(frame)
        cause, logs = node.exited()
        assert cause["code"] == 71, frame
        assert any("frame of type" in log[4] for log in logs)
