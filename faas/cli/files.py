"""Reads a folder of code: every file that is not ignored, links resolved, sizes bounded, nothing from outside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from faas.archive import File
from faas.cli.ignore import FILE, Ignore
from faas.errors import Invalid, TooLarge
from faas.model import MIB
from faas.units import show_size

BYTES_MAX = 50 * MIB
FILES_MAX = 20_000
_DEPTH_MAX = 64
_IGNORE_HINT = f"Remove it, or name it in {FILE}."


def read_file(path: Path) -> File:
    """One file, at most BYTES_MAX.

    Raises:
        Invalid: it cannot be read; TooLarge.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as opened:
            mode = os.fstat(opened.fileno()).st_mode
            content = opened.read(BYTES_MAX + 1)
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", hint="Check the path and its permissions.") from error
    if len(content) > BYTES_MAX:
        raise TooLarge(f"{path} is larger than {show_size(BYTES_MAX)}", hint="Keep data outside the code.")
    return File(content, bool(mode & stat.S_IXUSR))


def read_folder(folder: Path) -> dict[str, File]:
    """The code under `folder` by relative path.

    Raises:
        Invalid: a link that leaves the folder, loops or leads nowhere; a socket, pipe or device; no file at all.
        TooLarge: more than BYTES_MAX or FILES_MAX.
    """
    text = ""
    if (folder / FILE).is_file():
        text = read_file(folder / FILE).content.decode("utf-8", "replace")
    reader = _Reader(folder, Ignore(text))
    reader.walk(folder, "", (folder.resolve(),))
    if not reader.files:
        raise Invalid(f"{folder} has no files to push", hint=f"Add a handler, or look at {FILE}.")
    return reader.files


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe must not wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


class _Reader:
    """One walk: what has been read, and how much of it."""

    def __init__(self, root: Path, ignore: Ignore) -> None:
        self.root = root
        self.real = root.resolve()
        self.ignore = ignore
        self.files: dict[str, File] = {}
        self.total = 0

    def walk(self, folder: Path, prefix: str, above: tuple[Path, ...]) -> None:
        """Read `folder`. `above` has the real folders from the root down to it: a link into one is a loop."""
        if len(above) > _DEPTH_MAX:
            raise Invalid(f"{folder} is more than {_DEPTH_MAX} folders deep", hint=_IGNORE_HINT)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise Invalid(f"{folder} cannot be read: {error.strerror}", hint=_IGNORE_HINT) from error
        for entry in entries:
            path, relative = folder / entry.name, prefix + entry.name
            # A link to a folder is a folder here: patterns for folders apply to it.
            is_folder = os.path.isdir(path)
            if self.ignore(relative, folder=is_folder):
                continue
            real = self._inside(path, relative) if entry.is_symlink() else path
            if is_folder:
                target = real.resolve()
                if target in above:
                    raise Invalid(f"the link {relative} leads back to a folder above it", hint=_IGNORE_HINT)
                self.walk(path, relative + "/", (*above, target))
            else:
                self._add(real, relative)

    def _inside(self, path: Path, relative: str) -> Path:
        """Where the link `path` leads, which must be inside the root."""
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise Invalid(f"the link {relative} leads nowhere", hint=_IGNORE_HINT) from error
        if not target.is_relative_to(self.real):
            raise Invalid(
                f"the link {relative} leaves the folder: it leads to {target}",
                hint="Copy the file into the folder; only what is inside is pushed.",
            )
        return target

    def _add(self, path: Path, relative: str) -> None:
        try:
            status = path.stat()
        except OSError as error:
            raise Invalid(f"{relative} cannot be read: {error.strerror}", hint=_IGNORE_HINT) from error
        if not stat.S_ISREG(status.st_mode):
            raise Invalid(f"{relative} is a socket, pipe or device, not a file", hint=_IGNORE_HINT)
        self._check(relative, status.st_size)
        file = read_file(path)
        self.total += len(file.content)
        self._check(relative, 0)
        self.files[relative] = file

    def _check(self, relative: str, more: int) -> None:
        if len(self.files) >= FILES_MAX:
            raise TooLarge(f"{self.root} has more than {FILES_MAX} files", hint=f"Leave some out with {FILE}.")
        if self.total + more > BYTES_MAX:
            raise TooLarge(
                f"{self.root} has more than {show_size(BYTES_MAX)}; the limit was reached at {relative}",
                hint=f"Largest: {self._largest(relative, more)}. Leave data out with {FILE}.",
            )

    def _largest(self, relative: str, more: int) -> str:
        sizes = {path: len(file.content) for path, file in self.files.items()}
        sizes[relative] = max(more, sizes.get(relative, 0))
        top = sorted(sizes.items(), key=lambda item: -item[1])[:3]
        return ", ".join(f"{path} ({show_size(size)})" for path, size in top)
