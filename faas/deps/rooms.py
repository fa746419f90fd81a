"""A directory that code of others wrote into. Nothing here follows a link or waits for what it finds.

Everything blocks: call it through a thread.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path


def read_plain(path: Path, limit: int) -> str:
    """The end of a regular file, at most `limit` bytes as text; empty for anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(fd, "rb") as stream:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return ""
        stream.seek(max(0, status.st_size - limit))
        return stream.read(limit).decode("utf-8", "replace")


def size_of(root: Path) -> int:
    """Bytes on disk of everything below `root`; what vanishes meanwhile counts nothing."""
    return sum(status.st_blocks * 512 for _, status in _walk(root))


def seal(root: Path) -> None:
    """Make `root` what a bundle is: ours, readable by all, writable by none, of files, links and folders only."""
    me, group = os.geteuid(), os.getegid()
    os.chmod(root, 0o755)  # noqa: S103 (instances read it)
    for path, status in list(_walk(root)):
        if stat.S_ISLNK(status.st_mode):
            _take(path, status, me, group)
        elif stat.S_ISDIR(status.st_mode):
            _take(path, status, me, group)
            os.chmod(path, 0o755)  # noqa: S103 (instances read it)
        elif stat.S_ISREG(status.st_mode):
            _take(path, status, me, group)
            os.chmod(path, 0o555 if status.st_mode & 0o111 else 0o444)
        else:
            os.unlink(path)
    _take(str(root), os.lstat(root), me, group)


def clear(root: Path, but: str) -> None:
    """Remove everything in `root` except the entry called `but`."""
    for entry in os.scandir(root):
        if entry.name == but:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


def _take(path: str, status: os.stat_result, owner: int, group: int) -> None:
    if (status.st_uid, status.st_gid) != (owner, group) and os.geteuid() == 0:
        os.chown(path, owner, group, follow_symlinks=False)


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path and status of everything below `root`, folders before what is in them."""
    todo = [str(root)]
    while todo:
        try:
            with os.scandir(todo.pop()) as found:
                entries = list(found)
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield entry.path, status
            if stat.S_ISDIR(status.st_mode):
                todo.append(entry.path)
