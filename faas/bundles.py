"""Unpacked code bundles on this node's disk, by digest: written once, then linked or copied into instances.

    ROOT/<sha256>/...     complete and never changed: files 0444 or 0555, directories 0755
    ROOT/.tmp-*           being written, or left by a crash; swept when the store opens

A bundle appears by one rename, so a reader sees all of it or none. Everything here blocks: call it through
a thread, except `materialise` of small bundles (about 24 us a file). No `.pyc` files are written: they would
have to match the runtime's Python, not the node's, and a small module compiles faster than the bookkeeping is
worth; a runtime may compile into its own directory.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from faas.archive import DEFAULT_LIMITS, Digester, File, Limits, unpack
from faas.errors import Invalid, NotFound, Unavailable

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEMP = ".tmp-"


class BundleStore:
    """The store under `root`, created if missing. One store a data directory: opening it sweeps leftovers.

    Raises:
        Unavailable: the directory cannot be made or written.
    """

    def __init__(self, root: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self.root = root
        self._limits = limits
        try:
            root.mkdir(mode=0o755, parents=True, exist_ok=True)
            for left in root.glob(f"{_TEMP}*"):
                shutil.rmtree(left, ignore_errors=True)
        except OSError as cause:
            raise _unwritable(root, cause) from cause

    def has(self, sha: str) -> bool:
        """True when the bundle is complete on this node."""
        return (self.root / check_digest(sha)).is_dir()

    def path(self, sha: str) -> Path:
        """Its directory. Raises NotFound when it is not on this node."""
        path = self.root / check_digest(sha)
        if not path.is_dir():
            raise NotFound(f"code bundle {sha[:12]} is not on this node", hint="Push the function again.")
        return path

    def add(self, sha: str, data: bytes) -> Path:
        """Unpack the archive `data`, check that its digest is `sha`, and keep it; returns its directory.

        Adding twice, or from several threads at once, is fine. On return it survives a power failure.

        Raises:
            Invalid, TooLarge: the archive is refused (see `faas.archive.unpack`), or has another digest.
            Unavailable: the disk is full or cannot be written.
        """
        final = self.root / check_digest(sha)
        if final.is_dir():
            return final
        try:
            temp = Path(tempfile.mkdtemp(prefix=_TEMP, dir=self.root))
        except OSError as cause:
            raise _unwritable(self.root, cause) from cause
        try:
            _write_tree(temp, sha, data, self._limits)
            _rename(temp, final)
            _fsync(self.root)
        except OSError as cause:
            raise _unwritable(self.root, cause) from cause
        finally:
            shutil.rmtree(temp, ignore_errors=True)
        return final

    @contextmanager
    def room(self) -> Iterator[Path]:
        """An empty directory beside the bundles, for `adopt`; removed at the end. Raises Unavailable."""
        try:
            temp = Path(tempfile.mkdtemp(prefix=_TEMP, dir=self.root))
        except OSError as cause:
            raise _unwritable(self.root, cause) from cause
        try:
            yield temp
        finally:
            shutil.rmtree(temp, ignore_errors=True)

    def adopt(self, sha: str, tree: Path) -> Path:
        """Make `tree`, inside a `room`, the bundle `sha`; returns its directory. On return it survives a power failure.

        Whoever gives it has made it what `sha` names, readable and never to be changed. Where there is one already,
        that one stays. Raises Unavailable.
        """
        final = self.root / check_digest(sha)
        try:
            os.sync()  # thousands of small files: one by one takes longer than all there is to write
            _rename(tree, final)
            os.utime(final)
            _fsync(self.root)
        except OSError as cause:
            raise _unwritable(self.root, cause) from cause
        return final

    def materialise(self, sha: str, dest: Path, link: bool) -> None:
        """Make `dest` (absent, or an empty directory) a copy of the bundle.

        Args:
            link: hard-link the files; only for instances that cannot write to them, as the bytes are shared.

        Raises:
            NotFound: the bundle is not on this node.
            Unavailable: `dest` is in use or cannot be written; what is there by then is the caller's.
        """
        source = self.path(sha)
        try:
            dest.mkdir(mode=0o755, exist_ok=True)
            _clone(os.fspath(source), os.fspath(dest), link)
        except OSError as cause:
            raise _unwritable(dest, cause) from cause

    def remove(self, sha: str) -> None:
        """Forget a bundle. Unknown ones are fine; instances keep their linked files."""
        path = self.root / check_digest(sha)
        try:
            with tempfile.TemporaryDirectory(prefix=_TEMP, dir=self.root, ignore_cleanup_errors=True) as trash:
                path.rename(Path(trash) / "bundle")
        except FileNotFoundError:
            return
        except OSError as cause:
            raise _unwritable(self.root, cause) from cause

    def touch(self, sha: str) -> bool:
        """Say that a bundle is wanted, so that `remove_idle` spares it; False when it is not on this node."""
        try:
            os.utime(self.root / check_digest(sha))
        except FileNotFoundError:
            return False
        except OSError as cause:
            raise _unwritable(self.root, cause) from cause
        return True

    def idle(self, before: float) -> list[str]:
        """Digests that were neither added nor touched since `before` (Unix seconds), sorted."""
        return [sha for sha in self.all() if self._untouched(sha, before)]

    def remove_idle(self, shas: Iterable[str], before: float) -> int:
        """Remove these, except those added or touched since `before`. Returns how many went."""
        removed = 0
        for sha in shas:
            if self._untouched(sha, before):
                self.remove(sha)
                removed += 1
        return removed

    def _untouched(self, sha: str, before: float) -> bool:
        try:
            return (self.root / sha).stat().st_mtime <= before
        except OSError:
            return False

    def all(self) -> list[str]:
        """Digests of every complete bundle, sorted."""
        return sorted(entry.name for entry in os.scandir(self.root) if _DIGEST.fullmatch(entry.name))


def check_digest(sha: str) -> str:
    """`sha` itself. Raises Invalid when it is not 64 lower-case hex digits."""
    if not _DIGEST.fullmatch(sha):
        raise Invalid(f"{sha[:80]!r} is not a bundle digest: 64 lower-case hex digits")
    return sha


def _write_tree(root: Path, sha: str, data: bytes, limits: Limits) -> None:
    """Write first, sync after: the first fsync then carries most of the rest."""
    digester, written, directories = Digester(), [], {root}
    for name, file in unpack(data, limits):
        digester.add(name, file)
        path = root / name
        if path.parent not in directories:
            path.parent.mkdir(parents=True)
            parent = path.parent
            while parent not in directories:
                directories.add(parent)
                parent = parent.parent
        _write(path, file)
        written.append(path)
    digester.check(sha)
    for directory in directories:
        directory.chmod(0o755)
    for path in (*written, *directories):
        _fsync(path)


def _write(path: Path, file: File) -> None:
    mode = 0o555 if file.executable else 0o444
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(fd, "wb") as stream:
        stream.write(file.content)
        os.fchmod(stream.fileno(), mode)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _rename(temp: Path, final: Path) -> None:
    try:
        temp.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not final.is_dir():
            raise


def _clone(source: str, dest: str, link: bool) -> None:
    with os.scandir(source) as found:
        entries = list(found)
    for entry in entries:
        target = f"{dest}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            os.mkdir(target)
            os.chmod(target, 0o755)  # noqa: S103 (the instance's user must read it; mkdir obeys the umask)
            _clone(entry.path, target, link)
        elif not (link and _linked(entry.path, target)):
            shutil.copyfile(entry.path, target)
            shutil.copymode(entry.path, target)


def _linked(source: str, target: str) -> bool:
    """False where this pair cannot be hard-linked: another file system, or the inode's links are used up."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EMLINK, errno.EPERM):
            return False
        raise
    return True


def _unwritable(path: Path, cause: OSError) -> Unavailable:
    return Unavailable(
        f"cannot write {path}: {cause.strerror or cause}",
        hint="Check free space and permissions of the data directory.",
    )
