"""What a handler's file may use on the client's side, and calls from plain Python."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import faas
from faas.errors import Unavailable
from faas.model import Push
from faas.sdk.client import Client
from tests.cli.fakenode import FakeNode

ROOT = Path(__file__).resolve().parents[2]


def test_client_and_instance_offer_the_same_names() -> None:
    tree = ast.parse((ROOT / "runtimes/python/lib/faas/__init__.py").read_text())
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert set(names) <= set(faas.__all__)
    for name in names:
        assert getattr(faas, name) is not None
        assert name in dir(faas)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        faas.nothing_like_it  # noqa: B018


def test_a_handlers_file_is_plain_python() -> None:
    app = faas.App("shop", memory="1G")

    @app.function(timeout=5)
    def resize(request: faas.Request, context: faas.Context) -> faas.Response:
        return faas.Response({"id": request.json()["id"], "call": faas.current().call_id}, 201)

    @faas.function
    def plain(event: object) -> object:
        return event

    @faas.on_start
    @app.on_stop
    def hook() -> None:
        raise AssertionError("hooks do not run here")

    context = faas.Context(call_id="c-1")
    with context.active():
        response = resize(faas.Request("POST", body=b'{"id": 7}'), context)
    assert (response.status, response.body) == (201, {"id": 7, "call": "c-1"})
    assert getattr(resize, "__faas_function__") == {"memory": "1G", "timeout": 5}  # noqa: B009
    assert plain(3) == 3
    assert 0 < context.remaining() <= 30
    assert context.step("add", lambda a, b: a + b, 1, b=2) == 3
    with pytest.raises(RuntimeError, match="while a call runs"):
        faas.current()
    with pytest.raises(TypeError, match="cannot mark"):
        faas.function(len)


def test_requests() -> None:
    request = faas.Request("GET", "/a", "x=1&y=2&y=3", {"X-A": "b", "Content-Type": "Text/Plain; charset=x"})
    assert (request.query, request.headers["x-a"], request.content_type) == (
        {"x": "1", "y": ["2", "3"]},
        "b",
        "text/plain",
    )
    assert request.data() == {"x": "1", "y": ["2", "3"]}
    assert request.url == "http://localhost/a?x=1&y=2&y=3"
    assert faas.Request(body=b"hi").data() == "hi"
    assert faas.Request(body=b"hi", event=None).data() is None
    with pytest.raises(KeyError):
        request.headers["nope"]


def test_retry_and_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faas.Retry(after=5).after == 5
    with pytest.raises(ValueError, match="604800"):
        faas.Retry(after=-1)
    assert not issubclass(faas.Cancelled, Exception)
    monkeypatch.setenv("KEY", "value")
    assert faas.secret("KEY") == "value"
    monkeypatch.delenv("KEY")
    with pytest.raises(KeyError, match="environment variable KEY"):
        faas.secret("KEY")


def test_call(node: FakeNode) -> None:
    node.raw("POST", "/function/resize.shop", b'{"ok": true}', Content_Type="application/json")
    assert faas.call("resize.shop", {"id": 3}) == {"ok": True}
    assert (node.only("POST").json, node.only("POST").headers["Content-Type"]) == ({"id": 3}, "application/json")
    node.raw("POST", "/function/text", b"hi", Content_Type="text/plain; charset=utf-8")
    assert faas.call("text", "x", timeout=5) == "hi"
    node.raw("POST", "/function/bytes", b"\xff", Content_Type="application/octet-stream")
    assert faas.call("bytes", b"x") == b"\xff"
    node.raw("POST", "/function/empty", b"", 204)
    assert faas.call("empty") is None


def test_call_errors(node: FakeNode) -> None:
    node.raw("POST", "/function/no", b"why", 409)
    with pytest.raises(faas.CallError) as caught:
        faas.call("no")
    assert (caught.value.kind, caught.value.status, caught.value.body) == ("status", 409, b"why")
    node.problem(
        "POST", "/function/bad", 500, {"Proxy-Status": "faas"}, code="handler_raised", detail="x: y", type="ValueError"
    )
    with pytest.raises(faas.CallError, match="x: y") as caught:
        faas.call("bad")
    assert (caught.value.kind, caught.value.status) == ("handler_raised", 500)
    with pytest.raises(faas.CallError, match="not a function name"):
        faas.call("A B")
    with pytest.raises(ValueError, match="JSON"):
        faas.call("no", float("nan"))
    with pytest.raises(TypeError):
        faas.call("no", object())


async def test_call_in_async_code(node: FakeNode) -> None:
    node.raw("POST", "/function/a", b"1", Content_Type="application/json")
    assert await faas.call.aio("a") == 1
    with pytest.raises(RuntimeError, match=r"faas\.call\.aio"):
        faas.call("a")


async def test_client_endpoints_that_no_command_has_yet(node: FakeNode) -> None:
    node.raw("PUT", "/v1/functions/hello/aliases/canary", b"", 204)
    node.raw("DELETE", "/v1/functions/hello/aliases/canary", b"", 204)
    async with Client(node.url) as client:
        await client.set_alias("hello", "canary", {3: 90, 4: 10})
        await client.delete_alias("hello", "canary")
    assert node.only("PUT").json == {"weights": {"3": 90, "4": 10}}
    assert "Authorization" not in node.only("PUT").headers


async def test_a_line_that_never_ends(node: FakeNode) -> None:
    node.raw("POST", "/v1/apps/default/push", b"x" * (3 * 1024 * 1024))
    async with Client(node.url) as client:
        with pytest.raises(Unavailable, match="too long"):
            async for _ in client.push("default", Push(functions=[])):
                pass
