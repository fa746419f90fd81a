"""Code as one value: a deterministic tar, compressed with zstd, named by the sha256 of what is in it.

The digest covers paths, contents and the executable flag, never the compression or the tar's headers, so the
same files have the same name whoever packed them. Reading takes a strict subset of pax: regular files and
directories, one extended header an entry, nothing else. No disk, no clock; a hostile archive costs at most
`Limits` in memory and time.
"""

from __future__ import annotations

import hashlib
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import zstandard

from faas.errors import Invalid, TooLarge
from faas.units import show_size

_BLOCK = tarfile.BLOCKSIZE
_PAX_MAX = 16 * 1024
_WINDOW_MAX = 64 * 1024 * 1024
_NAME_MAX = 255
_DEPTH_MAX = 64
_LEVEL = 3
_Names = dict[str, tuple[str, Any]]
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
}


class File(NamedTuple):
    """One file of an archive."""

    content: bytes
    executable: bool = False


class Archive(NamedTuple):
    """A packed archive and its name: sha256 of the content, 64 hex digits."""

    data: bytes
    digest: str


class Limits(NamedTuple):
    """What an archive may hold. Sizes in bytes; `files` counts directories too, also implied ones."""

    files: int = 20_000
    unpacked: int = 512 * 1024 * 1024
    path: int = 1024


DEFAULT_LIMITS = Limits()


def pack(files: Mapping[str, File], limits: Limits = DEFAULT_LIMITS) -> Archive:
    """The same bytes for the same files, in whatever order they come. Paths are relative, with `/`.

    Raises:
        Invalid: a path that `unpack` would refuse, named with the rule.
        TooLarge: more files or bytes than `limits`.
    """
    tally, digester = _Tally(limits), Digester()
    squeeze = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    parts: list[bytes] = []
    for path in sorted(files):
        file = files[path]
        tally.entry(path, len(file.content), directory=False)
        digester.add(path, file)
        parts.append(squeeze.compress(_header(path, file)))
        parts.append(squeeze.compress(file.content))
        parts.append(squeeze.compress(bytes(-len(file.content) % _BLOCK)))
    parts.append(squeeze.compress(bytes(2 * _BLOCK)))
    parts.append(squeeze.flush())
    return Archive(b"".join(parts), digester.hexdigest())


