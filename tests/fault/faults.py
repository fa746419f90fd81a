"""What fault tests share: calls that go on all the while, what `/readyz` says, and servers of a test's own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import redis

from tests.integration.node import Reply, RunningNode
from tests.support import dies_with_us, require, wait_until_sync


class Answer(NamedTuple):
    """One of many calls: when it began (monotonic), what it took, how it ended."""

    at: float
    seconds: float
    reply: Reply


class Callers:
    """Calls of one function, one after the other from each of several callers, while the body of `calling` runs."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.going = True

    @property
    def statuses(self) -> set[int]:
        """Every status seen."""
        return {answer.reply.status for answer in self.answers}

    def slowest(self, since: float = 0.0) -> float:
        """Seconds of the slowest call that began after `since`."""
        return max((one.seconds for one in self.answers if one.at >= since), default=0.0)


@asynccontextmanager
async def calling(node: RunningNode, name: str, event: Any = None, *, callers: int = 1) -> AsyncIterator[Callers]:
    """Call `name` all the while, about every 10 ms from each caller, so that a shared machine is not filled."""
    seen = Callers()

    async def caller() -> None:
        while seen.going:
            began = time.monotonic()
            reply = await node.call(name, json=event or {})
            seen.answers.append(Answer(began, time.monotonic() - began, reply))
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(caller()) for _ in range(callers)]
    try:
        yield seen
    finally:
        seen.going = False
        await asyncio.gather(*tasks)


async def problems(node: RunningNode) -> dict[str, str]:
    """What `/readyz` finds; its status fits."""
    async with node.http.get("/readyz") as answer:
        body = await answer.json()
        assert answer.status == (503 if body["problems"] else 200), body
        found: dict[str, str] = body["problems"]
        return found


async def is_ready(node: RunningNode) -> bool:
    """`/readyz` finds nothing."""
    return not await problems(node)


async def serves(node: RunningNode, name: str) -> bool:
    """A call is answered with 200."""
    return (await node.call(name, json={})).status == 200


async def is_at_zero(node: RunningNode, name: str) -> bool:
    """No instance of the function is there or starting."""
    pools = (await node.api("GET", f"/v1/functions/{name}"))["pools"]
    return not any(pool["states"] for pool in pools)


def handler(folder: Path, name: str, text: str = "def handler(event): return 'fine'\n") -> Path:
    """A handler's file."""
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


class OwnRedis:
    """A redis-server that a test may freeze, kill and start again. A context manager."""

    def __init__(self) -> None:
        require("redis")
        # Not tmp_path: a socket's path ends at 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="faas-redis-"))
        self.url = f"unix://{self.folder}/redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self, *, empty: bool = False) -> None:
        """Start and wait until it answers; `empty` forgets what it had."""
        data = self.folder / "data"
        if empty:
            shutil.rmtree(data)
        data.mkdir(exist_ok=True)
        argv = ["redis-server", "--port", "0", "--unixsocket", str(self.folder / "redis.sock"), "--dir", str(data)]
        argv += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(dies_with_us(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until_sync(self._answers, 10, "redis-server answers")

    def freeze(self) -> None:
        """SIGSTOP: connections stand and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL. Ended already is fine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def registry(self) -> set[str]:
        """Fields of the registry: `f:APP/NAME` and so on."""
        with redis.Redis(unix_socket_path=str(self.folder / "redis.sock")) as client:
            return {field.decode() for field in client.hkeys("faas:{r}:registry")}

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            with redis.Redis(unix_socket_path=str(self.folder / "redis.sock")) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
