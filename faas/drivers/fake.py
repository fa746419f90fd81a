"""A driver without an engine, for tests only: its instances run a script inside the test's own loop.

```python
driver = FakeDriver(Script(start_delay=0.2, crash_on_calls=frozenset({3})))
async def slow(call): await asyncio.sleep(1); return 200, b"done"
driver.script.on_call = slow
await driver.kill(instance)            # as kill -9 from outside
assert driver.counts.started == 1
```
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from faas.drivers.api import Capabilities, Exit, Found, Inside, InstanceSpec, Usage
from faas.drivers.lives import Lives
from faas.drivers.script import Crash, Script
from faas.drivers.scripted import Life
from faas.errors import Conflict, NotFound

CAPABILITIES = Capabilities(
    isolation="none", mounts=False, resize=True, networks=("egress", "none"), trusted_files=True
)


@dataclass(slots=True)
class Counts:
    """What was asked of the driver so far."""

    started: int = 0
    destroyed: int = 0
    resized: int = 0
    calls: int = 0
    peak: int = 0
    """Most instances running at once."""


class _Instance:
    def __init__(self, spec: InstanceSpec, life: Life) -> None:
        self.spec = spec
        self.life = life
        self.began = time.monotonic()
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None


class FakeDriver:
    """See `faas.drivers.api.Driver`. `script` applies to every instance and may be changed at any time."""

    name = "fake"

    def __init__(
        self,
        script: Script | None = None,
        *,
        node_id: str = "fake-node",
        runtimes: tuple[str, ...] = ("python3.11",),
        capabilities: Capabilities = CAPABILITIES,
    ) -> None:
        self.script = script or Script()
        self.capabilities = capabilities
        self.uid = os.geteuid()
        self.counts = Counts()
        self.inits: list[dict[str, Any]] = []
        """The spec of every INIT, in order."""
        self.strays: list[Found] = []
        """What `found` lists besides the instances running."""
        self.limits: dict[str, tuple[int, float]] = {}
        """Memory and cpu of each instance as last set."""
        self._node = node_id
        self._runtimes = runtimes
        self._instances: dict[str, _Instance] = {}
        self._lives = Lives(self._start, self._destroy)
        self._calls = itertools.count(1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(self._lives.destroy(one) for one in list(self._instances)))
        await self._lives.finish()

    @property
    def running(self) -> list[str]:
        """Instances that have not ended, oldest first."""
        return [name for name, one in self._instances.items() if not one.ended.done()]

    def spec(self, instance: str) -> InstanceSpec:
        """What it was started with. Raises KeyError once it is destroyed."""
        return self._instances[instance].spec

    async def kill(self, instance: str, exit: Exit | None = None) -> None:
        """End a running instance from outside, as `kill -9` would; `wait` returns `exit`."""
        one = self._instances[instance]
        if not one.ended.done():
            one.ended.set_result(exit or Exit(signal=9, detail="killed"))
        await self._stop(one)

    def crash(self, instance: str, cause: Exit | None = None) -> None:
        """Its child dies; the instance stays and forks another."""
        self._instances[instance].life.end_with(Crash(cause))

    async def runtimes(self) -> list[str]:
        return list(self._runtimes)

    async def start(self, spec: InstanceSpec) -> Inside:
        """Raises NotFound, Conflict, or what the script says."""
        if spec.runtime not in self._runtimes:
            raise NotFound(f'no runtime "{spec.runtime}"; here: {", ".join(self._runtimes)}')
        if spec.id in self._instances:
            raise Conflict(f"instance {spec.id} is there already")
        await self._lives.start(spec)
        return Inside(dir=str(spec.dir), uid=self.uid)

    async def _start(self, spec: InstanceSpec) -> None:
        self.counts.started += 1
        await asyncio.sleep(self.script.start_delay)
        if self.script.start_error is not None:
            raise self.script.start_error
        one = _Instance(spec, Life(spec.id, spec.dir, self.script, self._next_call, self.inits))
        self._instances[spec.id] = one
        self.limits[spec.id] = (spec.memory, spec.cpu)
        self.counts.peak = max(self.counts.peak, len(self.running))
        one.task = self._lives.spawn(self._run(one), f"fake-{spec.id}")

    async def _run(self, one: _Instance) -> None:
        exit = await one.life.run()
        if not one.ended.done():
            one.ended.set_result(exit)

    async def wait(self, instance: str) -> Exit:
        one = self._instances.get(instance)
        return Exit(detail="gone") if one is None else await asyncio.shield(one.ended)

    async def resize(self, instance: str, *, memory: int, cpu: float) -> None:
        if instance not in self._instances:
            raise NotFound(f"no instance {instance}")
        self.counts.resized += 1
        self.limits[instance] = (memory, cpu)

    async def destroy(self, instance: str) -> None:
        await self._lives.destroy(instance)

    async def _destroy(self, instance: str) -> None:
        self.strays = [stray for stray in self.strays if stray.id != instance]
        one = self._instances.pop(instance, None)
        if one is None:
            return
        self.counts.destroyed += 1
        self.limits.pop(instance, None)
        if not one.ended.done():
            one.ended.set_result(Exit(signal=9, detail="destroyed"))
        await self._stop(one)

    async def usage(self, instance: str) -> Usage | None:
        return Usage(memory=32 << 20, cpu_s=0.01) if instance in self.running else None

    async def found(self) -> list[Found]:
        now = time.monotonic()
        mine = [Found(id=name, node=self._node, age_s=now - one.began) for name, one in self._instances.items()]
        return mine + self.strays

    async def check(self) -> list[tuple[str, bool, str]]:
        return [("fake driver", True, "for tests")]

    def _next_call(self) -> int:
        self.counts.calls = next(self._calls)
        return self.counts.calls

    async def _stop(self, one: _Instance) -> None:
        if one.task is not None:
            one.task.cancel()
            await asyncio.gather(one.task, return_exceptions=True)
