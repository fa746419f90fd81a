"""Lists of Python packages as data: what may stand in one, and its normal form. No I/O.

A list is what requirements.txt has, one requirement a line, without options. Both sides check it: the command
line to name the file and line early, the node because it believes nobody. Options, local paths and variables
are refused: on a node they would name the node's files and the node's environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

from faas.errors import Invalid

TEXT_MAX = 1024 * 1024
"""Most characters in a list."""
COUNT_MAX = 2_000
"""Most requirements in a list."""
INDEX_MAX = 2_000
"""Most characters in the address of an index."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*(?:\[[A-Za-z0-9._,\s-]*\])?\s*")
_HASH = re.compile(r"\s+--hash[=\s]\s*([a-z0-9]+:[0-9a-fA-F]+)")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_ADDRESS = re.compile(r"@\s*(?:git\+)?https?://[^\s@]+(?:@[A-Za-z0-9._/-]+)?(?:\s*;.*)?")
_FILE = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz")
_SECRET = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def check_requirements(text: str, where: str) -> str:
    """The list in normal form: one requirement a line, without comments. Empty when nothing is required.

    Args:
        where: what the list is from, for messages.

    Raises:
        Invalid: naming the line and the rule.
    """
    if len(text) > TEXT_MAX:
        raise Invalid(f"{where} has {len(text)} characters: at most {TEXT_MAX}")
    lines = [_checked(line, f"{where}, line {number}") for number, line in logical_lines(text)]
    if len(lines) > COUNT_MAX:
        raise Invalid(f"{where} has {len(lines)} requirements: at most {COUNT_MAX}")
    return "".join(f"{line}\n" for line in lines)


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and content of each line that says something: continued lines joined, comments gone."""
    begun, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        line = _COMMENT.sub("", raw).rstrip()
        begun = begun if parts else number
        parts.append(line.removesuffix("\\").strip())
        if line.endswith("\\"):
            continue
        if whole := " ".join(filter(None, parts)):
            yield begun, whole
        parts = []
    if whole := " ".join(filter(None, parts)):
        yield begun, whole


def is_hashed(normal: str) -> bool:
    """True when every requirement of a list in normal form has a hash: it is a lock already."""
    lines = normal.splitlines()
    return bool(lines) and all(_HASH.search(line) for line in lines)


def has_addresses(normal: str) -> bool:
    """True when a list in normal form names a package by its URL instead of an index' name for it."""
    return any("://" in line for line in normal.splitlines())


def check_index(url: str) -> str:
    """The address of a package index. `${NAME}` in it stands for a secret. Raises Invalid without repeating it."""
    parts = urlsplit(url)
    if len(url) > INDEX_MAX or parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", url):
        raise Invalid(
            "the package index is not an address", hint="Write https://HOST/PATH, with ${NAME} for a secret in it."
        )
    if parts.password and not _SECRET.fullmatch(parts.password):
        raise Invalid(
            "the address of the package index has a password in it",
            hint="Keep it as a secret (faas secrets set NAME) and write ${NAME} in its place.",
        )
    return url


def secrets_in(url: str) -> tuple[str, ...]:
    """Names of the secrets an index' address needs."""
    return tuple(dict.fromkeys(_SECRET.findall(url)))


def with_secrets(url: str, values: dict[str, str]) -> str:
    """The address with each `${NAME}` replaced by its value, quoted as a part of an address."""
    return _SECRET.sub(lambda match: quote(values[match[1]], safe=""), url)


def _checked(line: str, where: str) -> str:
    shown = line[:120]
    if line.startswith("-"):
        raise Invalid(
            f'{where}: "{shown}" is an option, and only requirements can stand here',
            hint="Name another index with --index; write out what -r and -c would include.",
        )
    if "${" in line:
        raise Invalid(f'{where}: "{shown}" has a variable in it', hint="Use --index with a secret instead.")
    bare = _HASH.sub("", line)
    match = _NAME.match(bare)
    rest = bare[match.end() :] if match else ""
    named = match is not None and (not rest or rest[0] in "<>=!~(;") and " --" not in bare and "://" not in bare
    if named and not bare.lower().split(";")[0].rstrip().endswith(_FILE):
        return line
    if match is not None and _ADDRESS.fullmatch(rest):
        return line
    raise Invalid(
        f'{where}: "{shown}" is not a requirement this platform installs',
        hint="Write NAME, NAME>=1.2 or NAME @ https://...; local paths stay in the code folder.",
    )
