"""Makes a directory a shared mount, so that what is bound below it later shows up inside running containers."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import NamedTuple

MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 0x1000
MS_SHARED = 1 << 20
MNT_DETACH = 2
_CAP_SYS_ADMIN = 21

_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of mountinfo: what the kernel knows about one mount point."""

    point: Path
    root: str
    """Path within the mounted file system; not `/` for the bind of a directory."""
    shared: bool


def mounts() -> list[Mount]:
    """All mounts of this process' namespace, oldest first."""
    found = []
    # A mount point's name is bytes; surrogates keep names that are not UTF-8.
    text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    for line in text.splitlines():
        fields, _, _ = line.partition(" - ")
        parts = fields.split(" ")
        point = _ESCAPE.sub(lambda m: chr(int(m[1], 8)), parts[4])
        found.append(Mount(Path(point), parts[3], any(tag.startswith("shared:") for tag in parts[6:])))
    return found


def mount_of(path: Path, known: list[Mount]) -> Mount:
    """The mount `path` lives on: the longest mount point above it, the latest when stacked."""
    best = Mount(Path("/"), "/", False)
    for mount in known:
        if path.is_relative_to(mount.point) and len(mount.point.parts) >= len(best.point.parts):
            best = mount
    return best


def may_mount() -> bool:
    """True when this process has CAP_SYS_ADMIN. Root has it not always: not in most containers."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def share(path: Path) -> bool:
    """Make `path` part of a shared mount; True if it is one now.

    A directory that is not on a shared mount is bound onto itself first. Repeating it changes nothing. False for
    a process that may not mount, even where the mount is shared: it could not bind anything below it later.
    """
    path = path.resolve()
    if not may_mount():
        return False
    if mount_of(path, mounts()).shared:
        return True
    try:
        bind(path, path)
        _mount(None, path, MS_SHARED)
    except OSError:
        return False
    return mount_of(path, mounts()).shared


def unshare(path: Path) -> None:
    """Undo `share`: detach the bind of `path` onto itself, whichever run made it. Nothing to undo is fine."""
    path = path.resolve()
    mount = mount_of(path, mounts())
    if mount.point == path and mount.root != "/" and mount.shared and may_mount():
        detach(path)


def bind(source: Path, target: Path) -> None:
    """Bind `source` onto `target`. Raises OSError."""
    _mount(source, target, MS_BIND)


def bind_read_only(source: Path, target: Path) -> None:
    """Bind `source` onto `target` so that nothing can be written through it. Raises OSError."""
    bind(source, target)
    _mount(source, target, MS_BIND | MS_REMOUNT | MS_RDONLY)


def detach(target: Path) -> None:
    """Lazily unmount `target`. Raises OSError."""
    if _libc().umount2(os.fsencode(target), MNT_DETACH) != 0:
        raise _last_error(target)


def _mount(source: Path | None, target: Path, flags: int) -> None:
    origin = None if source is None else os.fsencode(source)
    if _libc().mount(origin, os.fsencode(target), None, flags, None) != 0:
        raise _last_error(target)


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
    return libc


def _last_error(target: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(target))
