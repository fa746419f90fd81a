"""How often the kernel has killed something in our control group for lack of memory. cgroup v1 and v2."""

from __future__ import annotations

import os


class OomCounter:
    """Reads the `oom_kill` counter; without a readable one it stays at 0 and nothing counts as out of memory."""

    def __init__(self) -> None:
        self._path = _find()

    def read(self) -> int:
        if self._path is None:
            return 0
        try:
            with open(self._path, "rb") as file:
                lines = file.read(4096).split(b"\n")
        except OSError:
            return 0
        for line in lines:
            word, _, count = line.partition(b" ")
            if word == b"oom_kill" and count.strip().isdigit():
                return int(count)
        return 0


def _find() -> str | None:
    for mount, root, kind in _mounts():
        name = "memory.events" if kind == "cgroup2" else "memory.oom_control"
        below = _own_group(kind, root)
        for folder in (os.path.join(mount, below), mount):
            path = os.path.join(folder, name)
            if os.access(path, os.R_OK):
                return path
    return None


def _mounts() -> list[tuple[str, str, str]]:
    """(mount point, root inside the hierarchy, kind) of every control group file system with memory, v1 first."""
    found = []
    for line in _read_lines("/proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        fields, kinds = left.split(), right.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2" or (kinds[0] == "cgroup" and "memory" in kinds[2].split(",")):
            found.append((fields[4], fields[3], kinds[0]))
    return sorted(found, key=lambda mount: mount[2])


def _own_group(kind: str, root: str) -> str:
    """Our group's path below `root`; empty when the mount shows only our group, as in a container."""
    for line in _read_lines("/proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        wanted = number == "0" if kind == "cgroup2" else "memory" in controllers.split(",")
        if wanted:
            inside = os.path.relpath(path, root) if path.startswith(root) else ""
            return "" if inside.startswith("..") or inside == "." else inside
    return ""


def _read_lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
