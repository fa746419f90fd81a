"""What a runtime image is built on: a given image, the official one, or one made from the machine's own packages."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from faas.drivers.engine import Client, Engine
from faas.drivers.runtimes import Runtime
from faas.errors import FaasError, NotFound, Unavailable

Progress = Callable[[str], None]

_LOOK_S = 10
"""Seconds to find out whether a registry has the official image."""
_PULL_S = 600
_BOOTSTRAP_S = 900.0
# Debian releases and the one Python each of them has.
_SUITES = {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie"}
_LEAN = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


class Base(msgspec.Struct, frozen=True):
    """An image that is on the engine."""

    tag: str
    id: str


async def choose(engine: Engine, runtime: Runtime, given: str | None, progress: Progress) -> Base:
    """The base for `runtime`, on the engine when this returns.

    Raises:
        NotFound: `given` is neither here nor in its registry.
        Unavailable: no official image, and none can be made here; says what is missing.
    """
    if given is not None:
        found = await _local(engine, given) or await _pulled(engine, given, progress)
        if found is None:
            raise NotFound(f"the base image {given} is not here and cannot be pulled")
        return found
    suite = _SUITES.get(runtime.version, "")
    ours = f"faas-base-debian:{suite}"
    candidates = (await _local(engine, runtime.base), await _local(engine, ours) if suite else None)
    for found in candidates:
        if found is not None:
            return found
    found = await _pulled(engine, runtime.base, progress)
    return found or await _bootstrapped(engine, runtime, suite, ours, progress)


async def _local(engine: Engine, tag: str) -> Base | None:
    try:
        image = await engine.call(lambda client: client.inspect_image(tag))
    except NotFound:
        return None
    return Base(tag, str(image["Id"]))


async def _pulled(engine: Engine, tag: str, progress: Progress) -> Base | None:
    """Ask the registry first, briefly: a machine without one must not wait for a pull to give up."""
    repository, _, version = tag.rpartition(":") if ":" in tag.rsplit("/", 1)[-1] else (tag, "", "latest")
    try:
        async with asyncio.timeout(_LOOK_S):
            await engine.call(lambda client: client.inspect_distribution(tag))
        progress(f"pulling {tag}")
        async with asyncio.timeout(_PULL_S):
            await engine.call(lambda client: client.pull(repository, tag=version))
    except (FaasError, TimeoutError) as error:
        progress(f"{tag} cannot be pulled: {str(error) or 'the registry does not answer'}")
        return None
    return await _local(engine, tag)


async def _bootstrapped(engine: Engine, runtime: Runtime, suite: str, tag: str, progress: Progress) -> Base:
    if trouble := cannot_bootstrap(runtime.version, suite):
        raise Unavailable(
            f"no base for {runtime.name}: {runtime.base} cannot be pulled, and {trouble[0]}", hint=trouble[1]
        )
    progress(f"making {tag} from this machine's packages (half a minute, once)")
    with tempfile.TemporaryDirectory(prefix="faas-base-") as room:
        archive = Path(room) / "base.tar"
        await asyncio.to_thread(_bootstrap, suite, archive)
        await engine.call(lambda client: _import(client, archive, tag))
    found = await _local(engine, tag)
    if found is None:
        raise Unavailable(f"the engine took the import of {tag} and does not have it")
    return found


def cannot_bootstrap(version: str, suite: str) -> tuple[str, str] | None:
    """What is missing, and the next step; None when it can be tried."""
    release = os_release()
    choose_one = "Give one that has it: faas runtimes build NAME --base IMAGE."
    if not suite or release.get("VERSION_CODENAME") != suite or release.get("ID") != "debian":
        here = release.get("PRETTY_NAME", "this system")
        return f"the packages of {here} do not have Python {version}", choose_one
    if shutil.which("mmdebstrap") is None:
        return "mmdebstrap is not installed", "Run: apt-get install -y mmdebstrap"
    if not _sources():
        return "this machine has no apt sources", choose_one
    return None


def os_release() -> dict[str, str]:
    """This system's name and release; empty where nothing says so."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _sources() -> list[str]:
    """apt's own source files of this machine."""
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    return [
        str(file) for file in files if file.suffix in (".list", ".sources") and file.is_file() and file.stat().st_size
    ]


def _transport() -> list[str]:
    """How this machine's apt reaches its mirrors (proxies, certificates): mmdebstrap reads none of that itself."""
    try:
        done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in done.stdout.splitlines() if line.startswith(("Acquire::http", "Acquire::Retries"))]


def _bootstrap(suite: str, archive: Path) -> None:
    """Blocks for half a minute. Raises Unavailable with the last words of mmdebstrap."""
    command = ["mmdebstrap", "--variant=minbase", "--include=python3,ca-certificates"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEAN]
    command += [f"--aptopt={line}" for line in _transport()]
    command += [suite, str(archive), *_sources()]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=_BOOTSTRAP_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise Unavailable(f"mmdebstrap did not work: {cause}") from cause
    if done.returncode != 0:
        raise Unavailable(f"mmdebstrap failed: {done.stderr.strip()[-500:]}")


def _import(client: Client, archive: Path, tag: str) -> None:
    repository, _, version = tag.partition(":")
    client.import_image_from_file(str(archive), repository=repository, tag=version)
