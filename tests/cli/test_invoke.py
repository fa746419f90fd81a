"""`faas invoke` against a scripted node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.cli.conftest import Faas
from tests.cli.fakenode import FakeNode, never

PATH = "/function/hello"


@pytest.mark.parametrize(
    ("data", "stdin", "kind", "sent"),
    [
        ('{"a": 1}', "", "application/json", b'{"a": 1}'),
        ("hello", "", "text/plain; charset=utf-8", b"hello"),
        ("-", '{"b": 2}', "application/json", b'{"b": 2}'),
        ("-", b"\xff\x00", "application/octet-stream", b"\xff\x00"),
        ("@data.bin", "", "text/plain; charset=utf-8", b"from a file"),
        ("", "", "text/plain; charset=utf-8", b""),
    ],
)
def test_bodies(
    faas: Faas,
    node: FakeNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: str,
    stdin: Any,
    kind: str,
    sent: bytes,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.bin").write_bytes(b"from a file")
    node.raw("POST", PATH, b'{"ok":true}', Content_Type="application/json")
    ran = faas("invoke", "hello", "-d", data, stdin=stdin)
    assert (ran.code, ran.out, ran.err) == (0, '{"ok":true}', "")
    asked = node.only("POST")
    assert (asked.headers["Content-Type"], asked.body) == (kind, sent)


def test_without_a_body_it_is_a_get(faas: Faas, node: FakeNode) -> None:
    node.raw("GET", PATH, b"hi", Content_Type="text/plain")
    assert faas("invoke", "hello").out == "hi"


def test_method_path_and_headers(faas: Faas, node: FakeNode) -> None:
    node.raw("DELETE", "/function/hello.shop@canary/users/a%20b%2Fc", b"")
    ran = faas("invoke", "hello.shop@canary", "-X", "delete", "--path", "/users/a b%2Fc?x=1&y=%20", "-H", "X-A: b: c")
    assert (ran.code, ran.out) == (0, ""), ran.err
    asked = node.only("DELETE")
    assert asked.query == {"x": "1", "y": " "}
    assert asked.headers["X-A"] == "b: c"


def test_verbose_goes_to_standard_error(faas: Faas, node: FakeNode) -> None:
    node.raw("POST", PATH, b"hi", Server_Timing="run;dur=1.2", X_Faas_Start="cold")
    ran = faas("invoke", "hello", "-d", "x", "-v")
    assert ran.out == "hi"
    for word in ("> POST", "< 200", "Server-Timing: run;dur=1.2", "X-Faas-Start: cold", "ms in all"):
        assert word in ran.err


def test_json_holds_the_whole_reply(faas: Faas, node: FakeNode) -> None:
    node.raw("POST", PATH, b'{"a":1}', Content_Type="application/json", X_Call_Id="c-1", X_Faas_Version="3")
    (document,) = faas("invoke", "hello", "-d", "1", "--json").documents
    assert (document["status"], document["body"], document["call_id"], document["version"]) == (
        200,
        {"a": 1},
        "c-1",
        "3",
    )
    node.raw("POST", PATH, b"\xff")
    (document,) = faas("invoke", "hello", "-d", "1", "--json").documents
    assert document["base64"] == "/w=="
    node.raw("POST", PATH, b"{", Content_Type="application/json")
    (document,) = faas("invoke", "hello", "-d", "1", "--json").documents
    assert document["body"] == "{"


def test_a_functions_own_error_is_its_reply(faas: Faas, node: FakeNode) -> None:
    node.raw("POST", PATH, b"not here", 404)
    ran = faas("invoke", "hello", "-d", "x")
    assert (ran.code, ran.out, ran.err) == (1, "not here", "error: hello answered 404\n")


def test_a_functions_own_problem_document_is_its_reply(faas: Faas, node: FakeNode) -> None:
    node.problem("POST", PATH, 503, code="unavailable", detail="my own")
    ran = faas("invoke", "hello", "-d", "x")
    assert (ran.code, "my own" in ran.out) == (1, True)


@pytest.mark.parametrize(
    ("status", "document", "code"),
    [
        (500, {"code": "handler_raised", "detail": "ValueError: x", "traceback": "Traceback: x"}, 1),
        (504, {"code": "deadline_exceeded", "detail": "over 30s"}, 124),
        (429, {"code": "too_many_requests", "detail": "1000 calls wait"}, 3),
        (404, {"code": "not_found", "detail": "no function hello"}, 2),
        (403, {"code": "forbidden", "detail": "private"}, 4),
    ],
)
def test_the_platforms_errors(faas: Faas, node: FakeNode, status: int, document: dict[str, str], code: int) -> None:
    node.problem("POST", PATH, status, headers={"Proxy-Status": "faas"}, call_id="c-9", **document)
    ran = faas("invoke", "hello", "-d", "x")
    assert (ran.code, ran.out) == (code, "")
    assert document["detail"] in ran.err
    assert "call: c-9" in ran.err
    assert ("Traceback: x" in ran.err) == ("traceback" in document)


def test_timeout(faas: Faas, node: FakeNode) -> None:
    node.answers["POST", PATH] = never
    ran = faas("invoke", "hello", "-d", "x", "--timeout", "100ms")
    assert (ran.code, "did not answer within 100ms" in ran.err) == (124, True)


def test_a_reply_that_breaks_off(faas: Faas, node: FakeNode) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"part")
        assert request.transport is not None
        request.transport.close()
        return response

    node.answers["POST", PATH] = answer
    ran = faas("invoke", "hello", "-d", "x")
    assert (ran.code, ran.out) == (3, "part")
    assert "broke" in ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hello", "-d", "@nope"], "nope cannot be read"),
        (["hello", "-H", "nope"], "is not a header"),
        (["hello", "-H", "A: b\nC: d"], "is not a header"),
        (["hello", "-X", "GET /"], "is not an HTTP method"),
        (["hello", "--path", "x"], "does not start with /"),
        (["hello", "--timeout", "0"], "--timeout"),
        (["Hello"], "not a function name"),
        (["hello@"], "not an alias"),
    ],
)
def test_wrong_calls(faas: Faas, node: FakeNode, arguments: list[str], words: str) -> None:
    ran = faas("invoke", *arguments)
    assert (ran.code, node.asked) == (2, [])
    assert words in ran.err
