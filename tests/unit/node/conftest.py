"""A node's engine room on the scripted driver: real sockets, real protocol, no engine and no Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from faas.archive import File, pack
from faas.bundles import BundleStore
from faas.drivers.fake import FakeDriver
from faas.drivers.script import Script
from faas.ids import new_id
from faas.model import Function, Settings, Version
from faas.node.call import Call, Reply
from faas.node.capacity import Capacity
from faas.node.dispatcher import Dispatcher
from faas.node.instance import Instance
from faas.node.launcher import Launcher
from faas.node.pool import Pool
from faas.node.reaper import Reaper
from faas.node.starts import Starts
from faas.wire.messages import Message

GIB = 1024**3


class Hooks:
    """Keeps what instances report."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []
        self.lost_reasons: list[str] = []

    def log(self, instance: Instance, call: str, level: str, time_ms: int, text: str, fields: dict[str, Any]) -> None:
        self.lines.append((call, level, text))

    def lost(self, instance: Instance, reason: str) -> None:
        from faas.errors import InstanceDied

        self.lost_reasons.append(reason)
        instance.die(InstanceDied("killed from outside"))

    def outgoing(self, instance: Instance, message: Message) -> None:
        raise AssertionError(f"unexpected call from an instance: {message}")

    def child_gone(self, instance: Instance) -> None:
        """No calls to forget."""


class Room:
    """What a test drives: `await room.call(function)`, then look at `room.driver` and `room.pool(function)`."""

    def __init__(self, driver: FakeDriver, starts: Starts, dispatcher: Dispatcher, reaper: Reaper, code: str) -> None:
        self.driver = driver
        self.script = driver.script
        self.starts = starts
        self.dispatcher = dispatcher
        self.reaper = reaper
        self.hooks = Hooks()
        self._code = code

    def function(self, name: str = "hello", number: int = 1, **settings: Any) -> Function:
        version = Version(number=number, code=self._code, settings=Settings(**settings))
        return Function(
            app="default", name=name, aliases={"live": {number: 100}}, versions={number: version}, latest=number
        )

    async def call(self, function: Function, body: bytes = b"", **head: Any) -> Reply:
        version = function.live()
        assert version is not None
        return await self.dispatcher.run(function, version, Call(new_id("c"), body=body, **head))

    def pool(self, function: Function) -> Pool:
        version = function.live()
        assert version is not None
        return self.dispatcher.pool(function, version)


async def open_room(tmp_path: Path, script: Script, *, stems: int, memory: int, stack: AsyncExitStack) -> Room:
    """A room whose parts end with `stack`."""
    driver = await stack.enter_async_context(FakeDriver(script))
    bundles = BundleStore(tmp_path / "store")
    archive = pack({"main.py": File(b"def handler(event): return event\n")})
    bundles.add(archive.digest, archive.data)
    root = tmp_path / "instances"
    root.mkdir()
    hooks = Hooks()

    async def fetch(digest: str) -> None:
        raise AssertionError(f"bundle {digest} is not here")

    launcher = Launcher(
        node_id="n", root=root, driver=driver, bundles=bundles, fetch=fetch, secrets_of=lambda *_: {}, hooks=hooks
    )
    starts = Starts(launcher, Capacity(memory), stems=stems)
    dispatcher = Dispatcher(starts)
    reaper = Reaper(node_id="n", dispatcher=dispatcher, starts=starts, driver=driver)
    stack.push_async_callback(starts.close, 5)
    await stack.enter_async_context(starts.stems)
    stack.push_async_callback(dispatcher.drain, 1)
    room = Room(driver, starts, dispatcher, reaper, archive.digest)
    room.hooks = hooks
    return room


@pytest.fixture
async def script() -> Script:
    return Script()


@pytest.fixture
async def room(tmp_path: Path, script: Script) -> AsyncIterator[Room]:
    """No stem cells, 4 GiB. Afterwards nothing runs and no directory is left."""
    async with AsyncExitStack() as stack:
        room = await open_room(tmp_path, script, stems=0, memory=4 * GIB, stack=stack)
        yield room
    assert room.driver.running == []
    assert room.starts.used == 0, "memory claimed and not returned"
    assert list((tmp_path / "instances").iterdir()) == []