def unpack(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Iterator[tuple[str, File]]:
    """Path and file of each regular file, one at a time in memory. Directories are implied by the paths.

    What was yielded before an error must be thrown away: the archive is refused as a whole.

    Raises:
        Invalid: not such an archive, or an entry that breaks a rule; the message names both.
        TooLarge: more files or bytes than `limits`.
    """
    tally, source = _Tally(limits), _Source(data)
    extended: str | None = None
    while (info := _next(source)) is not None:
        if info.type == tarfile.XHDTYPE:
            if extended is not None:
                raise Invalid("the archive has two extended headers in a row")
            extended = _pax_path(source, info.size)
            continue
        name, extended = extended or info.name, None
        directory = _is_directory(name, info.type)
        name = name.removesuffix("/") if directory else name
        tally.entry(name, info.size, directory=directory)
        content = source.body(info.size, name)
        if not directory:
            yield name, File(content, bool(info.mode & 0o100))


def verify(data: bytes, digest: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Read the whole archive and compare its name.

    Raises:
        Invalid: it cannot be unpacked, or its content has another digest.
        TooLarge: more files or bytes than `limits`.
    """
    digester = Digester()
    for path, file in unpack(data, limits):
        digester.add(path, file)
    digester.check(digest)


def digest_of(files: Iterable[tuple[str, File]]) -> str:
    """The name of these files, in whatever order they come."""
    digester = Digester()
    for path, file in files:
        digester.add(path, file)
    return digester.hexdigest()


class Digester:
    """Names a set of files: sha256 over `SHA256 x|- PATH NUL` lines, sorted by path."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def add(self, path: str, file: File) -> None:
        flag = "x" if file.executable else "-"
        self._lines[path] = f"{hashlib.sha256(file.content).hexdigest()} {flag} {path}\0"

    def hexdigest(self) -> str:
        """64 hex digits."""
        whole = "faas-archive-1\0" + "".join(self._lines[path] for path in sorted(self._lines))
        return hashlib.sha256(whole.encode()).hexdigest()

    def check(self, digest: str) -> None:
        """Raises Invalid when the files added so far have another name than `digest`."""
        found = self.hexdigest()
        if found != digest:
            raise Invalid(
                f"the archive's content has the digest {found}, not {digest[:80]}",
                hint="Pack it again and use the digest that packing gives.",
            )


def check_path(path: str, limit: int = DEFAULT_LIMITS.path) -> list[str]:
    """The components of a path inside an archive. Raises Invalid naming the path and the rule."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise Invalid(f"archive path {path[:80]!r} is not valid Unicode") from None
    if size > limit:
        raise Invalid(f"archive path {path[:80]!r} has {size} bytes: the limit is {limit}")
    if any(ord(char) < 32 or ord(char) == 127 for char in path):
        raise Invalid(f"archive path {path[:80]!r} contains a control character")
    if path.startswith("/"):
        raise Invalid(f"archive path {path[:80]!r} is absolute: paths are relative")
    parts = path.split("/")
    if len(parts) > _DEPTH_MAX:
        raise Invalid(f"archive path {path[:80]!r} is {len(parts)} directories deep: the limit is {_DEPTH_MAX}")
    for part in parts:
        if part in ("", ".", ".."):
            raise Invalid(f"archive path {path[:80]!r} has an empty, '.' or '..' component")
        if len(part) > _NAME_MAX // 4 and len(part.encode()) > _NAME_MAX:
            raise Invalid(f"archive path {path[:80]!r} has a component of more than {_NAME_MAX} bytes")
    return parts


class _Tally:
    """Counts entries and bytes, and remembers names: folded component -> (as written, children or file)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries = 0
        self._bytes = 0
        self._root: _Names = {}

    def entry(self, path: str, size: int, *, directory: bool) -> None:
        parts = check_path(path, self._limits.path)
        self._count(path)
        self._bytes += size
        if size < 0 or self._bytes > self._limits.unpacked:
            raise TooLarge(
                f"the archive unpacks to more than {show_size(self._limits.unpacked)} (at {path[:80]!r})",
                hint="Leave out large files and fetch them at run time.",
            )
        if directory and size:
            raise Invalid(f"archive entry {path[:80]!r} is a directory with content")
        self._remember(path, parts, directory)

    def _count(self, path: str) -> None:
        self._entries += 1
        if self._entries > self._limits.files:
            raise TooLarge(
                f"the archive has more than {self._limits.files:,} files and directories (at {path[:80]!r})",
                hint="Leave out what the function does not need, such as test data or node_modules.",
            )

    def _remember(self, path: str, parts: list[str], directory: bool) -> None:
        level = self._root
        for part in parts[:-1]:
            fold = _fold(part)
            if fold not in level:
                self._count(path)
                level[fold] = (part, {})
            known = level[fold]
            self._same(path, part, known[0])
            if known[1] is None:
                raise Invalid(f"archive entry {path[:80]!r} is inside {part!r}, which is a file")
            level = known[1]
        part, fold = parts[-1], _fold(parts[-1])
        if fold not in level:
            level[fold] = (part, {} if directory else None)
            return
        self._same(path, part, level[fold][0])
        if not directory or level[fold][1] is None:
            raise Invalid(f"archive entry {path[:80]!r} appears twice, or as a file and as a directory")

    @staticmethod
    def _same(path: str, part: str, known: str) -> None:
        if part != known:
            raise Invalid(
                f"archive entry {path[:80]!r}: {part!r} and {known!r} differ only in case or Unicode form",
                hint="Rename one of them: on many file systems they are the same file.",
            )


def _fold(part: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold())


class _Source:
    """The decompressed stream, read in exact pieces."""

    def __init__(self, data: bytes) -> None:
        unzip = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX)
        self._reader = unzip.stream_reader(data, read_size=128 * 1024)

    def exact(self, size: int, what: str) -> bytes:
        parts: list[bytes] = []
        left = size
        while left:
            try:
                part = self._reader.read(min(left, 1024 * 1024))
            except zstandard.ZstdError as cause:
                raise Invalid(
                    f"the archive is not readable zstd data: {cause}",
                    hint="Send a bundle as packed by the client: tar, compressed with zstd.",
                ) from cause
            if not part:
                raise Invalid(f"the archive ends in the middle of {what}")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def body(self, size: int, name: str) -> bytes:
        """Content of an entry, without the padding to the next block."""
        padding = -size % _BLOCK
        content = self.exact(size, f"the entry {name[:80]!r}")
        self.exact(padding, f"the entry {name[:80]!r}")
        return content


def _next(source: _Source) -> tarfile.TarInfo | None:
    """The next header; None at the end-of-archive block."""
    block = source.exact(_BLOCK, "a header")
    if not any(block):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as cause:
        raise Invalid(
            f"the archive has a broken tar header: {cause}",
            hint="Send a bundle as packed by the client: tar in pax format, compressed with zstd.",
        ) from cause


def _is_directory(name: str, kind: bytes) -> bool:
    """False for a regular file. Raises Invalid for anything else."""
    if kind in (tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.AREGTYPE):
        return kind == tarfile.DIRTYPE
    raise Invalid(
        f"archive entry {name[:80]!r} is {_KINDS.get(kind, f'of the tar type {kind!r}')}:"
        " only regular files and directories are allowed",
        hint="Pack the file a link points to instead of the link; write tar in pax format.",
    )


def _pax_path(source: _Source, size: int) -> str:
    """The path in an extended header: `LENGTH KEY=VALUE LF` records. Keys that move data are refused."""
    if not 0 <= size <= _PAX_MAX:
        raise Invalid(f"the archive has an extended header of {size} bytes: the limit is {_PAX_MAX}")
    left, path = source.body(size, "extended header"), ""
    while left:
        digits, _, _ = left[:8].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record, left = left[:length], left[length:]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if len(record) != length or not equals or not record.endswith(b"\n"):
            raise Invalid("the archive has a broken extended header")
        if key == b"path":
            path = value.decode("utf-8", "surrogateescape")
        elif key not in (b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname"):
            raise Invalid(f"the archive has an extended header {key[:40]!r}: only the path may be extended")
    return path


def _header(path: str, file: File) -> bytes:
    info = tarfile.TarInfo(path)
    info.size = len(file.content)
    info.mode = 0o755 if file.executable else 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
