"""Background calls while things are killed: a seeded plan, a recorder of every run, and an account at the end.

callers --202--> node --> Redis          the killer picks, by seed: the node, an instance, the Redis server
                  |                      after each kill it is started again and the callers go on
                  +--> handler --> Recorder: one line a run
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from faas.errors import FaasError
from faas.store.connection import connect
from faas.store.queue.reads import Reads
from tests.integration.node import RunningNode
from tests.support import dies_with_us, wait_until

FUNCTION = "recorded"
KEY = f"default/{FUNCTION}"
Kind = Literal["node", "instance", "redis"]
CALLERS = 4


class Plan(NamedTuple):
    """What is to happen. `sleep_s`: how long a run takes."""

    seed: int
    calls: int
    kills: dict[Kind, int]
    sleep_s: float = 0.01
    keyed_every: int = 5
    """Each so-manieth call has an idempotency key and is repeated with it."""


@dataclass
class Account:
    """What came of it, by id."""

    accepted: list[str] = field(default_factory=list)
    keyed: dict[str, str] = field(default_factory=dict)
    """Key -> the id its sender was told."""
    runs: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    without_reason: list[str] = field(default_factory=list)
    in_flight: int = 0
    """Attempts that the queue counted as running at the kills, all together."""
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def extra_runs(self) -> int:
        """Runs beyond one per accepted id."""
        return sum(self.runs[id] - 1 for id in self.accepted if self.runs[id] > 1)

    def show(self) -> str:
        """One line."""
        return (
            f"{len(self.accepted)} accepted in {self.seconds:.1f} s, ended {dict(self.states)}; kills"
            f" {dict(self.kills)}; {self.extra_runs} extra runs, {self.in_flight} in flight at the kills"
        )

    def check(self) -> None:
        """Raises AssertionError naming what was promised and not kept."""
        assert sum(self.states.values()) == len(self.accepted), f"some calls are lost: {self.show()}"
        assert set(self.states) <= {"succeeded", "dead"}, self.show()
        assert not self.without_reason, f"dead without a reason: {self.without_reason[:5]}"
        never = [id for id in self.accepted if not self.runs[id]]
        assert len(never) <= self.states["dead"], f"succeeded without a run: {never[:5]}"
        assert self.extra_runs <= self.in_flight, self.show()


class OwnRedis:
    """A redis-server that can be killed and started again on the same data. fsync at every write."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._socket = folder / "s"
        self._server: asyncio.subprocess.Process | None = None
        self.url = f"unix://{self._socket}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill9()

    async def start(self) -> None:
        """Until it answers and has read its file."""
        argv = ["redis-server", "--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder)]
        argv += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        with (self._folder / "log").open("ab") as log:
            self._server = await asyncio.create_subprocess_exec(
                *dies_with_us(argv), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        await wait_until(self._answers, 20, "redis-server answers")

    async def kill9(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._server is not None and self._server.returncode is None:
            self._server.kill()
            await self._server.wait()

    async def running(self) -> int:
        """Jobs that the queue counts as running."""
        async with self._client() as client:
            return (await Reads(client).depth([KEY]))[KEY].running

    async def rewrite(self) -> None:
        """Begin to rewrite the append-only file."""
        async with self._client() as client:
            await client.bgrewriteaof()

    async def _answers(self) -> bool:
        try:
            async with self._client() as client:
                return bool(await client.ping())
        except (FaasError, RedisError):
            return False

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Redis]:
        client = await connect(self.url)
        try:
            yield client
        finally:
            await client.aclose()


class Recorder:
    """Counts runs: each opens a connection, says its id, and closes it at its end."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.open = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._run, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = (await reader.readline()).decode().split()
            if len(line) != 2:
                return
            self.runs[line[0]] += 1
            self.open += 1
            try:
                writer.write(b".")
                await reader.read()
            finally:
                self.open -= 1
        except OSError:
            pass  # its instance was killed
        finally:
            writer.close()


class Chaos:
    """One run of a plan against a node with the process driver and a Redis of its own."""

    def __init__(self, plan: Plan, node: RunningNode, redis: OwnRedis, recorder: Recorder) -> None:
        self._plan = plan
        self._node = node
        self._redis = redis
        self._recorder = recorder
        self._random = random.Random(plan.seed)
        self._next = 0
        self._killing = True
        self.account = Account(runs=recorder.runs)

    async def run(self, ends_within_s: float) -> Account:
        """Carry the plan out and wait for every end. Raises AssertionError for what has not ended in time."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._caller())
            group.create_task(self._killer())
        await self._await_ends(ends_within_s)
        await self._repeat_keys()
        self.account.seconds = time.monotonic() - began
        return self.account

    # -- callers -------------------------------------------------------------------------------------------

    async def _caller(self) -> None:
        """Calls spread over the time of the kills: the last tenth is sent when they are over."""
        plan = self._plan
        while self._next < plan.calls:
            if self._killing and self._next > plan.calls * 0.9:
                await asyncio.sleep(0.05)
                continue
            n = self._next
            self._next += 1
            await self._call(n)
            total = sum(plan.kills.values())
            ahead = self._next / plan.calls - sum(self.account.kills.values()) / max(1, total)
            if self._killing and ahead > 0.1:
                await asyncio.sleep(0.02)

    async def _call(self, n: int) -> None:
        """One call, until it is answered; only what got 202 counts. Without a key a lost answer is a new call."""
        headers = {"Idempotency-Key": f"key-{n}"} if n % self._plan.keyed_every == 0 else {}
        event = {"n": n, "port": self._recorder.port, "sleep": self._plan.sleep_s}
        while True:
            try:
                async with self._node.http.post(
                    f"/async-function/{FUNCTION}", json=event, headers=headers, timeout=aiohttp.ClientTimeout(30)
                ) as answer:
                    document = json.loads(await answer.read())
                    if answer.status == 202:
                        break
            except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
                pass
            await asyncio.sleep(0.05)
        self.account.accepted.append(document["id"])
        if headers:
            self.account.keyed[headers["Idempotency-Key"]] = document["id"]

    async def _repeat_keys(self) -> None:
        for key, id in self.account.keyed.items():
            event = {"n": int(key[4:]), "port": self._recorder.port, "sleep": self._plan.sleep_s}
            async with self._node.http.post(
                f"/async-function/{FUNCTION}", json=event, headers={"Idempotency-Key": key}
            ) as answer:
                assert (await answer.json())["id"] == id, f"{key} has two ids"

    # -- killer --------------------------------------------------------------------------------------------

    async def _killer(self) -> None:
        kinds: list[Kind] = [kind for kind, count in self._plan.kills.items() for _ in range(count)]
        self._random.shuffle(kinds)
        try:
            for at, kind in enumerate(kinds):
                goal = self._plan.calls * 0.85 * (at + 0.5) / len(kinds)
                await wait_until(partial(self._has_accepted, goal), 60, "calls are accepted")
                await asyncio.sleep(self._random.uniform(0, 0.1))
                await {"node": self._kill_node, "instance": self._kill_instance, "redis": self._kill_redis}[kind]()
                self.account.kills[kind] += 1
        finally:
            self._killing = False

    def _has_accepted(self, goal: float) -> bool:
        return len(self.account.accepted) >= goal

    async def _kill_node(self) -> None:
        await self._node.kill9()
        self.account.in_flight += await self._redis.running()
        await self._node.start()

    async def _kill_instance(self) -> None:
        """The process that runs user code, or the supervisor above it: whatever the seed picks."""
        found = await wait_until(lambda: _descendants(self._node.pid), 10, "an instance runs")
        os.kill(self._random.choice(found), signal.SIGKILL)
        self.account.in_flight += 1

    async def _kill_redis(self) -> None:
        if self._random.random() < 0.5:
            await self._redis.rewrite()
        self.account.in_flight += await self._redis.running()
        await self._redis.kill9()
        await asyncio.sleep(self._random.uniform(0, 0.3))
        await self._redis.start()

    # -- the end -------------------------------------------------------------------------------------------

    async def _await_ends(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        for id in self.account.accepted:
            left = max(0.0, min(deadline - time.monotonic(), 60.0))
            detail: dict[str, Any] = await self._node.api("GET", f"/v1/invocations/{id}", params={"wait": str(left)})
            one = detail["invocation"]
            assert one["ended_at"], f"{id} has not ended: {one}; {self.account.show()}"
            self.account.states[one["state"]] += 1
            if one["state"] == "dead" and not one["cause"]:
                self.account.without_reason.append(id)


def _descendants(pid: int) -> list[int]:
    """Python processes below `pid`: supervisors of instances and what they forked."""
    parents: dict[int, list[int]] = {}
    python: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        name, rest = fields[fields.index("(") + 1 : fields.rindex(")")], fields[fields.rindex(")") + 2 :].split()
        parents.setdefault(int(rest[1]), []).append(int(entry.name))
        if name.startswith("python") and rest[0] != "Z":
            python.add(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += [one for one in below if one in python]
        todo += below
    return sorted(found)
