"""Notes on disk about started processes, so that the node's next life can find and end what this one left."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Record(msgspec.Struct, frozen=True):
    """A process of an instance: pid and start time (clock ticks after boot) together name it."""

    instance: str
    node: str
    pid: int
    start: int
    boot: str
    """The kernel's boot id: after a reboot both numbers mean nothing."""


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Records:
    """One small file an instance in `folder`. Blocking, microseconds each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boot = boot_id()

    def open(self) -> None:
        """Make the folder. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, instance: str, node: str, pid: int, start: int) -> None:
        """Raises OSError."""
        record = Record(instance, node, pid, start, self._boot)
        path = self._path(instance)
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(record))
        os.replace(new, path)

    def remove(self, instance: str) -> None:
        self._path(instance).unlink(missing_ok=True)

    def all(self) -> list[Record]:
        """What is noted for this boot; older and broken notes are thrown away."""
        found = []
        for path in self._folder.glob("*.json"):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=Record)
            except (OSError, msgspec.DecodeError):
                path.unlink(missing_ok=True)
                continue
            if record.boot == self._boot:
                found.append(record)
            else:
                path.unlink(missing_ok=True)
        return found

    def get(self, instance: str) -> Record | None:
        return next((record for record in self.all() if record.instance == instance), None)

    def _path(self, instance: str) -> Path:
        if not _SAFE.fullmatch(instance):
            raise ValueError(f"{instance!r} cannot be the name of a file")
        return self._folder / f"{instance}.json"
