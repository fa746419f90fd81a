"""The local bundle store: whole or not at all, at once from many threads, linked or copied."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faas.archive import File, Limits, pack
from faas.bundles import BundleStore
from faas.errors import Invalid, NotFound, TooLarge, Unavailable

FILES = {"app.py": File(b"x = 1\n"), "pkg/sub/m.py": File(b""), "bin/run": File(b"#!/bin/sh\n", executable=True)}
ARCHIVE = pack(FILES)


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore(tmp_path / "bundles")


def _tree(root: Path) -> dict[str, tuple[bytes, int]]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mode & 0o7777) for p in found}


EXPECTED = {path: (file.content, 0o555 if file.executable else 0o444) for path, file in FILES.items()}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_add_keeps_files_with_fixed_modes(store: BundleStore, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = store.add(ARCHIVE.digest, ARCHIVE.data)
    finally:
        os.umask(before)
    assert _tree(path) == EXPECTED
    assert {p.stat().st_mode & 0o7777 for p in (path, *path.rglob("*")) if p.is_dir()} == {0o755}
    assert store.has(ARCHIVE.digest)
    assert store.path(ARCHIVE.digest) == path
    assert store.all() == [ARCHIVE.digest]


def test_ten_at_once_give_one(store: BundleStore) -> None:
    barrier = threading.Barrier(10)

    def add(_: int) -> Path:
        barrier.wait(10)
        return store.add(ARCHIVE.digest, ARCHIVE.data)

    with ThreadPoolExecutor(10) as threads:
        paths = set(threads.map(add, range(10)))
    assert len(paths) == 1
    assert _tree(paths.pop()) == EXPECTED
    assert os.listdir(store.root) == [ARCHIVE.digest]


def test_a_refused_archive_leaves_nothing(store: BundleStore) -> None:
    with pytest.raises(Invalid, match="digest"):
        store.add("0" * 64, ARCHIVE.data)
    with pytest.raises(Invalid):
        store.add(ARCHIVE.digest, ARCHIVE.data[:40])
    with pytest.raises(Invalid, match="64 lower-case"):
        store.add("../x", ARCHIVE.data)
    assert os.listdir(store.root) == []


def test_limits_apply(tmp_path: Path) -> None:
    store = BundleStore(tmp_path / "b", limits=Limits(files=2))
    with pytest.raises(TooLarge):
        store.add(ARCHIVE.digest, ARCHIVE.data)
    assert os.listdir(store.root) == []


def test_the_next_start_sweeps_what_a_crash_left(store: BundleStore) -> None:
    store.add(ARCHIVE.digest, ARCHIVE.data)
    left = store.root / ".tmp-crashed" / "deep"
    left.mkdir(parents=True)
    (left / "f").write_bytes(b"")
    assert store.all() == [ARCHIVE.digest]
    again = BundleStore(store.root)
    assert os.listdir(again.root) == [ARCHIVE.digest]


@pytest.mark.parametrize("link", [True, False])
def test_materialise(store: BundleStore, tmp_path: Path, link: bool) -> None:
    path = store.add(ARCHIVE.digest, ARCHIVE.data)
    dest = tmp_path / "code"
    store.materialise(ARCHIVE.digest, dest, link)
    assert _tree(dest) == EXPECTED
    assert os.path.samefile(dest / "app.py", path / "app.py") is link
    assert (dest / "pkg/sub").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_materialise_copies_where_links_do_not_work(
    store: BundleStore, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no")

    store.add(ARCHIVE.digest, ARCHIVE.data)
    monkeypatch.setattr(os, "link", refuse)
    store.materialise(ARCHIVE.digest, tmp_path / "code", link=True)
    assert _tree(tmp_path / "code") == EXPECTED


def test_materialise_over_something_is_an_error(store: BundleStore, tmp_path: Path) -> None:
    store.add(ARCHIVE.digest, ARCHIVE.data)
    store.materialise(ARCHIVE.digest, tmp_path / "code", link=True)
    with pytest.raises(Unavailable, match="cannot write"):
        store.materialise(ARCHIVE.digest, tmp_path / "code", link=True)


def test_remove_forgets_but_links_stay(store: BundleStore, tmp_path: Path) -> None:
    store.add(ARCHIVE.digest, ARCHIVE.data)
    store.materialise(ARCHIVE.digest, tmp_path / "code", link=True)
    store.remove(ARCHIVE.digest)
    store.remove(ARCHIVE.digest)
    assert not store.has(ARCHIVE.digest)
    assert os.listdir(store.root) == []
    assert _tree(tmp_path / "code") == EXPECTED
    with pytest.raises(NotFound, match=ARCHIVE.digest[:12]):
        store.path(ARCHIVE.digest)


def test_an_empty_bundle_is_fine(store: BundleStore, tmp_path: Path) -> None:
    empty = pack({})
    store.add(empty.digest, empty.data)
    store.materialise(empty.digest, tmp_path / "code", link=True)
    assert os.listdir(tmp_path / "code") == []


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="file/bundles"):
        BundleStore(tmp_path / "file" / "bundles")


def test_a_full_disk_is_named_and_leaves_nothing(store: BundleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space"):
        store.add(ARCHIVE.digest, ARCHIVE.data)
    assert os.listdir(store.root) == []
