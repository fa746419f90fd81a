"""A caller from outside, behind a balancer that does what balancers do: asks `/readyz`, and retries failed connects."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp

LOOK_S = 0.2
CALL_S = 20.0


class Outcome(NamedTuple):
    """One call: where it went, from when to when (monotonic seconds), and what came."""

    url: str
    began: float
    ended: float
    status: int
    """0: no answer came."""
    body: str


class Balancer:
    """Constant load from `callers` callers while the context lasts; every call's outcome is kept.

    A call goes once to one node that was ready lately. It goes to another only when its connection was refused.
    """

    def __init__(self, urls: Sequence[str], path: str, *, callers: int = 4, pause_s: float = 0.02) -> None:
        self.outcomes: list[Outcome] = []
        self.ready = set(urls)
        self._urls = list(urls)
        self._path = path
        self._callers = callers
        self._pause_s = pause_s
        self._turn = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_S))
        work = [self._look(url) for url in self._urls] + [self._call() for _ in range(self._callers)]
        self._tasks = [asyncio.create_task(one) for one in work]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()
        broken = [one for one in ended if isinstance(one, Exception)]
        assert not broken, broken

    async def once(self, path: str) -> Outcome:
        """One call through the balancer."""
        while True:
            nodes = sorted(self.ready)
            assert nodes, "no node is ready"
            url = nodes[next(self._turn) % len(nodes)]
            began = time.monotonic()
            try:
                async with self._http.post(url + path, json={}) as reply:
                    status, body = reply.status, await reply.text()
            except aiohttp.ClientConnectorError:
                self.ready.discard(url)
                continue
            except (aiohttp.ClientError, TimeoutError) as error:
                status, body = 0, repr(error)
            return Outcome(url, began, time.monotonic(), status, body)

    async def _call(self) -> None:
        while True:
            self.outcomes.append(await self.once(self._path))
            await asyncio.sleep(self._pause_s)

    async def _look(self, url: str) -> None:
        while True:
            try:
                async with self._http.get(url + "/readyz") as reply:
                    fine = reply.status == 200
            except (aiohttp.ClientError, TimeoutError):
                fine = False
            (self.ready.add if fine else self.ready.discard)(url)
            await asyncio.sleep(LOOK_S)
