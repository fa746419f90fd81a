"""A driver that opens after the node: refused until then, settled before its first start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import pytest

from faas.drivers import late
from faas.drivers.api import Driver, InstanceSpec
from faas.drivers.fake import FakeDriver
from faas.drivers.late import LateDriver
from faas.errors import Unavailable
from tests.support import wait_until


class Absent(FakeDriver):
    """Opens at the third try."""

    tries = 0

    async def __aenter__(self) -> Self:
        self.tries += 1
        if self.tries < 3:
            raise Unavailable("nobody answers", hint="Start it.")
        return await super().__aenter__()

    async def work(
        self,
        runtime: str,
        argv: Sequence[str],
        room: Path,
        *,
        env: Mapping[str, str],
        network: bool,
        shows: Sequence[Path],
        output: str,
        timeout_s: float,
    ) -> int:
        return 0


async def test_refused_until_it_opens_and_settled_before_anybody_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "RETRY_S", 0.01)
    said: list[str] = []

    async def settle(driver: Driver, stack: AsyncExitStack) -> None:
        with pytest.raises(Unavailable):
            await waiting.runtimes()
        said.append("settled")
        stack.callback(said.append, "ended")

    absent = Absent()
    waiting = LateDriver(absent, settle, wait=True)
    async with waiting:
        for refused in (waiting.runtimes(), waiting.found(), waiting.wait("i"), waiting.usage("i")):
            with pytest.raises(Unavailable, match="nobody answers") as error:
                await refused
            assert (error.value.hint, error.value.retry_after_s) == ("Start it.", 0.01)
        with pytest.raises(Unavailable, match="nobody answers"):
            await waiting.start(InstanceSpec(id="i", runtime="r", dir=Path()))
        await waiting.destroy("i")  # there is nothing to destroy
        assert await waiting.check() == [(absent.name, False, "nobody answers Start it.")]
        await wait_until(lambda: said == ["settled"], 5, "it opens")
        assert await waiting.found() == []
    assert (said, absent.tries) == (["settled", "ended"], 3)
    with pytest.raises(Unavailable, match="stopping"):
        await waiting.runtimes()


async def test_not_waited_for_it_is_an_error() -> None:
    async def settle(driver: Driver, stack: AsyncExitStack) -> None:
        raise AssertionError("it never opened")

    with pytest.raises(Unavailable, match="nobody answers"):
        async with LateDriver(Absent(), settle, wait=False):
            pass
