"""Versions compared: settings, files, lines; and nothing that takes for ever."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from faas.control.diff import LINES_MAX, PATCH_MAX, TEXT_MAX, SettingChange, changes, diff_files, setting_changes
from faas.model import Settings, Version


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    root.mkdir(exist_ok=True)
    return root


def compare(tmp_path: Path, old: dict[str, bytes], new: dict[str, bytes]) -> list[tuple[str, str, str, str]]:
    found, more = diff_files(tree(tmp_path / "old", old), tree(tmp_path / "new", new))
    assert more == 0
    return [(change.path, change.change, change.patch, change.note) for change in found]


def test_files(tmp_path: Path) -> None:
    old = {"a.py": b"x = 1\ny = 2\n", "gone.py": b"1", "same.py": b"s", "lib/b.bin": b"\x00\x01"}
    new = {"a.py": b"x = 1\ny = 3\n", "new.py": b"n\n", "same.py": b"s", "lib/b.bin": b"\x00\x02"}
    assert compare(tmp_path, old, new) == [
        ("a.py", "changed", "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n x = 1\n-y = 2\n+y = 3\n", ""),
        ("gone.py", "removed", "--- a/gone.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n\\ No newline at end of file\n", ""),
        ("lib/b.bin", "changed", "", "binary"),
        ("new.py", "added", "--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+n\n", ""),
    ]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "binary"),
        (b"x" * (TEXT_MAX + 1), "too large to compare by line"),
        (b"\n" * (LINES_MAX + 1), "too many lines to compare"),
    ],
)
def test_what_has_no_patch_says_why(tmp_path: Path, content: bytes, note: str) -> None:
    assert compare(tmp_path, {}, {"f": content}) == [("f", "added", "", note)]


def test_the_executable_flag_counts(tmp_path: Path) -> None:
    old, new = tree(tmp_path / "old", {"run": b"x"}), tree(tmp_path / "new", {"run": b"x"})
    (new / "run").chmod(0o755)
    (found,), _ = diff_files(old, new)
    assert (found.change, found.note) == ("changed", "executable flag changed")


def test_long_patches_are_cut(tmp_path: Path) -> None:
    ((_, _, patch, note),) = compare(tmp_path, {}, {"f": b"y" * 120 + b"\n" + (b"x" * 60 + b"\n") * 1900})
    assert (len(patch), note) == (PATCH_MAX, "the patch is cut here")


def test_many_files_are_bounded(tmp_path: Path) -> None:
    new = tree(tmp_path / "new", {f"{n:04}": b"line\n" * 200 for n in range(1500)})
    found, more = diff_files(tree(tmp_path / "old", {}), new)
    assert (len(found), more) == (1000, 500)
    assert found[-1].note == "too much to show"
    assert sum(len(change.patch) for change in found) < 600 * 1024


def test_the_worst_texts_take_bounded_time(tmp_path: Path) -> None:
    words, dice = [f"{n}\n" for n in range(20)], random.Random(1)
    old, new = ({f"{n}": "".join(dice.choices(words, k=2000)).encode() for n in range(40)} for _ in "12")
    began = time.perf_counter()
    found = compare(tmp_path, old, new)
    assert time.perf_counter() - began < 20
    assert len(found) == 40


def test_settings() -> None:
    old, new = Settings(memory=1 << 26, timeout_s=5), Settings(timeout_s=10, env={"A": "1"})
    assert setting_changes(old, new) == [
        SettingChange(key="memory", old="64MiB", new=None),
        SettingChange(key="timeout", old="5s", new="10s"),
        SettingChange(key="env", old=None, new={"A": "1"}),
    ]
    before, after = Version(number=1, code="a", settings=old), Version(number=2, code="a", deps="d", settings=old)
    assert (changes(before, after).code, changes(before, after).dependencies) == (False, True)
