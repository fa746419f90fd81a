"""`faas doctor`: what is wrong with this machine, each with its fix; the exit code says whether it matters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.fault.conftest import Ends
from tests.integration.node import CliResult
from tests.support import require


@pytest.fixture
def strange_redis(fresh_redis: Callable[[], str], redis_socket: Path) -> Iterator[Callable[..., str]]:
    """`strange_redis(**settings)`: the session's server, set so until the test ends."""
    url = fresh_redis()
    client = redis.Redis(unix_socket_path=str(redis_socket))
    before: dict[str, Any] = {}

    def change(**settings: str) -> str:
        for name, value in settings.items():
            key = name.replace("_", "-")
            before[key] = client.config_get(key)[key]
            client.config_set(key, value)
        return url

    yield change
    for key, value in before.items():
        client.config_set(key, value)
    client.close()


def _checks(result: CliResult) -> dict[str, dict[str, Any]]:
    assert "Traceback" not in result.err
    return {check["what"]: check for check in map(json.loads, result.out.splitlines())}


async def test_a_good_machine(ends: Ends, tmp_path: Path, redis_url: str) -> None:
    require("docker", "images")
    result = await ends(
        "faas.cli", "doctor", "--json", env={"FAAS_DATA_DIR": str(tmp_path), "FAAS_REDIS_URL": redis_url}
    )
    checks = _checks(result)
    assert result.code == 0
    assert {
        "python", "docker engine", "runtime images", "redis", "durability", "clock", "data directory", "disk", "memory",
        "cgroups", "open files",
    } <= set(checks)  # fmt: skip
    assert all(check["fine"] for check in checks.values() if check["needed"])
    assert "python3.11" in checks["runtime images"]["finding"]
    assert "always" in checks["durability"]["finding"]
    readable = await ends("faas.cli", "doctor", env={"FAAS_DATA_DIR": str(tmp_path)})
    assert readable.code == 0
    assert "embedded server" in readable.out
    assert not list(tmp_path.iterdir()), "it looks, and changes nothing"


async def test_no_engine(ends: Ends, tmp_path: Path) -> None:
    nowhere = {"DOCKER_HOST": "unix:///nonexistent/docker.sock", "FAAS_DATA_DIR": str(tmp_path)}
    free = await ends("faas.doctor", "--json", env=nowhere)
    engine = _checks(free)["docker engine"]
    assert not engine["fine"]
    assert not engine["needed"], "processes do instead"
    assert "Start" in engine["finding"] or "DOCKER_HOST" in engine["finding"]
    assert "process runtimes" in _checks(free)
    assert free.code == 0

    bound = await ends("faas.doctor", "--json", "--driver", "docker", env=nowhere)
    assert bound.code == 3
    assert _checks(bound)["docker engine"]["needed"]
    assert "FAIL  docker engine" in (await ends("faas.doctor", "--driver", "docker", env=nowhere)).out


async def test_no_bubblewrap(ends: Ends, tmp_path: Path) -> None:
    env = {"PATH": "/nonexistent", "FAAS_DATA_DIR": str(tmp_path)}
    result = await ends("faas.doctor", "--json", "--driver", "process", env=env)
    isolation = _checks(result)["isolation"]
    assert not isolation["fine"]
    assert "install bubblewrap" in isolation["finding"]
    assert result.code == 0, "a laptop may do without"


@pytest.mark.parametrize(
    ("settings", "finding", "fix"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "may throw accepted work away", "CONFIG SET maxmemory-policy noeviction"),
        ({"appendonly": "no"}, "a restart of Redis loses accepted work", "CONFIG SET appendonly yes"),
        ({"appendfsync": "everysec"}, "can lose what was accepted last", "CONFIG SET appendfsync always"),
    ],
)
async def test_a_redis_that_forgets(
    ends: Ends, tmp_path: Path, strange_redis: Callable[..., str], settings: dict[str, str], finding: str, fix: str
) -> None:
    env = {"FAAS_REDIS_URL": strange_redis(**settings), "FAAS_DATA_DIR": str(tmp_path)}
    durability = _checks(await ends("faas.doctor", "--json", "--driver", "process", env=env))["durability"]
    assert finding in durability["finding"]
    assert fix in durability["finding"]
    assert durability["fine"] == ("appendfsync" in settings), "a crash of Redis alone loses nothing then"


async def test_no_redis_and_no_place_for_data(ends: Ends, tmp_path: Path) -> None:
    env = {"FAAS_REDIS_URL": "redis://:secret@127.0.0.1:1/0", "FAAS_DATA_DIR": str(tmp_path)}
    result = await ends("faas.doctor", "--json", "--driver", "process", env=env)
    assert result.code == 3
    found = _checks(result)["redis"]
    assert "does not answer" in found["finding"]
    assert "URL is right" in found["finding"]
    assert "secret" not in result.out

    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    result = await ends("faas.doctor", "--json", "--driver", "process", env={"FAAS_DATA_DIR": str(blocked / "data")})
    assert result.code == 3
    finding = _checks(result)["data directory"]["finding"]
    assert f"{blocked} is not a directory" in finding
    assert "--data-dir" in finding


async def test_a_tiny_disk(ends: Ends) -> None:
    # A file system of its own on every Linux, read-only or small, and never ours.
    result = await ends("faas.doctor", "--json", "--driver", "process", env={"FAAS_DATA_DIR": "/proc/1/none"})
    assert result.code == 3
    disk = _checks(result)["disk"]
    assert not disk["fine"]
    assert "0B free" in disk["finding"]
    assert "make room: 1GiB" in disk["finding"]


async def test_a_wrong_flag(ends: Ends) -> None:
    result = await ends("faas.doctor", "--drivr", "docker")
    assert result.code == 2
    assert "--driver" in result.err
