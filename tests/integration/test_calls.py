"""Calls over HTTP: what reaches the handler, what comes back, and how errors look to a caller."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tests.integration.conftest import HANDLERS, HERE, put
from tests.integration.node import Reply, RunningNode
from tests.support import free_port, require

KIB, MIB = 1024, 1024 * 1024
FORM = "application/x-www-form-urlencoded"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def raw(node: RunningNode, head: str, body: bytes = b"", *, until: bytes = b"") -> bytes:
    """Send a request as it is written; read to the end of the connection, or through `until`. At most 10 seconds."""
    address = URL(node.url)
    assert address.host is not None
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        text = head.strip().replace("\n", "\r\n") + "\r\nHost: test\r\nConnection: close\r\n\r\n"
        writer.write(text.encode("latin-1") + body)
        return await asyncio.wait_for(reader.readuntil(until) if until else reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "PURGE"])
async def test_every_method_reaches_the_handler(corpus: RunningNode, method: str) -> None:
    reply = await corpus.call("echo.e2e", method)
    assert (reply.status, reply.json()["method"]) == (200, method)


async def test_head_has_the_headers_of_get_and_no_body(corpus: RunningNode) -> None:
    answer = await raw(corpus, "HEAD /function/echo.e2e HTTP/1.1")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-type: application/json" in head.lower()
    assert body == b""


async def test_head_of_a_stream_ends(corpus: RunningNode) -> None:
    answer = await raw(corpus, "HEAD /function/returns.e2e?what=big HTTP/1.1")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")


async def test_paths_queries_and_headers_arrive_as_they_were_sent(corpus: RunningNode) -> None:
    head = (
        "GET /function/echo.e2e/a%2Fb/c%20d/%C3%A9//x;y=1/?q=1&q=two%26&empty=&plus=a+b HTTP/1.1\n"
        "X-Many: one\nX-Many: two\nCookie: a=1; b=2\nX-Latin: caf\xe9\nKeep-Alive: 5\nTE: trailers"
    )
    answer = await raw(corpus, head)
    seen = Reply(200, {}, answer.partition(b"\r\n\r\n")[2]).json()
    assert seen["path"] == "/a%2Fb/c%20d/%C3%A9//x;y=1/"
    assert seen["query_string"] == "q=1&q=two%26&empty=&plus=a+b"
    assert seen["query"] == {"q": ["1", "two&"], "empty": "", "plus": "a b"}
    headers = [tuple(pair) for pair in seen["headers"]]
    assert [value for name, value in headers if name == "x-many"] == ["one", "two"]
    assert ("cookie", "a=1; b=2") in headers
    assert ("x-latin", "café") in headers
    assert not {name for name, _ in headers} & {"keep-alive", "te", "connection"}, "hop-by-hop headers end here"


@pytest.mark.parametrize(("path", "seen"), [("", "/"), ("/", "/"), ("/a", "/a")])
async def test_a_call_without_a_path_has_the_root(corpus: RunningNode, path: str, seen: str) -> None:
    assert (await corpus.call("echo.e2e", "GET", path)).json()["path"] == seen


@pytest.mark.parametrize(
    ("label", "body", "event"),
    [
        ("application/json", b'{"a": [1, null, "\xc3\xa9"]}', {"dict": {"a": [1, None, "é"]}}),
        ("application/vnd.api+json; charset=utf-8", b"[1]", {"list": [1]}),
        ("application/json", b"3.5", {"float": 3.5}),
        (FORM, b"a=1&b=x+y&a=2", {"dict": {"a": ["1", "2"], "b": "x y"}}),
        (FORM, b'{"name": "Ada"}', {"dict": {"name": "Ada"}}),
        (FORM, b"[1, 2]", {"list": [1, 2]}),
        (FORM, b"{broken", {"dict": {"{broken": ""}}),
        ("text/plain", "grüß".encode(), {"str": "grüß"}),
        ("text/csv; charset=latin-1", b"caf\xe9", {"str": "café"}),
        ("application/octet-stream", b"\x00\xff", {"bytes": "\x00ÿ"}),
        ("", b"\x00\xff", {"bytes": "\x00ÿ"}),
        ("application/json", b"", {"dict": {}}),
    ],
)
async def test_a_body_is_decoded_by_its_label(corpus: RunningNode, label: str, body: bytes, event: Any) -> None:
    head = f"POST /function/event.e2e HTTP/1.1\nContent-Length: {len(body)}"
    answer = await raw(corpus, f"{head}\nContent-Type: {label}" if label else head, body)
    head_of_reply, _, content = answer.partition(b"\r\n\r\n")
    assert head_of_reply.startswith(b"HTTP/1.1 200")
    assert Reply(200, {}, content).json() == event


async def test_a_multipart_form_has_fields_and_files(corpus: RunningNode) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="n.txt"\r\n\r\nhi\r\n--x--\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = await corpus.call("event.e2e", data=body, headers=headers)
    assert reply.json() == {"dict": {"a": "1", "f": {"file": "n.txt", "data": "hi"}}}


async def test_without_a_body_the_event_is_the_query(corpus: RunningNode) -> None:
    assert (await corpus.call("event.e2e", "GET", params={"x": "1"})).json() == {"dict": {"x": "1"}}


@pytest.mark.parametrize("size", [0, 1, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, MIB, 16 * MIB])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_bodies_of_every_size_arrive_whole(corpus: RunningNode, size: int, chunked: bool) -> None:
    body = (bytes(range(251)) * (size // 251 + 1))[:size]

    async def pieces() -> Any:
        for at in range(0, size, MIB):
            yield body[at : at + MIB]

    reply = await corpus.call("echo.e2e", data=pieces() if chunked else io.BytesIO(body))
    assert reply.status == 200, reply.body
    assert (reply.json()["size"], reply.json()["sha256"]) == (size, hashlib.sha256(body).hexdigest())


async def test_a_body_over_the_limit_is_refused(corpus: RunningNode) -> None:
    async def pieces() -> Any:
        for _ in range(17):
            yield bytes(MIB)

    head = f"POST /function/echo.e2e HTTP/1.1\nContent-Length: {16 * MIB + 1}"
    announced = await raw(corpus, head, until=b"}")
    refusal, _, content = announced.partition(b"\r\n\r\n")
    assert refusal.startswith(b"HTTP/1.1 413"), "refused before it was sent"
    told = Reply(413, {}, content).json()
    assert (told["code"], told["fault"]) == ("too_large", "caller")
    assert "16MiB" in told["detail"]
    assert "body" in told["hint"]
    sent = await corpus.call("echo.e2e", data=pieces())
    assert (sent.status, sent.json()["code"]) == (413, "too_large")


async def test_broken_json_is_the_callers_fault(corpus: RunningNode) -> None:
    reply = await corpus.call("event.e2e", data=b"{'a': 1}", headers={"Content-Type": "application/json"})
    problem = assert_problem(reply, 400, "bad_request", "caller")
    assert "not JSON" in problem["detail"]
    assert "double quotes" in problem["hint"]


@pytest.mark.parametrize("name", ["nothing-like-it", "echoo.e2e", "echo.e2e@99", "echo.e2e@nope", "echo.nope", "UPPER"])
async def test_an_unknown_function_is_404(corpus: RunningNode, name: str) -> None:
    problem = assert_problem(await corpus.call(name), 404, "not_found", "caller")
    assert problem["hint"], "says what to do next"
    if name == "echoo.e2e":
        assert "echo.e2e" in problem["hint"]


@pytest.mark.parametrize(
    ("what", "status", "kind", "body"),
    [
        ("dict", 200, "application/json", '{"ä":[1,2.5,null,true]}'.encode()),
        ("list", 200, "application/json", b"[1]"),
        ("int", 200, "application/json", b"42"),
        ("pair", 200, "application/json", b"[1,2]"),
        ("str", 200, "text/plain; charset=utf-8", "grüß".encode()),
        ("bytes", 200, "application/octet-stream", b"\x00\xff"),
        ("big", 200, "application/octet-stream", b"x" * 1_000_000),
        ("none", 204, None, b""),
        ("status", 404, None, b""),
        ("tuple", 201, "text/plain; charset=utf-8", b"made"),
        ("response", 202, "text/html", b"<p>"),
    ],
)
async def test_return_values_become_replies(
    corpus: RunningNode, what: str, status: int, kind: str | None, body: bytes
) -> None:
    async with corpus.http.post("/function/returns.e2e", json={"what": what}) as answer:
        assert (answer.status, await answer.read()) == (status, body)
        if kind is not None:
            assert answer.headers["Content-Type"] == kind
        assert "Proxy-Status" not in answer.headers, "this is the function's own answer"
        if what == "tuple":
            assert answer.headers["X-Id"] == "7"
        if what == "response":
            assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("what", ["nan", "cycle", "date", "key", "bad_header", "many_headers", "object"])
async def test_what_cannot_be_sent_is_the_functions_fault(corpus: RunningNode, what: str) -> None:
    problem = assert_problem(
        await corpus.call("returns.e2e", json={"what": what}), 500, "bad_reply", "function", "http_protocol_error"
    )
    assert problem["detail"]


async def test_the_headers_of_a_reply(corpus: RunningNode) -> None:
    sent = {"X-Request-Id": "mine-7", "traceparent": TRACE, "X-Call-Id": "forged"}
    reply = await corpus.call("about.e2e", json={}, headers=sent)
    seen = reply.json()
    assert reply.headers["X-Call-Id"] == seen["call_id"] != "forged"
    assert reply.headers["X-Request-Id"] == "mine-7"
    assert reply.headers["X-Faas-Version"] == str(seen["version"]) == "1"
    assert reply.headers["X-Faas-Start"] == "warm"
    assert float(reply.headers["X-Duration-Seconds"]) >= 0
    times = r"queue;dur=[\d.]+, start;dur=[\d.]+, run;dur=[\d.]+"
    assert re.fullmatch(times, reply.headers["Server-Timing"])
    assert seen["trace"] == TRACE, "goes on to the function"


async def test_what_the_context_knows(corpus: RunningNode) -> None:
    seen = (await corpus.call("about.e2e", json={})).json()
    assert (seen["app"], seen["function"], seen["version"], seen["attempt"]) == ("e2e", "about", 1, 1)
    assert 25 < seen["remaining"] <= 30
    assert abs(seen["left"] - seen["remaining"]) < 0.5


async def test_a_raised_exception_is_500_with_its_story(corpus: RunningNode) -> None:
    reply = await corpus.call("raises.e2e", json={"what": "plain"}, headers={"X-Request-Id": "r1"})
    problem = assert_problem(reply, 500, "handler_raised", "function")
    assert problem["detail"] == "KeyError: 'missing'"
    assert problem["traceback"].startswith("Traceback")
    assert 'return values["missing"]' in problem["traceback"]
    assert "faas_runtime" not in problem["traceback"], "the handler's own frames only"
    assert reply.headers["X-Request-Id"] == "r1"


@pytest.mark.parametrize(
    ("how", "said", "exit"),
    [
        ("segfault", "SIGSEGV", {"code": None, "signal": 11, "oom": False}),
        ("exit", "code 7", {"code": 7, "signal": None, "oom": False}),
        ("kill", "SIGKILL", {"code": None, "signal": 9, "oom": False}),
    ],
)
async def test_a_died_instance_is_502_with_the_cause(
    corpus: RunningNode, how: str, said: str, exit: dict[str, Any]
) -> None:
    reply = await corpus.call("crash.e2e", json={"how": how})
    problem = assert_problem(reply, 502, "instance_died", "function", "connection_terminated")
    assert said in problem["detail"]
    assert problem["exit"] == exit
    assert (await corpus.call("crash.e2e", json={"how": "nothing"})).json() == {"survived": "nothing"}


async def test_out_of_memory_is_502_and_said_to_be_so(corpus: RunningNode) -> None:
    await put(corpus, HANDLERS / "memory.py", app="e2e", memory="48M")
    reply = await corpus.call("memory.e2e", json={})
    problem = assert_problem(reply, 502, "instance_died", "function", "connection_terminated")
    assert "out of memory" in problem["detail"]
    assert "memory" in problem["hint"]
    assert problem["exit"]["oom"] is True


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        ("GET /function/echo.e2e HTTP/1.1\nX-Big: " + "x" * 20_000, 431, "head_too_large"),
        ("GET /function/echo.e2e?" + "x" * 20_000 + " HTTP/1.1", 431, "head_too_large"),
        ("BREW /function/echo.e2e HTTP/1.1", 400, "bad_request"),
        ("this is not a request", 400, "bad_request"),
        ("POST /function/echo.e2e HTTP/1.1\nContent-Length: -5", 400, "bad_request"),
    ],
)
async def test_what_is_not_a_request_gets_a_problem_document_too(
    corpus: RunningNode, head: str, status: int, code: str
) -> None:
    answer, _, content = (await raw(corpus, head)).partition(b"\r\n\r\n")
    assert int(answer.split(b" ")[1]) == status
    assert b"application/problem+json" in answer
    problem = Reply(status, {}, content).json()
    assert (problem["code"], problem["fault"]) == (code, "caller")
    assert "Traceback" not in corpus.log(), "a stranger cannot fill the node's log"


async def test_strangers_learn_code_fault_and_call_only(tmp_path: Path) -> None:
    """On a listener for the outside a caller without a token is nobody, even to a public function."""
    require("bwrap")
    admin, port = f"127.0.0.1:{free_port()}", free_port()
    node = RunningNode(tmp_path / "d", "--driver", "process", "--listen", f"0.0.0.0:{port}", "--admin-listen", admin)
    node.url, door = f"http://{admin}", f"http://127.0.0.1:{port}"
    async with node as running:
        await put(running, HANDLERS / "raises.py", public=True)
        await put(running, HERE / "echo.py")
        body = {"what": "plain"}
        async with running.http.post(f"{door}/function/raises", json=body) as answer:
            told = await answer.json(content_type=None)
            assert (answer.status, set(told)) == (500, {"status", "code", "fault", "call_id"})
        token = {"Authorization": f"Bearer {running.token}"}
        async with running.http.post(f"{door}/function/raises", json=body, headers=token) as answer:
            assert (await answer.json(content_type=None))["traceback"].startswith("Traceback")
        async with running.http.post(f"{door}/function/echo") as answer:
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="faas"')
        async with running.http.post(f"{door}/function/echo", headers=token) as answer:
            seen = dict((await answer.json())["headers"])
            assert (answer.status, "authorization" in seen) == (200, False), "our credential ends here"


async def test_unknown_functions_and_ours_are_told_apart_from_the_functions_own_errors(corpus: RunningNode) -> None:
    own = await corpus.call("returns.e2e", json={"what": "status"})
    ours = await corpus.call("not-there.e2e")
    assert own.status == ours.status == 404
    assert "Proxy-Status" not in own.headers
    assert ours.headers["Proxy-Status"].startswith("faas; error=destination_not_found")


def assert_problem(reply: Reply, status: int, code: str, fault: str, proxy_error: str | None = None) -> dict[str, Any]:
    """The problem document of an error that the platform answered with."""
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/problem+json"), reply.body
    problem: dict[str, Any] = reply.json()
    assert (problem["status"], problem["code"], problem["fault"]) == (status, code, fault)
    assert problem["call_id"] == reply.headers["X-Call-Id"]
    assert reply.headers["Proxy-Status"].startswith(f"faas; error={proxy_error or ''}")
    return problem
