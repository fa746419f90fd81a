"""A control room with a real Redis and real stores, around a node that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from redis.asyncio import Redis

from faas.api.schemas import RedisStatus
from faas.api.services import Probes, Services
from faas.archive import File, pack
from faas.bundles import BundleStore
from faas.control.access import Access
from faas.control.apps import Apps
from faas.control.audit import Audit
from faas.control.catalog import Catalog
from faas.control.code import Code
from faas.control.dependencies import Dependencies
from faas.control.functions import Functions
from faas.control.jobs import Jobs
from faas.control.ports import PoolView, Prepared
from faas.control.push import Pushes
from faas.control.quotas import Quotas
from faas.control.releases import Releases
from faas.control.secrets import Secrets
from faas.control.tokens import Principal, Token, Tokens, digest_of
from faas.deps.recipe import Recipe
from faas.model import Function, FunctionPush, NodeInfo, Push, PushEvent, Requires, Settings, Version
from faas.names import FunctionName
from faas.store.audit import AuditLog
from faas.store.blobs import Blobs
from faas.store.connection import connect
from faas.store.queue import Bells, Claims, Enqueuer, Queue, Reads
from faas.store.registry import Registry
from faas.store.secrets import SecretBox
from faas.store.sightings import Sightings
from faas.telemetry.logstore import LogStore

ADMIN = "admin-token-for-tests"
READER = "reader-token-for-tests"
SHOP_DEPLOYER = "shop-deployer-for-tests"
NODE = NodeInfo(
    id="n-1", name="one", url="http://node.test:8080", version="0", driver="fake", started_at=1.0,
    seen_at=2.0, memory=1, memory_used=0, instances=0,
)  # fmt: skip


class ScriptedRunner:
    """Answers READY unless told otherwise."""

    def __init__(self) -> None:
        self.fails: dict[str, Exception] = {}
        """By function name, raised by the next starts."""
        self.gates: dict[str, asyncio.Event] = {}
        """By function name: a start waits for it."""
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.at_once = self.most_at_once = 0
        self.views: dict[FunctionName, list[PoolView]] = {}
        self.draining = False

    async def prepare(self, function: Function, version: Version) -> Prepared:
        label = f"{function.id}@{version.number}"
        self.begun.append(label)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if gate := self.gates.get(function.name):
                await gate.wait()
            await asyncio.sleep(0)
            if error := self.fails.get(function.name):
                raise error
        except asyncio.CancelledError:
            self.cancelled.append(label)
            raise
        finally:
            self.at_once -= 1
        return Prepared(handler="main:handler", start_ms=5.0, import_ms=1.0)

    def pools(self, function: FunctionName) -> list[PoolView]:
        return self.views.get(function, [])

    def totals(self) -> dict[str, int]:
        return {"ready": 1}

    def node_info(self) -> NodeInfo:
        return NodeInfo(**{**{f: getattr(NODE, f) for f in NODE.__struct_fields__}, "draining": self.draining})


class ScriptedMaker:
    """Resolves a list to itself and installs one file, unless told otherwise."""

    def __init__(self) -> None:
        self.resolved: list[str] = []
        self.installed: list[str] = []
        self.fails: Exception | None = None
        """Raised by the next resolutions."""
        self.breaks: Exception | None = None
        """Raised by the next installations."""
        self.gate: asyncio.Event | None = None
        """Resolutions and installations wait for it."""

    async def lock(self, requires: Requires, runtime: str, app: str, room: Path) -> Recipe | None:
        self.resolved.append(requires.requirements)
        if self.gate:
            await self.gate.wait()
        if self.fails:
            raise self.fails
        return Recipe(lock=f"{requires.requirements}# {len(self.resolved)}", runtime=runtime, platform="any")

    async def fill(self, room: Path, recipe: Recipe) -> Path:
        self.installed.append(recipe.lock)
        if self.gate:
            await self.gate.wait()
        if self.breaks:
            raise self.breaks
        site = room / "deps"
        site.mkdir()
        (site / "lock").write_text(recipe.lock)
        return site


class World:
    """Everything a test asks for; `services` is what the API gets."""

    def __init__(self, services: Services, registry: Registry, runner: ScriptedRunner, url: str) -> None:
        self.services = services
        self.registry = registry
        self.runner = runner
        self.url = url
        self.bundles: BundleStore
        self.blobs: Blobs
        self.maker: ScriptedMaker
        self.redis = RedisStatus(url="unix://x", ok=True, durable=True)
        self.driver = ""
        self.ask_redis: Callable[[], Awaitable[RedisStatus]] = self._redis_status
        self.ask_driver: Callable[[], Awaitable[str]] = self._driver_finding

    async def _redis_status(self) -> RedisStatus:
        return self.redis

    async def _driver_finding(self) -> str:
        return self.driver

    @property
    def catalog(self) -> Catalog:
        return self.services.catalog

    async def bundle(self, text: str) -> str:
        """Store a bundle with one file; its hash."""
        archive = pack({"main.py": File(text.encode(), False)})
        await self.services.code.store(archive.digest, archive.data)
        return archive.digest

    async def push(
        self, *names: str, code: str = "1", app: str = "default", alias: str = "live", **settings: Any
    ) -> list[PushEvent]:
        """Push functions with this code; all events."""
        sha = await self.bundle(code)
        items = [FunctionPush(name=name, code=sha, settings=Settings(**settings)) for name in names]
        return [event async for event in self.services.pushes.run(app, Push(functions=items, alias=alias), "me")]

    def live(self, name: str, app: str = "default") -> int | None:
        """Number of the live version as the catalog has it."""
        function = self.catalog.get(FunctionName(app, name)).live()
        return function.number if function else None


def phases(events: Sequence[PushEvent]) -> list[str]:
    """Their phases in order."""
    return [event.phase for event in events]


@asynccontextmanager
async def make_world(url: str, folder: Path) -> AsyncIterator[World]:
    """One on its own empty Redis database."""
    redis = await connect(url)

    async def blocking() -> Any:
        return await connect(url, blocking=True)

    registry = Registry(redis, blocking)
    catalog = Catalog(registry)
    await catalog.load()
    following = asyncio.create_task(catalog.run())
    metrics = CollectorRegistry()
    Counter("faas_test", "For tests.", registry=metrics).inc()
    runner = ScriptedRunner()
    async with LogStore(folder / "logs") as logs:
        world: World

        async def redis_status() -> RedisStatus:
            return await world.ask_redis()

        async def driver() -> str:
            return await world.ask_driver()

        async def runtimes() -> list[str]:
            return ["python3.11", "exec"]

        async def nodes() -> list[NodeInfo]:
            return [NODE]

        bundles, blobs = BundleStore(folder / "bundles"), Blobs(redis)
        maker = ScriptedMaker()
        dependencies = Dependencies(catalog, bundles, blobs, maker)
        code, tokens = Code(bundles, blobs, dependencies.follow), _tokens()
        services = Services(
            catalog=catalog,
            code=code,
            functions=Functions(catalog, registry, code),
            apps=Apps(catalog, registry, code),
            pushes=Pushes(catalog, registry, code, runner, runtimes, dependencies),
            dependencies=dependencies,
            jobs=_jobs(redis, blocking),
            secrets=Secrets(catalog, registry, SecretBox(b"k" * 32)),
            logs=logs,
            runner=runner,
            tokens=tokens,
            access=Access(catalog, registry, tokens),
            audit=Audit(AuditLog(redis, blocking)),
            releases=Releases.make(
                *(catalog, registry, code, runner),
                *(Sightings(redis), Quotas(catalog, registry), nodes, NODE.id),
            ),
            metrics=metrics,
            probes=Probes(redis=redis_status, driver=driver, runtimes=runtimes, nodes=nodes),
            version="0.0.test",
        )
        world = World(services, registry, runner, url)
        world.bundles, world.blobs, world.maker = bundles, blobs, maker
        try:
            yield world
        finally:
            await dependencies.__aexit__()
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await redis.aclose()


def _jobs(redis: Redis, blocking: Callable[[], Awaitable[Redis]]) -> Jobs:
    """To look at and act on; what accepts calls is not started. Tests fill the queue themselves."""

    async def durable() -> str:
        return ""

    queue = Queue(redis)
    return Jobs(queue, Reads(redis), Enqueuer(queue), Bells(redis, blocking), durable, Claims(redis))


def _tokens() -> Tokens:
    people = (
        (ADMIN, Principal(name="admin", roles=frozenset({"admin"}))),
        (READER, Principal(name="reader", roles=frozenset({"read"}))),
        (SHOP_DEPLOYER, Principal(name="shop", roles=frozenset({"deploy"}), apps=frozenset({"shop"}))),
    )
    return Tokens([Token(digest=digest_of(token), principal=who) for token, who in people])
