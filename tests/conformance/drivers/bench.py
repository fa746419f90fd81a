"""A node's side of an instance's start, and no more: directory, listening socket, HELLO answered by WELCOME."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from faas.drivers.api import Driver, Inside, InstanceSpec
from faas.drivers.scripted import frames
from faas.ids import new_id
from faas.wire import messages as m
from faas.wire.codec import encode
from faas.wire.limits import PROTOCOL
from tests.support import wait_until

RUNTIME = "python3.11"


class Guest:
    """One instance as the bench sees it."""

    def __init__(self, spec: InstanceSpec) -> None:
        self.spec = spec
        self.id = spec.id
        self.inside: Inside | None = None
        self.hellos: dict[str, dict[str, Any]] = {}
        self.heard: list[m.Message] = []
        self.links: dict[str, asyncio.StreamWriter] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def connected(self, driver: Driver) -> None:
        """Both connections have said HELLO; an instance that ends before that says why."""
        ended = asyncio.create_task(driver.wait(self.id))

        def both() -> bool:
            return {"control", "data"} <= self.hellos.keys()

        try:
            await wait_until(lambda: both() or ended.done(), 20, f"HELLOs of {self.id}")
            assert both(), f"it ended before its HELLO: {ended.result()}"
        finally:
            ended.cancel()
            await asyncio.wait([ended])

    def say(self, role: str, message: m.Message) -> None:
        self.links[role].write(encode(message))

    async def hear(self, kind: int) -> m.Message:
        """The next frame of this type, heard already or not."""
        await wait_until(lambda: any(one[0] == kind for one in self.heard), 10, m.NAMES[kind])
        return next(one for one in self.heard if one[0] == kind)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for message in frames(reader):
            if message[0] == m.HELLO:
                self.links[message[2]] = writer
                self.hellos[message[2]] = message[3]
                writer.write(encode(m.welcome(PROTOCOL, {})))
            else:
                self.heard.append(message)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def serve() -> None:
            try:
                await self._serve(reader, writer)
            finally:
                writer.close()

        task = asyncio.get_running_loop().create_task(serve())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Bench:
    """Starts instances on a driver as a node would, and ends them all."""

    def __init__(self, driver: Driver, data: Path, node: str) -> None:
        self.driver = driver
        self.data = data
        self.node = node

    def spec(self, **changes: Any) -> InstanceSpec:
        """A new instance's, with its directory made."""
        name = new_id("i")
        folder = self.data / "instances" / name
        folder.mkdir(parents=True)
        for path in (self.data, folder.parent, folder):
            path.chmod(0o711)
        return InstanceSpec(**{"id": name, "runtime": RUNTIME, "dir": folder, "network": "none", **changes})

    @asynccontextmanager
    async def listening(self, spec: InstanceSpec) -> AsyncIterator[Guest]:
        """The socket is there; destroyed and closed at the end."""
        guest = Guest(spec)
        path = spec.dir / "sock"
        server = await asyncio.start_unix_server(guest.accept, path)
        os.chown(path, self.driver.uid, -1)
        path.chmod(0o600)
        try:
            yield guest
        finally:
            await self.driver.destroy(spec.id)
            server.close()
            for task in list(guest.tasks):
                task.cancel()
            await asyncio.gather(*guest.tasks, return_exceptions=True)
            path.unlink(missing_ok=True)

    @asynccontextmanager
    async def guest(self, **changes: Any) -> AsyncIterator[Guest]:
        """A started and connected instance."""
        async with self.listening(self.spec(**changes)) as guest:
            guest.inside = await self.driver.start(guest.spec)
            await guest.connected(self.driver)
            yield guest
