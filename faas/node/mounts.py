"""Bind mounts of dependency bundles into instance directories, and their removal. Linux, root.

Mounting an existing directory takes constant time, whatever its size, so a function with numpy starts as fast
as one without. The source is a read-only view of the store, because a later remount of the bind itself would not
reach into containers that already run; the target lies below a shared mount, so that it does.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from faas.errors import Unavailable

_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_SHARED = 1, 32, 4096, 1 << 20
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: Path, target: Path, flags: int) -> None:
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def mounted_below(root: Path) -> list[Path]:
    """Mount points at or below `root`, deepest first. Octal escapes of mountinfo are undone."""
    found: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split(" ")[4].encode().decode("unicode_escape"))
        if point == root or root in point.parents:
            found.append(point)
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def share(directory: Path) -> bool:
    """Make `directory` a shared mount of its own, so that later mounts below it show up in containers.

    Returns False where mounting is not allowed: dependencies are then bound when a container is created.
    """
    try:
        if directory not in mounted_below(directory):
            _mount(directory, directory, _MS_BIND)
        if _libc.mount(None, os.fsencode(directory), None, _MS_SHARED, None) != 0:
            return False
    except OSError:
        return False
    return True


def read_only_view(store: Path, view: Path) -> Path:
    """A read-only bind of `store` at `view`; `store` itself where mounting is not allowed."""
    view.mkdir(mode=0o755, exist_ok=True)
    try:
        if view not in mounted_below(view):
            _mount(store, view, _MS_BIND)
            _mount(store, view, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    except OSError:
        unbind(view)
        return store
    return view


def bind(source: Path, target: Path) -> None:
    """Show `source` at `target`. Raises Unavailable with the cause."""
    try:
        _mount(source, target, _MS_BIND)
    except OSError as cause:
        raise Unavailable(
            f"dependencies could not be mounted: {cause.strerror}",
            hint="The node needs CAP_SYS_ADMIN to mount, or a driver that binds at start.",
        ) from cause


def unbind(target: Path) -> None:
    """Detach `target`; not being mounted is fine."""
    _libc.umount2(os.fsencode(target), _MNT_DETACH)


def sweep(root: Path) -> int:
    """Detach every mount at or below `root`: what a killed node left behind. Returns how many."""
    points = mounted_below(root)
    for point in points:
        unbind(point)
    return len(points)
