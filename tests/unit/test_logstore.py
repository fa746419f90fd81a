"""Function logs: what is written is read, in order, once; bounds hold; a full disk costs lines and nothing else."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from faas.errors import Invalid, TooManyRequests
from faas.model import LogLine
from faas.names import FunctionName
from faas.telemetry import logstore
from faas.telemetry.logfilter import log_filter
from faas.telemetry.logstore import LogStore
from tests.support import wait_until

HELLO = FunctionName("default", "hello")
OTHER = FunctionName("shop", "hello")


@pytest.fixture
async def logs(tmp_path: Path) -> AsyncIterator[LogStore]:
    async with LogStore(tmp_path / "logs") as store:
        yield store


def _line(text: str = "x", at: int = 1, **more: Any) -> LogLine:
    return LogLine(time_ms=at, text=text, **more)


def _size(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


async def _texts(store: LogStore, function: FunctionName = HELLO, **wanted: Any) -> list[str]:
    return [line.text for line in await store.read(function, **wanted)]


async def test_a_line_is_read_at_once_and_from_disk(logs: LogStore) -> None:
    line = _line("héllo\nworld", level="error", call="c-1", version=3, instance="i-1", fields={"a": [1, None]})
    logs.write(HELLO, line)
    assert await logs.read(HELLO) == [line]
    await logs.flush()
    assert await logs.read(HELLO) == [line]
    assert await logs.read(OTHER) == []


async def test_lines_reach_the_disk_by_themselves(logs: LogStore, tmp_path: Path) -> None:
    logs.write(HELLO, _line())
    await wait_until(lambda: _size(tmp_path) > 0, 5, "the line is on disk")


async def test_lines_survive_a_restart(tmp_path: Path) -> None:
    for number in range(3):
        async with LogStore(tmp_path) as store:
            store.write(HELLO, _line(str(number)))
    async with LogStore(tmp_path) as store:
        store.write(HELLO, _line("3"))
        assert await _texts(store) == ["0", "1", "2", "3"]


async def test_the_last_lines_in_order(logs: LogStore) -> None:
    for number in range(10):
        logs.write(HELLO, _line(str(number)))
        if number in (3, 6):
            await logs.flush()
    assert await _texts(logs) == [str(n) for n in range(10)]
    assert await _texts(logs, limit=5) == list("56789")
    assert await _texts(logs, limit=2) == list("89")


@pytest.mark.parametrize("stored", [True, False])
async def test_filters(logs: LogStore, stored: bool) -> None:
    for line in (
        _line("one", 10, level="debug", call="c-1"),
        _line("two", 20, level="stdout", call="c-2"),
        _line("three", 30, level="stderr", call="c-1"),
        _line("four", 40, level="error", call="c-12"),
        _line("five", 50, level="critical"),
    ):
        logs.write(HELLO, line)
    if stored:
        await logs.flush()
    assert await _texts(logs, call="c-1") == ["one", "three"]
    assert await _texts(logs, since_ms=30) == ["three", "four", "five"]
    assert await _texts(logs, level="info") == ["two", "three", "four", "five"]
    assert await _texts(logs, level="warning") == ["three", "four", "five"]
    assert await _texts(logs, level="stdout") == ["two"]
    assert await _texts(logs, level="stderr") == ["three"]
    assert await _texts(logs, grep="o", limit=1) == ["four"]
    assert await _texts(logs, call="c-1", grep="thr") == ["three"]


@pytest.mark.parametrize(
    "wrong", [{"level": "loud"}, {"since_ms": -1}, {"limit": 0}, {"limit": 10_001}, {"grep": "x" * 1001}]
)
async def test_wrong_arguments_are_named(logs: LogStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=next(iter(wrong)) if "level" not in wrong else "loud"):
        await logs.read(HELLO, **wrong)
    with pytest.raises(Invalid):
        logs.write(FunctionName("..", "x"), _line())
    with pytest.raises(Invalid):
        await logs.read(FunctionName("default", "../../etc"))


async def test_the_size_is_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    async with LogStore(tmp_path, max_bytes=80_000) as store:
        for number in range(3000):
            store.write(HELLO, _line(f"{number} {'x' * 60}"))
            if number % 500 == 0:
                await store.flush()
        await store.flush()
        assert 60_000 < _size(tmp_path) <= 80_000
        texts = [int(text.split()[0]) for text in await _texts(store, limit=10_000)]
        assert texts[-1] == 2999
        assert texts == list(range(texts[0], 3000)), "no holes"


async def test_old_lines_go(tmp_path: Path) -> None:
    async with LogStore(tmp_path, max_age_s=3600) as store:
        store.write(HELLO, _line("old"))
        store.write(OTHER, _line("fresh"))
        await store.flush()
        (segment,) = (tmp_path / "default" / "hello").iterdir()
        os.utime(segment, (0, time.time() - 7200))
        await store.sweep()
        assert await _texts(store) == []
        assert not (tmp_path / "default" / "hello").exists()
        store.write(HELLO, _line("new"))
        await store.flush()
        assert await _texts(store) == ["new"]
        assert await _texts(store, OTHER) == ["fresh"]


async def test_remove(logs: LogStore, tmp_path: Path) -> None:
    logs.write(HELLO, _line("stored"))
    await logs.flush()
    logs.write(HELLO, _line("buffered"))
    await logs.remove(HELLO)
    await logs.remove(OTHER)
    assert await _texts(logs) == []
    logs.write(HELLO, _line("again"))
    await logs.flush()
    assert await _texts(logs) == ["again"]


async def test_torn_and_broken_lines_are_skipped(logs: LogStore, tmp_path: Path) -> None:
    logs.write(HELLO, _line("good"))
    await logs.flush()
    (segment,) = (tmp_path / "logs" / "default" / "hello").iterdir()
    segment.write_bytes(b'{"time_ms": 1, "te\n\n[1]\n\xff\xfe\n' + segment.read_bytes() + b'{"torn')
    assert await _texts(logs) == ["good"]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"n": float("nan")}, {"n": None}),
        ({"b": b"\x00"}, {"b": "AA=="}),
        ({"o": object()}, {"unreadable": "TypeError"}),
        ({"s": "\ud800"}, {"unreadable": "UnicodeEncodeError"}),
        ({"big": "x" * 1_000_000}, {}),
    ],
)
async def test_whatever_a_line_holds_it_is_stored(logs: LogStore, fields: dict[str, Any], kept: dict[str, Any]) -> None:
    logs.write(HELLO, _line("x", fields=fields))
    (line,) = await logs.read(HELLO)
    assert line.fields == kept
    await logs.flush()
    assert [line.fields for line in await logs.read(HELLO)] == [kept]


async def test_long_lines_are_cut_visibly(logs: LogStore) -> None:
    logs.write(HELLO, _line("é" * 1_000_000))
    (text,) = await _texts(logs)
    assert len(text.encode()) < 17_000
    assert text.endswith("bytes with fields]")


async def test_a_flood_is_bounded_and_says_what_it_dropped(logs: LogStore) -> None:
    for _ in range(300):
        logs.write(HELLO, _line("x" * 10_000))
    logs.write(OTHER, _line("still heard"))
    await logs.flush()
    *kept, last = await logs.read(HELLO, limit=1000)
    assert 150 < len(kept) < 300
    assert last.text.startswith(f"[dropped {300 - len(kept)} lines, ")
    assert await _texts(logs, OTHER) == ["still heard"]


async def test_a_full_disk_costs_lines_and_is_told_once(
    logs: LogStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.write(HELLO, _line("before"))
    await logs.flush()
    write = os.write

    def full(fd: int, data: memoryview) -> int:
        if len(data) > 10:
            return write(fd, data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for number in range(3):
            logs.write(HELLO, _line(f"lost {number}"))
            await logs.flush()
    logs.write(HELLO, _line("after"))
    await logs.flush()
    texts = await _texts(logs)
    assert texts[:2] == ["before", "after"]
    assert texts[2].startswith("[dropped 3 lines")
    assert capsys.readouterr().out.count("No space left") <= 1


async def test_following_gives_the_past_once_and_then_what_comes(logs: LogStore) -> None:
    logs.write(HELLO, _line("stored"))
    await logs.flush()
    logs.write(HELLO, _line("buffered"))
    async with aclosing(logs.follow(HELLO, limit=10)) as lines:  # type: ignore[type-var]
        seen = [(await anext(lines)).text, (await anext(lines)).text]
        for number in range(3):
            logs.write(HELLO, _line(f"live {number}"))
            logs.write(OTHER, _line("not this"))
            await logs.flush()
            seen.append((await asyncio.wait_for(anext(lines), 5)).text)
    assert seen == ["stored", "buffered", "live 0", "live 1", "live 2"]


async def test_nothing_is_lost_or_doubled_between_past_and_live(logs: LogStore) -> None:
    total = 2000

    async def produce() -> None:
        for number in range(total):
            logs.write(HELLO, _line(str(number)))
            if number % 20 == 0:
                await asyncio.sleep(0.001)

    async def consume() -> list[int]:
        seen: list[int] = []
        async with aclosing(logs.follow(HELLO, limit=10_000)) as lines:  # type: ignore[type-var]
            async for line in lines:
                seen.append(int(line.text))
                if seen[-1] == total - 1:
                    return seen
        return seen

    logs.write(HELLO, _line("0"))
    await logs.remove(HELLO)
    results = await asyncio.wait_for(asyncio.gather(consume(), produce(), consume(), consume()), 20)
    for seen in (results[0], results[2], results[3]):
        assert seen == list(range(total))


async def test_a_follower_filters(logs: LogStore) -> None:
    async with aclosing(logs.follow(HELLO, call="c-1", level="error")) as lines:  # type: ignore[type-var]
        first = asyncio.ensure_future(anext(lines))
        await wait_until(lambda: bool(logs._followers), 5, "the follower is there")
        logs.write(HELLO, _line("no", call="c-1"))
        logs.write(HELLO, _line("no", level="error"))
        logs.write(HELLO, _line("yes", level="error", call="c-1"))
        assert (await asyncio.wait_for(first, 5)).text == "yes"
    assert not logs._followers, "a reader that left is forgotten"


async def test_a_slow_follower_loses_and_is_told(logs: LogStore) -> None:
    async with aclosing(logs.follow(HELLO)) as lines:  # type: ignore[type-var]
        first = asyncio.ensure_future(anext(lines))
        await wait_until(lambda: bool(logs._followers), 5, "the follower is there")
        for number in range(1500):
            logs.write(HELLO, _line(str(number)))
        seen = [(await asyncio.wait_for(first, 5)).text]
        while not seen[-1].startswith("["):
            seen.append((await asyncio.wait_for(anext(lines), 5)).text)
        assert seen == [*map(str, range(1000)), "[skipped 500 lines: this reader is too slow]"]
        logs.write(HELLO, _line("next"))
        assert (await asyncio.wait_for(anext(lines), 5)).text == "next"


async def test_followers_are_bounded(logs: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logstore, "_FOLLOWERS_MAX", 1)
    logs.write(HELLO, _line())
    async with aclosing(logs.follow(HELLO, limit=1)) as one:  # type: ignore[type-var]
        await anext(one)
        with pytest.raises(TooManyRequests, match="1 readers"):
            await anext(logs.follow(HELLO))


async def test_followers_end_with_the_store(tmp_path: Path) -> None:
    async with LogStore(tmp_path) as store:
        store.write(HELLO, _line("a"))
        lines = store.follow(HELLO, limit=1)
        assert (await anext(lines)).text == "a"
        store.write(HELLO, _line("b"))
    assert [line.text async for line in lines] == ["b"]
    assert [line.text async for line in store.follow(HELLO, limit=10)] == ["a", "b"]


def test_an_unknown_level_in_a_line_counts_as_info() -> None:
    assert log_filter("", 0, "info", "").accepts(_line(level="weird"))
    assert not log_filter("", 0, "error", "").accepts(_line(level="weird"))
