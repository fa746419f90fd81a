"""Questions about health: not asked twice at once, not kept for long, not lost with a caller."""

from __future__ import annotations

import asyncio

import pytest

from faas.api import recent
from faas.api.recent import Recent
from faas.errors import Unavailable


class Question:
    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.asked += 1
        await self.go.wait()
        if self.error:
            raise self.error
        return self.asked


async def test_asked_once_for_many() -> None:
    question = Question()
    question.go.clear()
    ask = Recent(question)
    waiting = [asyncio.create_task(ask()) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    question.go.set()
    assert await asyncio.gather(*waiting[1:]) == [1] * 19
    assert await ask() == 1


async def test_asked_again_when_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "AGE_S", 0.0)
    question = Question()
    ask = Recent(question)
    assert [await ask(), await ask()] == [1, 2]
    question.error = Unavailable("gone")
    with pytest.raises(Unavailable):
        await ask()
    question.error = None
    assert await ask() == 4


async def test_no_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "ANSWER_S", 0.01)
    question = Question()
    question.go.clear()
    ask = Recent(question)
    with pytest.raises(TimeoutError):
        await ask()
    await ask.close()
