"""A node's directory on disk: locked while the node runs, laid out here and nowhere else.

DATA/lock  node-id  driver        who this is, and the driver chosen at the first start
DATA/store/SHA                    unpacked bundles          DATA/view    the same, read-only
DATA/instances/ID                 one directory an instance
DATA/logs/APP/NAME  redis/  admin-token  secret-key
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from faas.errors import Conflict, Unavailable
from faas.ids import is_id, new_id
from faas.node import mounts

log = structlog.get_logger(__name__)


class DataDir:
    """A context manager that holds the lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.instances = root / "instances"
        self.store = root / "store"
        self.logs = root / "logs"
        self.shown = self.store
        """Where dependencies are mounted from now, see `view`."""
        self._lock = -1

    def __enter__(self) -> Self:
        """Create, lock, and clear what a killed node left behind.

        Raises:
            Conflict: another node uses it. Unavailable: it cannot be written.
        """
        try:
            self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._take_lock()
            mounts.sweep(self.instances)
            shutil.rmtree(self.instances, ignore_errors=True)
            # Containers enter through this path: they may pass, not look around.
            self.root.chmod(0o711)
            self.instances.mkdir(mode=0o711, exist_ok=True)
            self.instances.chmod(0o711)
            self.store.mkdir(mode=0o755, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as cause:
            raise Unavailable(
                f"the data directory {self.root} cannot be used: {cause.strerror}",
                hint="Give another one with --data-dir, or correct its owner and free space.",
            ) from cause
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mounts.sweep(self.instances)
        shutil.rmtree(self.instances, ignore_errors=True)
        os.close(self._lock)

    def _take_lock(self) -> None:
        self._lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._lock, 32).decode(errors="replace").strip()
            os.close(self._lock)
            raise Conflict(
                f"another node (process {owner or 'unknown'}) uses the data directory {self.root}",
                hint="Stop it, or give this node its own --data-dir.",
            ) from None
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())

    @contextmanager
    def view(self, *, mountable: bool) -> Iterator[Path]:
        """Where dependencies are mounted from: the store, read-only. Enter it after the driver, which may mount `root`.

        Args:
            mountable: the driver shows later mounts to instances. False: nothing is mounted, and this is the store.
        """
        if not mountable:
            yield self.store
            return
        view = self.root / "view"
        mounts.sweep(view)  # of a killed node
        try:
            self.shown = mounts.read_only_view(self.store, view)
            yield self.shown
        finally:
            self.shown = self.store
            mounts.sweep(view)

    def node_id(self) -> str:
        """This node's id, made at its first start."""
        path = self.root / "node-id"
        if path.exists() and is_id(known := path.read_text().strip()):
            return known
        fresh = new_id("n")
        path.write_text(fresh + "\n")
        return fresh

    def driver(self) -> str:
        """The driver recorded at the first start; empty before it."""
        path = self.root / "driver"
        return path.read_text().strip() if path.exists() else ""

    def record_driver(self, name: str) -> None:
        """Keep the choice: it never changes silently."""
        (self.root / "driver").write_text(name + "\n")
