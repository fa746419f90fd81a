"""What a container uses, read from its cgroup's files: version 1 and 2, cgroupfs and systemd layouts."""

from __future__ import annotations

from pathlib import Path

from faas.drivers.api import Usage

ROOT = Path("/sys/fs/cgroup")
# Where an engine puts the container ID, relative to the hierarchy's root.
_LAYOUTS = ("docker/{id}", "system.slice/docker-{id}.scope", "user.slice/docker-{id}.scope")


def usage(container: str, root: Path = ROOT) -> Usage | None:
    """Usage of the container with this full id; None when no cgroup of it is there (any more)."""
    unified = (root / "cgroup.controllers").exists()
    for layout in _LAYOUTS:
        path = layout.format(id=container)
        try:
            return _v2(root / path) if unified else _v1(root, path)
        except (OSError, ValueError, KeyError):
            continue
    return None


def _v1(root: Path, path: str) -> Usage:
    memory = root / "memory" / path
    used = int((memory / "memory.usage_in_bytes").read_text())
    droppable = _table(memory / "memory.stat")["total_inactive_file"]
    nanoseconds = int((root / "cpuacct" / path / "cpuacct.usage").read_text())
    return Usage(memory=max(0, used - droppable), cpu_s=nanoseconds / 1e9)


def _v2(group: Path) -> Usage:
    used = int((group / "memory.current").read_text())
    droppable = _table(group / "memory.stat")["inactive_file"]
    microseconds = _table(group / "cpu.stat")["usage_usec"]
    return Usage(memory=max(0, used - droppable), cpu_s=microseconds / 1e6)


def _table(path: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}
