"""The tools of the tests hold what they promise: a helper that passes too easily hides everything behind it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests import support
from tests.leftovers import assert_nothing_left, look
from tests.support import dies_with_us, free_port, require, wait_until, wait_until_sync


async def test_wait_until_gives_the_value() -> None:
    values = iter([0, None, 7])
    assert await wait_until(lambda: next(values), 5) == 7


async def test_wait_until_takes_a_coroutine_function() -> None:
    async def ready() -> str:
        return "yes"

    assert await wait_until(ready) == "yes"


async def test_wait_until_ends_and_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"the moon: not so after 0.05 s; last value: 0"):
        await wait_until(lambda: 0, 0.05, "the moon")


def test_wait_until_sync_ends_too() -> None:
    assert wait_until_sync(lambda: "now") == "now"
    with pytest.raises(AssertionError, match="the moon"):
        wait_until_sync(lambda: False, 0.05, "the moon")


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "missing", lambda service: "it is not there")
    monkeypatch.delenv("FAAS_REQUIRE", raising=False)


@pytest.mark.usefixtures("nothing_here")
def test_a_missing_service_skips_at_home() -> None:
    with pytest.raises(pytest.skip.Exception, match="needs redis: it is not there"):
        require("redis")


@pytest.mark.usefixtures("nothing_here")
@pytest.mark.parametrize("service", ["docker", "images"])
def test_a_missing_service_fails_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, service: support.Service
) -> None:
    monkeypatch.setenv("FAAS_REQUIRE", "redis, docker")
    with pytest.raises(pytest.fail.Exception, match=f"FAAS_REQUIRE names {service}, but it is not there"):
        require(service)


@pytest.mark.usefixtures("nothing_here")
def test_a_typo_in_what_is_required_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAAS_REQUIRE", "rediss")
    with pytest.raises(pytest.fail.Exception, match="FAAS_REQUIRE names rediss; known are docker"):
        require("redis")


async def test_leftovers_are_seen(tmp_path: Path) -> None:
    before = look(tmp_path)
    assert not before
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        sleeper = subprocess.Popen(dies_with_us([sys.executable, "-c", "input()"]), stdin=subprocess.PIPE, cwd=tmp_path)
        try:
            found = look(tmp_path) - before
            assert found.sockets == {str(tmp_path / "s")}
            assert [line.split(" ")[0] for line in found.processes] == [str(sleeper.pid)]
            with pytest.raises(AssertionError, match=rf"left behind after 0.05 s:\n  processes: {sleeper.pid} "):
                await assert_nothing_left(tmp_path, kinds=["processes"], timeout=0.05)
        finally:
            sleeper.communicate(b"\n")
    await assert_nothing_left(tmp_path, kinds=["processes"])


def test_fresh_databases_are_empty_and_apart(fresh_redis: Callable[[], str]) -> None:
    with redis.Redis.from_url(fresh_redis()) as one, redis.Redis.from_url(fresh_redis()) as other:
        one.set("a", "1")
        assert other.dbsize() == 0
        assert one.config_get("appendonly") == {"appendonly": "yes"}


def test_a_used_database_comes_back_empty(fresh_redis: Callable[[], str]) -> None:
    with redis.Redis.from_url(fresh_redis()) as client:
        assert client.dbsize() == 0
