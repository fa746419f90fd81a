"""Round trips, determinism, and every way an archive can be hostile."""

from __future__ import annotations

import io
import tarfile
from random import Random
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from faas.archive import Archive, File, Limits, check_path, digest_of, pack, unpack, verify
from faas.errors import FaasError, Invalid, TooLarge

LETTERS = st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"], exclude_characters="/")
NAMES = st.text(LETTERS, min_size=1, max_size=40)
PATHS = st.lists(NAMES.filter(lambda n: n not in (".", "..")), min_size=1, max_size=4).map("/".join)
FILES = st.dictionaries(PATHS, st.builds(File, st.binary(max_size=2000), st.booleans()), max_size=12)


def _accepted(files: dict[str, File]) -> Archive | None:
    try:
        return pack(files)
    except Invalid:
        return None  # two names that fold together, or a file used as a directory


@settings(max_examples=150, deadline=None)
@given(FILES)
def test_what_is_packed_comes_back(files: dict[str, File]) -> None:
    archive = _accepted(files)
    if archive is not None:
        assert dict(unpack(archive.data)) == files
        verify(archive.data, archive.digest)


@settings(max_examples=80, deadline=None)
@given(FILES, st.randoms())
def test_order_does_not_matter(files: dict[str, File], random: Random) -> None:
    archive = _accepted(files)
    shuffled = list(files.items())
    random.shuffle(shuffled)
    if archive is not None:
        assert pack(dict(shuffled)) == archive
        assert digest_of(shuffled) == archive.digest


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000), st.booleans())
def test_garbage_is_refused_and_never_crashes(data: bytes, compressed: bool) -> None:
    try:
        found = list(unpack(zstandard.compress(data) if compressed else data))
    except FaasError:
        return
    assert found == []  # only zeros: an archive of nothing


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1535), st.integers(0, 255))
def test_a_flipped_byte_never_passes_for_the_same(position: int, value: int) -> None:
    good = pack({"app.py": File(b"x" * 300), "é" * 60: File(b"y")})
    raw = bytearray(zstandard.decompress(good.data, max_output_size=1 << 20))
    raw[position] = value
    try:
        verify(zstandard.compress(bytes(raw)), good.digest)
    except FaasError:
        return
    assert dict(unpack(zstandard.compress(bytes(raw)))) == dict(unpack(good.data))


def test_digest_ignores_compression_and_tar_headers() -> None:
    files = {"app.py": File(b"print(1)\n"), "bin/run": File(b"#!\n", executable=True)}
    archive = pack(files)
    raw = zstandard.decompress(archive.data, max_output_size=1 << 20)
    verify(zstandard.ZstdCompressor(level=19).compress(raw), archive.digest)
    members = (_member(n, f.content, mode=0o4755 if f.executable else 0o600) for n, f in files.items())
    verify(_tar(*members), archive.digest)
    assert len(archive.digest) == 64


@pytest.mark.parametrize("other", [{"app.py": File(b"2")}, {"app.py": File(b"1", True)}, {"app2.py": File(b"1")}, {}])
def test_digest_sees_content_flag_and_names(other: dict[str, File]) -> None:
    archive = pack({"app.py": File(b"1")})
    assert pack(other).digest != archive.digest
    with pytest.raises(Invalid, match="digest"):
        verify(archive.data, pack(other).digest)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("a/../b", r"'\.\.'"),
        ("..", r"'\.\.'"),
        ("./a", "'.'"),
        ("a//b", "empty"),
        ("a/", "empty"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("x" * 256, "255"),
        ("é" * 128, "255"),
        ("/".join(["d" * 100] * 11), "1024"),
        ("/".join("d" * 65), "64"),
        ("\udcff", "Unicode"),
    ],
)
def test_paths_that_are_refused(path: str, rule: str) -> None:
    with pytest.raises(Invalid, match=rule):
        pack({path: File(b"")})


def test_check_path_gives_the_components() -> None:
    assert check_path("a/b.py") == ["a", "b.py"]


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (["A.py", "a.py"], "case"),
        (["straße", "STRASSE"], "case"),
        (["é", "e\u0301"], "Unicode"),
        (["Lib/a", "lib/b"], "case"),
        (["a", "a/b"], "file"),
        (["a/b", "a"], "file"),
    ],
)
def test_names_that_cannot_stand_together(names: list[str], rule: str) -> None:
    with pytest.raises(Invalid, match=rule):
        pack({name: File(b"") for name in names})
    with pytest.raises(Invalid, match=rule):
        list(unpack(_tar(*(_member(name) for name in names))))


