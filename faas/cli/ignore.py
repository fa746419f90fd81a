"""Which files of a folder are not code: a short fixed list, and the folder's own .faasignore.

.faasignore has the rules of .gitignore: one pattern a line, `#` comments, `/` at the start anchors, `/` at the
end means folders only, `*` and `?` stay within a name, `**` crosses folders, `!` takes back; the last match wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from faas.errors import Invalid

FILE = ".faasignore"
ALWAYS = (
    ".git/",
    ".hg/",
    ".svn/",
    "__pycache__/",
    "*.py[cod]",
    ".venv/",
    "venv/",
    "node_modules/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".tox/",
    ".nox/",
    ".idea/",
    ".vscode/",
    ".DS_Store",
    ".env",
    FILE,
)
"""Left out of every push; .env too, because it usually holds secrets. A `!pattern` in .faasignore brings one back."""
_RULES_MAX = 1_000
_TOKENS = re.compile(r"\*\*/|/\*\*$|\*+|\?|\[[!^]?[^\]/]+\]|\\.|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    keep: bool
    folders_only: bool


class Ignore:
    """The rules of one folder. `text` is the content of its .faasignore; empty: none. Raises Invalid."""

    def __init__(self, text: str = "") -> None:
        self._rules = list(_rules((*ALWAYS, *text.splitlines())))

    def __call__(self, path: str, *, folder: bool) -> bool:
        """True when `path` (relative, with `/`) is left out. Ask for a folder before what is in it."""
        ignored = False
        for rule in self._rules:
            if (folder or not rule.folders_only) and rule.pattern.fullmatch(path):
                ignored = not rule.keep
        return ignored


def _rules(lines: Iterable[str]) -> Iterable[_Rule]:
    count = 0
    for line in lines:
        text = line.rstrip()
        if not text or text.startswith("#"):
            continue
        count += 1
        if count > _RULES_MAX or len(text) > 500:
            raise Invalid(f"{FILE} has more than {_RULES_MAX} patterns, or one over 500 characters")
        keep = text.startswith("!")
        text = text.removeprefix("!").removeprefix("\\")
        folders_only = text.endswith("/")
        text = text.rstrip("/")
        if not text:
            raise Invalid(f'{FILE}: "{line[:100]}" names nothing', hint="Write a pattern such as data/ or *.csv.")
        yield _Rule(_compile(text, line), keep, folders_only)


def _compile(glob: str, line: str) -> re.Pattern[str]:
    """`glob` as a pattern over whole paths. Without a `/` in its middle it matches in every folder."""
    anchored = "/" in glob
    parts = ["" if anchored else "(?:.*/)?"]
    parts.extend(_translate(piece) for piece in _TOKENS.findall(glob.removeprefix("/")))
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error as error:
        raise Invalid(f'{FILE}: "{line[:100]}" is not a pattern: {error}') from error


def _translate(piece: str) -> str:
    if piece == "**/":
        return "(?:.*/)?"
    if piece == "/**":
        return "/.*"
    if piece.startswith("*"):
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if piece.startswith("[") and len(piece) > 2:
        inside = piece[1:-1].replace("\\", "\\\\")
        return f"[^/{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]"
    return re.escape(piece[1:] if piece.startswith("\\") and len(piece) > 1 else piece)
