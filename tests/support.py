"""What many tests share: required services, free ports, bounded waits, and a count of what was left behind.

Helpers only: fixtures live in `conftest.py`, and nothing here keeps state a test could change.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import docker
import pytest
from docker.errors import DockerException

Service = Literal["docker", "images", "redis", "bwrap", "root", "faketime"]
T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
TEST_RUNTIME = "python3.11"
FAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")
"""To be preloaded by a process that shall have a clock of its own."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.1


def require(*services: Service) -> None:
    """Skip the test (or, at module level, the file) when a service is missing on this machine.

    Where the variable `FAAS_REQUIRE` (names, comma-separated) lists the service, fail instead.
    """
    for service in services:
        reason = missing(service)
        if not reason:
            continue
        if service in _required():
            pytest.fail(f"FAAS_REQUIRE names {service}, but {reason}", pytrace=False)
        pytest.skip(f"needs {service}: {reason}", allow_module_level=True)


@functools.cache
def missing(service: Service) -> str:
    """Why `service` cannot be used here; empty when it can. Looked at once a session."""
    return _CHECKS[service]()


def _required() -> set[str]:
    names = {name.strip() for name in os.environ.get("FAAS_REQUIRE", "").split(",")} - {""}
    unknown = names - _CHECKS.keys()
    if unknown:
        known = ", ".join(_CHECKS)
        pytest.fail(f"FAAS_REQUIRE names {', '.join(sorted(unknown))}; known are {known}", pytrace=False)
    # Whoever insists on an engine insists on tests that run something in it.
    return names | ({"images"} if "docker" in names else set())


def _no_docker() -> str:
    try:
        client = docker.from_env(timeout=10)
    except DockerException as cause:
        return f"no engine answers ({cause})"
    try:
        client.ping()
    except (DockerException, OSError) as cause:
        return f"the engine does not answer ({cause})"
    finally:
        client.close()
    return ""


def _no_images() -> str:
    if missing("docker"):
        return missing("docker")
    image = f"faas-runtime-{TEST_RUNTIME}"
    client = docker.from_env(timeout=10)
    try:
        found = client.images.list(name=image)
    finally:
        client.close()
    return "" if found else f"the image {image} is not built (make images)"


def _no_redis() -> str:
    return "" if shutil.which("redis-server") else "there is no redis-server on PATH"


def _no_bwrap() -> str:
    if not shutil.which("bwrap"):
        return "there is no bwrap on PATH"
    # Installed is not enough: many containers may not make namespaces.
    probe = subprocess.run(
        ["bwrap", "--ro-bind", "/", "/", "--unshare-all", "true"], capture_output=True, text=True, timeout=10
    )
    return "" if probe.returncode == 0 else f"bwrap does not work here ({probe.stderr.strip()})"


def _not_root() -> str:
    return "" if os.geteuid() == 0 else "the tests do not run as root"


_CHECKS: dict[str, Callable[[], str]] = {
    "docker": _no_docker,
    "images": _no_images,
    "redis": _no_redis,
    "bwrap": _no_bwrap,
    "root": _not_root,
    "faketime": lambda: "" if FAKETIME else "Debian's package libfaketime is not installed",
}


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def wait_until(predicate: Callable[[], Any], timeout: float = 10.0, what: str = "the condition") -> Any:
    """First true value of `predicate`, plain or async, asked again until `timeout` seconds have passed.

    Raises:
        AssertionError: naming `what` and the last value. An exception of the predicate comes through.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE_S
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not so after {timeout:g} s; last value: {value!r}")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


def wait_until_sync(predicate: Callable[[], T], timeout: float = 10.0, what: str = "the condition") -> T:
    """`wait_until` for tests and fixtures without a loop."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE_S
    while not (value := predicate()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not so after {timeout:g} s; last value: {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)
    return value


def dies_with_us(argv: list[str]) -> list[str]:
    """`argv` such that the kernel ends the process when this one dies, even by SIGKILL."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", *argv] if setpriv else argv
