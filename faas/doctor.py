"""`faas doctor`: is this machine fit for a node, and what to do where it is not. Needs no running node.

Each check is (what, fine, finding and the fix). Checks look; they change nothing but a temporary directory.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from faas.config import CONFIG_FILE, NodeConfig, load_config, read_flags
from faas.drivers.docker import DockerDriver
from faas.drivers.process import ProcessDriver
from faas.errors import FaasError
from faas.store import server
from faas.store.connection import connect, redact
from faas.store.durability import check_durability
from faas.units import show_size

DISK_MIN = 1024**3
MEMORY_MIN = 512 * 1024**2
SKEW_MAX_S = 1.0
FDS_MIN = 4096


class Check(NamedTuple):
    """One finding. `needed` False: a node runs without it, with less."""

    what: str
    fine: bool
    finding: str
    needed: bool = True


async def examine(config: NodeConfig) -> list[Check]:
    """All checks, in the order of the report. A check that breaks is itself a finding."""
    groups: list[Callable[[NodeConfig], Awaitable[list[Check]]]] = [_python, _driver, _redis, _disk, _kernel]
    found: list[Check] = []
    for group in groups:
        try:
            found += await group(config)
        except FaasError as error:
            found.append(Check(group.__name__.strip("_"), False, f"{error.message} {error.hint}".strip()))
    return found


async def _python(_config: NodeConfig) -> list[Check]:
    version = platform.python_version()
    fine = sys.version_info >= (3, 11)
    return [Check("python", fine, version + _fix(fine, "3.11 or newer is needed"))]


async def _driver(config: NodeConfig) -> list[Check]:
    """The engine if there is one, else processes; what an operator chose by hand is not second-guessed."""
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="faas-doctor-") as folder:
        if config.driver in ("auto", "docker"):
            try:
                async with DockerDriver("doctor", Path(folder)) as docker:
                    checks += [Check(*one) for one in await docker.check()]
                    return checks
            except FaasError as error:
                needed = config.driver == "docker"
                checks.append(Check("docker engine", False, f"{error.message} {error.hint}".strip(), needed))
        async with AsyncExitStack() as stack:
            process = await stack.enter_async_context(ProcessDriver("doctor", Path(folder)))
            checks += [Check(what, fine, finding, needed=False) for what, fine, finding in await process.check()]
    return checks


async def _redis(config: NodeConfig) -> list[Check]:
    if not config.redis:
        binary = server.find_binary()
        return [Check("redis", True, f"embedded server {binary.name}, append-only file, fsync at every write")]
    async with AsyncExitStack() as stack:
        redis = await connect(config.redis)
        stack.push_async_callback(redis.aclose)
        durability = await check_durability(redis)
        seconds, micros = await redis.time()
        skew = abs(time.time() - (seconds + micros / 1e6))
    return [
        Check("redis", True, f"{redact(config.redis)} answers"),
        Check("durability", durability.ok, f"{durability.finding} {durability.fix}".strip(), needed=False),
        Check(
            "clock",
            skew < SKEW_MAX_S,
            f"{skew:.3f} s from Redis' clock" + _fix(skew < SKEW_MAX_S, "run an NTP client"),
            needed=False,
        ),
    ]


async def _disk(config: NodeConfig) -> list[Check]:
    return await asyncio.to_thread(_look_at_disk, config)


def _look_at_disk(config: NodeConfig) -> list[Check]:
    path = Path(config.data_dir)
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    roomy = usage.free >= DISK_MIN
    writable = path.is_dir() and os.access(path, os.W_OK | os.X_OK)
    why = f"{path} is not {'writable' if path.is_dir() else 'a directory'}; give --data-dir, or correct it or its owner"
    room = f"{show_size(usage.free)} free at {path}"
    return [
        Check("data directory", writable, config.data_dir + _fix(writable, why)),
        Check("disk", roomy, room + _fix(roomy, f"make room: {show_size(DISK_MIN)} are needed, or give --data-dir")),
    ]


def _fix(fine: bool, text: str) -> str:
    return "" if fine else f"; {text}"


async def _kernel(_config: NodeConfig) -> list[Check]:
    return await asyncio.to_thread(_look_at_kernel)


def _look_at_kernel() -> list[Check]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    version2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= FDS_MIN
    return [
        Check(
            "memory",
            memory >= MEMORY_MIN,
            f"{show_size(memory)} in this machine"
            + _fix(memory >= MEMORY_MIN, f"{show_size(MEMORY_MIN)} are needed for a node and one function"),
        ),
        Check("cgroups", True, f"version {2 if version2 else 1}"),
        Check("open files", enough, f"limit {hard}" + _fix(enough, f"raise it to {FDS_MIN} (ulimit -n, LimitNOFILE=)")),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; 0 when a node can run here, 3 when something it needs is missing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    given = [one for one in given if one != "--json"]
    try:
        text = Path(CONFIG_FILE).read_text() if os.path.exists(CONFIG_FILE) else None
        config = load_config(read_flags(given), os.environ, text)
    except FaasError as error:
        print(f"error: {error.message}\n  hint: {error.hint}", file=sys.stderr)
        return 2
    checks = asyncio.run(examine(config))
    for check in checks:
        if as_json:
            print(json.dumps(check._asdict()))
        else:
            mark = "ok  " if check.fine else ("FAIL" if check.needed else "warn")
            print(f"{mark}  {check.what:<18} {check.finding}")
    return 0 if all(check.fine or not check.needed for check in checks) else 3


if __name__ == "__main__":
    sys.exit(main())
