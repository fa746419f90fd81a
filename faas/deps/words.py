"""What uv said, made fit for people: short, without credentials, and as an error that names whose fault it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from faas.errors import FaasError, FunctionError, Unavailable

WORDS_MAX = 2_000
"""Most characters kept of what uv said."""
TIMED_OUT = 124
KILLED = 137

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_USERINFO = re.compile(r"://[^/\s@]+@")
_CHATTER = re.compile(
    r"(Using CPython|Using Python|warning: |Resolved \d|Prepared \d|Downloading|Downloaded|Building) ?"
)
_NEEDS_SOURCE = re.compile(r"no usable wheels|building from source is disabled|--no-build|no wheels? with")
_NETWORK = re.compile(
    r"error sending request|dns error|[Cc]onnection (?:refused|reset|timed out)|operation timed out"
    r"|tcp connect error|network was disabled|[Nn]etwork connectivity is disabled|50[0-9] (?:Server|Bad|Service)"
)


class DependenciesFailed(FunctionError):
    """Packages cannot be resolved, built or installed; the message has the resolver's own words."""

    code: ClassVar[str] = "dependencies_failed"
    status: ClassVar[int] = 500


def shorten(output: str, secrets: Iterable[str] = ()) -> str:
    """The part that explains an error, at most WORDS_MAX characters, credentials replaced by `***`."""
    text = _COLOUR.sub("", output)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _USERINFO.sub("://***@", text)
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not _CHATTER.match(line.strip())]
    begin = next((at for at, line in enumerate(lines) if line.startswith("error")), 0)
    whole = "\n".join(lines[begin:]).removeprefix("error: ")
    if len(whole) <= WORDS_MAX:
        return whole
    third = WORDS_MAX // 3
    return f"{whole[:third]}\n... [{len(whole) - WORDS_MAX} characters cut]\n{whole[-2 * third :]}"


def needs_source(output: str) -> bool:
    """True when nothing is wrong but that a package has no wheel."""
    return _NEEDS_SOURCE.search(output) is not None


def failure(what: str, code: int, output: str, secrets: Iterable[str], limit_s: float) -> FaasError:
    """The error for a step that ended with `code`.

    Args:
        what: the step, such as `resolving the dependencies`.
        limit_s: seconds the step could take.
    """
    if code == TIMED_OUT:
        return DependenciesFailed(
            f"{what} took longer than {limit_s:g} seconds", hint="Pin versions, or use packages that have wheels."
        )
    if code == KILLED:
        return DependenciesFailed(
            f"{what} ran out of memory or was killed", hint="Use packages that have wheels instead of building them."
        )
    words = shorten(output, secrets) or f"uv ended with {code} and said nothing"
    if _NETWORK.search(words):
        hint = "The node could not reach the package index: check its network, proxy and index settings."
        return Unavailable(f"{what} failed: {words}", hint=hint)
    return DependenciesFailed(f"{what} failed: {words}", hint="Nothing was changed: what was live still is.")
