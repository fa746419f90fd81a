"""How people write down who reaches a function, and by which way: routes, rates, origins.

[METHOD,... ][HOST]/path[ rate=COUNT/UNIT][ body=SIZE]

GET /users/{id}            one method; {id} is one segment and becomes a parameter
api.example.com/users      only on this host, any method
GET /files/* rate=20/s     everything below /files/; limits of this route instead of the function's
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from faas.units import parse_size, show_size

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
RESERVED = frozenset({"v1", "ui", "function", "async-function", "healthz", "readyz", "metrics", "openapi.json"})
"""First segments of paths that belong to the platform on every host."""
PATH_MAX = 500
"""Most characters in a route's path."""
SEGMENTS_MAX = 32
BODY_MAX = 1024 * 1024 * 1024
HERE, REST = "{", "*"
"""Keys of a segment that is a parameter, and of everything below. A plain segment's key is `=TEXT`."""

_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_PLAIN = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,;=:@-]|%[0-9A-Fa-f]{2})+")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_RATE = re.compile(r"(\d{1,9})\s*/\s*(s|m|h)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Rate(NamedTuple):
    """At most `burst` calls at once, and `per_s` more each second."""

    burst: int
    per_s: float
    text: str

    def __str__(self) -> str:
        return self.text


class Pattern(NamedTuple):
    """A route as it is matched. `keys` are its segments without the names of parameters, which are in `names`."""

    text: str
    """Normal form."""
    methods: tuple[str, ...]
    """Empty: any."""
    host: str
    """Lower case; empty: any."""
    keys: tuple[str, ...]
    names: tuple[str, ...]
    slots: tuple[tuple[str, str, tuple[str, ...]], ...]
    """What the route takes for itself, by method: no two functions may share one."""
    rate: Rate | None = None
    body: int | None = None
    """Bytes of the largest request body; None: what the function has."""


def route_text(text: str) -> str:
    """`text` in normal form. Raises ValueError naming the rule."""
    return parse_route(text).text


@lru_cache(maxsize=16_384)
def parse_route(text: str) -> Pattern:
    """A route as people write it. Raises ValueError naming the rule."""
    words = text.split()
    at = next((number for number, word in enumerate(words) if "/" in word and "=" not in word.partition("/")[0]), -1)
    if at not in (0, 1) or len(text) > 2 * PATH_MAX:
        raise ValueError(f'"{text[:80]}" is not a route: write "/path" or "GET /users/{{id}}"')
    methods = _methods(text, words[0]) if at == 1 else ()
    host, slash, path = words[at].partition("/")
    host, (keys, names) = _host(text, host), _segments(text, slash + path)
    rate, body = _limits(text, words[at + 1 :])
    shown = [",".join(methods), f"{host}/{path}", f"rate={rate}" if rate else "", _shown(body)]
    slots = tuple((method, host, keys) for method in methods or ("",))
    return Pattern(" ".join(filter(None, shown)), methods, host, keys, names, slots, rate, body)


@lru_cache(maxsize=1024)
def parse_rate(text: str) -> Rate:
    """`100/s`, `30/m` or `1000/h`. Raises ValueError naming the rule."""
    match = _RATE.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise ValueError(f'"{text[:80]}" is not a rate: write 100/s, 30/m or 1000/h')
    count = int(match[1])
    return Rate(count, count / _UNITS[match[2]], f"{count}/{match[2]}")


def origin_text(text: str) -> str:
    """An origin in lower case, or `*`. Raises ValueError naming the rule."""
    origin = text.strip().lower()
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise ValueError(f'"{text[:80]}" is not an origin: write "https://app.example.com" without a path, or "*"')
    return origin


def _methods(text: str, word: str) -> tuple[str, ...]:
    methods = tuple(dict.fromkeys(word.upper().split(",")))
    if any(method not in METHODS for method in methods):
        raise ValueError(f'"{text[:80]}" does not start with one of {", ".join(METHODS)}')
    return methods


def _host(text: str, host: str) -> str:
    host = host.lower()
    if host and not _HOST.fullmatch(host):
        raise ValueError(f'"{text[:80]}" has the host "{host[:80]}": write a name such as api.example.com, no port')
    return host


def _segments(text: str, path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    parts = path[1:].split("/")
    if len(path) > PATH_MAX or len(parts) > SEGMENTS_MAX:
        raise ValueError(
            f'"{text[:80]}" is too long: at most {PATH_MAX} characters and {SEGMENTS_MAX} segments in a path'
        )
    keys, names = [], []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if name := _NAME.fullmatch(part):
            keys.append(HERE)
            names.append(name[1])
        elif part == REST and last:
            keys.append(REST)
            names.append(REST)
        elif (_PLAIN.fullmatch(part) or (last and not part)) and unquote(part) not in (".", ".."):
            keys.append("=" + unquote(part))
        else:
            raise ValueError(
                f'"{text[:80]}" has the segment "{part[:80]}": write plain text, {{name}}, or * as the last one'
            )
    if keys[0][1:] in RESERVED:
        raise ValueError(f'"{text[:80]}" is taken: /{keys[0][1:]} belongs to the platform')
    if len(set(names)) != len(names):
        raise ValueError(f'"{text[:80]}" uses one name twice')
    return tuple(keys), tuple(names)


def _limits(text: str, words: list[str]) -> tuple[Rate | None, int | None]:
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in ("rate", "body") or key in given:
            raise ValueError(f'"{text[:80]}" goes on with "{word[:80]}": a path may have rate= and body=, once each')
        given[key] = value
    rate = parse_rate(given["rate"]) if "rate" in given else None
    body = parse_size(given["body"]) if "body" in given else None
    if body is not None and body > BODY_MAX:
        raise ValueError(f'"{text[:80]}" has body={given["body"]}: at most {show_size(BODY_MAX)}')
    return rate, body


def _shown(body: int | None) -> str:
    if body is None:
        return ""
    shown = show_size(body)
    return f"body={shown if parse_size(shown) == body else body}"