HOSTILE = [
    ([("../x", {})], "'..'"),
    ([("/x", {})], "absolute"),
    ([("x", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})], "symbolic link"),
    ([("x", {"type": tarfile.LNKTYPE, "linkname": "y"})], "hard link"),
    ([("x", {"type": tarfile.CHRTYPE})], "device"),
    ([("x", {"type": tarfile.BLKTYPE})], "device"),
    ([("x", {"type": tarfile.FIFOTYPE})], "named pipe"),
    ([("x", {"type": tarfile.CONTTYPE})], "tar type"),
    ([("x", {}), ("x", {})], "twice"),
    ([("x", {"type": tarfile.DIRTYPE}), ("x", {})], "twice"),
    ([("x", {}), ("x", {"type": tarfile.DIRTYPE})], "twice"),
    ([("x", {"type": tarfile.DIRTYPE, "size": 512})], "directory with content"),
    ([("x", {"pax_headers": {"GNU.sparse.map": "0,1"}})], "only the path"),
    ([("x", {"pax_headers": {"path": "../../x"}})], "'..'"),
    ([("x", {"pax_headers": {"comment": "y" * 20_000}})], "limit"),
]


@pytest.mark.parametrize(("members", "rule"), HOSTILE)
def test_hostile_entries_are_refused(members: list[tuple[str, dict[str, Any]]], rule: str) -> None:
    data = _tar(*(_member(name, **attributes) for name, attributes in members))
    with pytest.raises(Invalid, match=rule):
        list(unpack(data))


def test_directories_are_accepted_and_implied() -> None:
    data = _tar(_member("d", type=tarfile.DIRTYPE), _member("d", type=tarfile.DIRTYPE), _member("d/x", b"1"))
    assert dict(unpack(data)) == {"d/x": File(b"1")}


@pytest.mark.parametrize("cut", [0, 1, 10, 100])
def test_truncated_data_is_refused(cut: int) -> None:
    data = pack({"a.py": File(bytes(range(256)) * 40)}).data
    with pytest.raises(Invalid, match=r"ends in the middle|not readable"):
        list(unpack(data[:cut]))


def test_a_bomb_ends_at_the_limit() -> None:
    squeeze = zstandard.ZstdCompressor().compressobj()
    head = _member("zeros", size=1 << 40)[0].tobuf(tarfile.GNU_FORMAT)
    data = squeeze.compress(head) + b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(64)) + squeeze.flush()
    with pytest.raises(TooLarge, match="unpacks to more than 512MiB"):
        list(unpack(data))


def test_a_bomb_of_extended_headers_ends_early() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 512
    block = info.tobuf(tarfile.USTAR_FORMAT) + (b"512 mtime=" + b"1" * 501 + b"\n")
    with pytest.raises(Invalid, match="in a row"):
        list(unpack(zstandard.compress(block * 1000)))


def test_counts_files_and_implied_directories() -> None:
    limits = Limits(files=4)
    assert len(list(unpack(pack({f"{i}": File(b"") for i in range(4)}).data, limits))) == 4
    with pytest.raises(TooLarge, match="more than 4 files"):
        pack({f"{i}": File(b"") for i in range(5)}, limits)
    with pytest.raises(TooLarge, match="more than 4 files"):
        list(unpack(pack({"a/b/c/d/e": File(b"")}).data, limits))


def test_counts_bytes() -> None:
    with pytest.raises(TooLarge, match="10B"):
        pack({"a": File(b"123456"), "b": File(b"12345")}, Limits(unpacked=10))


def test_a_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    squeeze = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = squeeze.compress(bytes(100)) + squeeze.flush()
    with pytest.raises(Invalid, match="not readable"):
        list(unpack(data))


def _member(name: str, content: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    for info, content in members:
        out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        out.write(content + bytes(-len(content) % 512))
        out.write(bytes(info.size - len(content)))
    out.write(bytes(1024))
    return zstandard.compress(out.getvalue())
