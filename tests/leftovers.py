"""What a test must not leave behind: containers, mounts, sockets, processes."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import docker
import msgspec

from tests.support import missing, wait_until, wait_until_sync


class Leftovers(msgspec.Struct, frozen=True):
    """What there is at one moment. `a - b` is what `a` has and `b` had not."""

    containers: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()
    sockets: frozenset[str] = frozenset()
    processes: frozenset[str] = frozenset()

    def __sub__(self, before: Leftovers) -> Leftovers:
        return Leftovers(
            self.containers - before.containers,
            self.mounts - before.mounts,
            self.sockets - before.sockets,
            self.processes - before.processes,
        )

    def __bool__(self) -> bool:
        return any((self.containers, self.mounts, self.sockets, self.processes))


def look(under: Path, *, labels: Mapping[str, str] | None = None, running_only: bool = False) -> Leftovers:
    """What there is now: mounts, sockets and processes that have to do with the directory `under`, and containers.

    Args:
        labels: of the containers to count, besides `faas=1`. None: count no containers.
        running_only: leave out containers that have ended.
    """
    return Leftovers(
        frozenset() if labels is None else frozenset(_containers(labels, running_only)),
        frozenset(_mounts(under)),
        frozenset(_sockets(under)),
        frozenset(_processes(under)),
    )


async def assert_nothing_left(
    under: Path,
    before: Leftovers | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    kinds: Collection[str] = Leftovers.__struct_fields__,
    running_only: bool = False,
    timeout: float = 10.0,
) -> None:
    """Wait until nothing is there that was not there `before`; processes may need a moment to end.

    Args:
        labels, running_only: as for `look`.
        kinds: which kinds count, by their names in `Leftovers`.
        timeout: seconds to wait.

    Raises:
        AssertionError: listing what is left.
    """
    last: list[str] = []

    def clean() -> bool:
        found = look(under, labels=labels, running_only=running_only) - (before or Leftovers())
        last[:] = [f"{kind}: {thing}" for kind in kinds for thing in sorted(getattr(found, kind))]
        return not last

    try:
        await wait_until(clean, timeout, "nothing left behind")
    except AssertionError:
        raise AssertionError(f"left behind after {timeout:g} s:\n  " + "\n  ".join(last)) from None


def clear(under: Path, labels: Mapping[str, str]) -> None:
    """Remove containers with `faas=1` and `labels`, and mounts below `under`: what a node killed for good leaves."""
    for point in sorted(_mounts(under), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=True, timeout=10)
    if missing("docker"):
        return
    client = docker.from_env(timeout=30)
    try:
        for line in list(_containers(labels, running_only=False)):
            # Gone meanwhile, or being removed: the last wish of the node may still be on its way.
            with contextlib.suppress(docker.errors.APIError):
                client.api.remove_container(line.split(" ")[0], force=True)
        wait_until_sync(lambda: not list(_containers(labels, running_only=False)), 10, "the containers are removed")
    finally:
        client.close()


def _containers(labels: Mapping[str, str], running_only: bool) -> Iterator[str]:
    if missing("docker"):
        return
    client = docker.from_env(timeout=10)
    try:
        wanted = ["faas=1", *(f"{name}={value}" for name, value in labels.items())]
        for found in client.api.containers(all=not running_only, filters={"label": wanted}):
            yield f"{found['Id'][:12]} {found['State']} {found['Labels'].get('faas.instance', '')}"
    finally:
        client.close()


def _mounts(under: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ")[4].encode().decode("unicode_escape")  # a space is written \040
        if Path(point).is_relative_to(under):
            yield point


def _sockets(under: Path) -> Iterator[str]:
    for folder, _, names in os.walk(under):
        for name in names:
            path = Path(folder, name)
            try:
                if stat.S_ISSOCK(path.lstat().st_mode):
                    yield str(path)
            except FileNotFoundError:
                continue


def _processes(under: Path) -> Iterator[str]:
    """Processes whose arguments, environment or working directory name `under`; we and our parents do not count."""
    needle = os.fsencode(under)
    family = set(_ancestors(os.getpid()))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in family:
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            variables = (entry / "environ").read_bytes()
            folder = os.fsencode((entry / "cwd").readlink())
        except OSError:  # ended meanwhile, a zombie, or another user's
            continue
        if any(needle in text for text in (command, variables, folder)):
            yield f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace').strip()}"


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        # The name in parentheses may hold anything; the parent is the second field after it.
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
