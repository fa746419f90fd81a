"""What differs between two versions: settings key by key, files by name, text files line by line. Bounded."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from faas.model import Settings, Version
from faas.settings import show_settings

TEXT_MAX = 128 * 1024
"""Largest text file compared line by line, in bytes."""
LINES_MAX = 2_000
PATCH_MAX = 64 * 1024
"""Longest patch of one file, in characters."""
PATCHES_MAX = 512 * 1024
"""Most characters of patches in all."""
FILES_MAX = 1_000
"""Most files listed."""
PATCHES_S = 3.0
"""Longest time spent on comparing lines."""
_CHUNK = 256 * 1024


class SettingChange(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, in the form a manifest has it; null: the default."""

    key: str
    old: Any
    new: Any


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """One file. `patch` is a unified diff; empty, with the reason in `note`, when there is none to show."""

    path: str
    change: Literal["added", "removed", "changed"]
    patch: str = ""
    note: str = ""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a version changed against an earlier one, without looking into files."""

    code: bool
    dependencies: bool
    settings: list[SettingChange]


class Diff(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Two versions compared. `more_files`: files that differ beyond those listed."""

    from_: int
    to: int
    settings: list[SettingChange]
    dependencies: bool
    files: list[FileChange]
    more_files: int


def changes(old: Version, new: Version) -> Changes:
    """What `new` changed."""
    return Changes(
        code=old.code != new.code,
        dependencies=old.deps != new.deps,
        settings=setting_changes(old.settings, new.settings),
    )


def setting_changes(old: Settings, new: Settings) -> list[SettingChange]:
    """Settings that differ, in the order of the manual."""
    before, after = show_settings(old), show_settings(new)
    keys = dict.fromkeys((*before, *after))
    return [
        SettingChange(key=key, old=before.get(key), new=after.get(key))
        for key in keys
        if before.get(key) != after.get(key)
    ]


def diff_files(old: Path, new: Path) -> tuple[list[FileChange], int]:
    """Files that differ between two folders, by path, and how many more there are. Blocking.

    Raises:
        OSError: a folder went away.
    """
    before, after = dict(_files(old)), dict(_files(new))
    differing = [
        path
        for path in sorted({*before, *after})
        if path not in before or path not in after or not _same(before[path], after[path])
    ]
    budget, deadline = PATCHES_MAX, time.monotonic() + PATCHES_S
    found = []
    for path in differing[:FILES_MAX]:
        if budget <= 0 or time.monotonic() > deadline:
            change = FileChange(path=path, change=_kind(path, before, after), note="too much to show")
        else:
            change = _change(path, before, after)
        budget -= len(change.patch)
        found.append(change)
    return found, len(differing) - len(found)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, _, names in os.walk(root, onerror=_raise):
        for name in names:
            path = Path(folder, name)
            yield path.relative_to(root).as_posix(), path


def _raise(error: OSError) -> None:
    raise error


def _same(old: Path, new: Path) -> bool:
    before, after = old.stat(), new.stat()
    if before.st_size != after.st_size or _executable(before.st_mode) != _executable(after.st_mode):
        return False
    with old.open("rb") as left, new.open("rb") as right:
        while chunk := left.read(_CHUNK):
            if chunk != right.read(_CHUNK):
                return False
    return True


def _executable(mode: int) -> bool:
    return bool(mode & 0o100)


def _kind(path: str, before: dict[str, Path], after: dict[str, Path]) -> Literal["added", "removed", "changed"]:
    if path not in before:
        return "added"
    return "changed" if path in after else "removed"


def _change(path: str, before: dict[str, Path], after: dict[str, Path]) -> FileChange:
    kind = _kind(path, before, after)
    old, new = before.get(path), after.get(path)
    left, right = _lines(old), _lines(new)
    if isinstance(left, str) or isinstance(right, str):
        note = left if isinstance(left, str) else str(right)
        return FileChange(path=path, change=kind, note=note)
    names = (f"a/{path}" if old else "/dev/null", f"b/{path}" if new else "/dev/null")
    patch = "".join(_whole(line) for line in difflib.unified_diff(left, right, *names))
    if not patch:
        return FileChange(path=path, change=kind, note="empty" if kind != "changed" else "executable flag changed")
    if len(patch) > PATCH_MAX:
        return FileChange(path=path, change=kind, patch=patch[:PATCH_MAX], note="the patch is cut here")
    return FileChange(path=path, change=kind, patch=patch)


def _whole(line: str) -> str:
    return line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"


def _lines(path: Path | None) -> list[str] | str:
    """Its lines, or why it is not compared by line."""
    if path is None:
        return []
    if path.stat().st_size > TEXT_MAX:
        return "too large to compare by line"
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "binary"
    if "\0" in text:
        return "binary"
    lines = text.split("\n")
    if len(lines) > LINES_MAX:
        return "too many lines to compare"
    # Not splitlines: only line feeds end lines in a patch.
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
