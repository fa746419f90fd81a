"""A scripted node: answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

from aiohttp import web

TOKEN = "test-token-0123456789"
START_S = 10.0
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class FakeNode:
    """A context manager with a server in a thread of its own: the commands under test run their own event loop."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[tuple[str, str], Answer] = {}
        self.bundles: bool | None = None
        """Whether it knows every bundle; None: it has no such endpoint."""
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), name="fake-node")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START_S), "the fake node did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_S)
        assert not self._thread.is_alive(), "the fake node did not stop"
        self._loop.close()

    def json(self, method: str, path: str, document: Any, status: int = 200) -> None:
        """Answer with a JSON document."""

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(document, status=status)

        self.answers[method, path] = answer

    def problem(
        self, method: str, path: str, status: int, headers: dict[str, str] | None = None, **document: Any
    ) -> None:
        """Answer with a problem document."""

        async def answer(_: web.Request) -> web.StreamResponse:
            body = json.dumps({"status": status, **document}).encode()
            return web.Response(body=body, status=status, content_type="application/problem+json", headers=headers)

        self.answers[method, path] = answer

    def lines(self, method: str, path: str, *documents: Any) -> None:
        """Answer with one JSON document a line, and a keep-alive line before the first."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            await response.write(b"\n")
            for document in documents:
                await response.write(json.dumps(document).encode() + b"\n")
            await response.write_eof()
            return response

        self.answers[method, path] = answer

    def raw(self, method: str, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer with bytes; `Content_Type` becomes the header Content-Type."""

        async def answer(_: web.Request) -> web.StreamResponse:
            shown = {key.replace("_", "-"): value for key, value in headers.items()}
            return web.Response(body=body, status=status, headers=shown)

        self.answers[method, path] = answer

    def only(self, method: str) -> Asked:
        """The one request with this method."""
        found = [asked for asked in self.asked if asked.method == method]
        assert len(found) == 1, [f"{asked.method} {asked.path}" for asked in self.asked]
        return found[0]

    async def _serve(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{rest:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path = request.raw_path.partition("?")[0]
        self.asked.append(Asked(request.method, path, dict(request.query), dict(request.headers), body))
        if self.bundles is not None and path.startswith("/v1/bundles/"):
            return web.Response(status=200 if self.bundles or request.method == "PUT" else 404)
        answer = self.answers.get((request.method, path))
        if answer is None:
            return web.Response(status=404, text=f"the test has no answer for {request.method} {path}")
        return await answer(request)


async def never(_: web.Request) -> web.StreamResponse:
    """An answer that does not come."""
    await asyncio.Event().wait()
    raise AssertionError
