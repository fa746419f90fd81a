"""Which function does a request's host, method and path belong to? A trie: the cost is that of the path, not of how
many routes there are.

The most specific route wins: a host before none, then segment by segment from the left plain text before `{name}`
before `*`. A route whose path fits but not its method gives way to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

from faas.names import FunctionName
from faas.reach import HERE, RESERVED, REST, Pattern


class Claim(NamedTuple):
    """A function's route. Of two claims on the same the one with the lower `since`, then the lower name, has it."""

    function: FunctionName
    pattern: Pattern
    since: float = 0.0

    @property
    def order(self) -> tuple[float, FunctionName]:
        return self.since, self.function


class Match(NamedTuple):
    """The route that fits, and what its parameters are, percent-decoded."""

    function: FunctionName
    pattern: Pattern
    params: dict[str, str]


class Allowed(NamedTuple):
    """Routes fit the path but not the method; these they take."""

    methods: tuple[str, ...]


_Leaf = dict[str, tuple[Claim, ...]]
"""By method, "": any; the first has it."""


class _Node:
    __slots__ = ("ends", "here", "plain", "rest")

    def __init__(self) -> None:
        self.plain: dict[str, _Node] = {}
        self.here: _Node | None = None
        self.ends: _Leaf = {}
        self.rest: _Leaf = {}

    def child(self, key: str) -> _Node:
        """The node below, made if it is not there."""
        if key == HERE:
            self.here = self.here or _Node()
            return self.here
        return self.plain.setdefault(key[1:], _Node())

    def drop(self, key: str) -> None:
        """Forget the node below."""
        if key == HERE:
            self.here = None
        else:
            del self.plain[key[1:]]

    @property
    def empty(self) -> bool:
        return not (self.plain or self.here or self.ends or self.rest)


class Table:
    """Every claim, for one thread. A change costs what it changes, and is whole before the next `find`."""

    def __init__(self, claims: Iterable[Claim] = ()) -> None:
        self._hosts: dict[str, _Node] = {}
        for claim in claims:
            self.add(claim)

    def __bool__(self) -> bool:
        return bool(self._hosts)

    def add(self, claim: Claim) -> Claim | None:
        """Enter one. Returns the claim that keeps it from being served, or that it takes the calls from."""
        leaf = self._leaf(self._line(claim.pattern)[-1], claim.pattern)
        rival = None
        for method in claim.pattern.methods or ("",):
            rivals = leaf.get(method, ())
            leaf[method] = tuple(sorted((*rivals, claim), key=lambda one: one.order)) if rivals else (claim,)
            rival = rival or (rivals[0] if rivals else None)
        return rival

    def remove(self, claim: Claim) -> None:
        """Take one out that was entered, and what only it needed."""
        line = self._line(claim.pattern)
        leaf = self._leaf(line[-1], claim.pattern)
        for method in claim.pattern.methods or ("",):
            leaf[method] = tuple(one for one in leaf[method] if one != claim)
            if not leaf[method]:
                del leaf[method]
        for above, key, node in reversed(list(zip(line, claim.pattern.keys, line[1:], strict=False))):
            if node.empty:
                above.drop(key)
        if line[0].empty:
            del self._hosts[claim.pattern.host]

    def find(self, method: str, host: str, raw_path: str) -> Match | Allowed | None:
        """What a request is for; None: no route fits, or the path is the platform's.

        Args:
            host: of the request, with or without a port.
            raw_path: as it came, percent-encoded, from the first slash on.
        """
        parts = _parts(raw_path)
        if parts is None:
            return None
        allowed: dict[str, None] = {}
        for root in (self._hosts.get(_bare(host)), self._hosts.get("")):
            for leaf, values in _walk(root, parts, 0, ()) if root else ():
                claims = leaf.get(method) or (leaf.get("GET") if method == "HEAD" else None) or leaf.get("")
                if claims:
                    function, pattern, _since = claims[0]
                    return Match(function, pattern, dict(zip(pattern.names, values, strict=True)))
                allowed.update(dict.fromkeys(leaf))
        if not allowed:
            return None
        return Allowed(tuple(sorted({*allowed, "HEAD"} if "GET" in allowed else allowed)))

    def _line(self, pattern: Pattern) -> list[_Node]:
        """The nodes from the host's down to the one that holds the pattern, made where they are missing."""
        line = [self._hosts.setdefault(pattern.host, _Node())]
        for key in pattern.keys:
            if key != REST:
                line.append(line[-1].child(key))
        return line

    @staticmethod
    def _leaf(node: _Node, pattern: Pattern) -> _Leaf:
        return node.rest if pattern.keys[-1] == REST else node.ends


def _walk(node: _Node, parts: list[str], at: int, values: tuple[str, ...]) -> Iterator[tuple[_Leaf, tuple[str, ...]]]:
    """Leaves that fit, the most specific first. As deep as the longest route, however long the path is."""
    if at == len(parts):
        if node.ends:
            yield node.ends, values
        return
    part = parts[at]
    if (plain := node.plain.get(part)) is not None:
        yield from _walk(plain, parts, at + 1, values)
    if node.here is not None and part:
        yield from _walk(node.here, parts, at + 1, (*values, part))
    if node.rest:
        yield node.rest, (*values, "/".join(parts[at:]))


def _parts(raw_path: str) -> list[str] | None:
    """Decoded segments; None for what no route may have: the platform's own, a path that climbs, or `OPTIONS *`."""
    if not raw_path.startswith("/"):
        return None
    parts = raw_path[1:].split("/")
    if "%" in raw_path:
        parts = [unquote(part) for part in parts]
    if parts[0] in RESERVED or "." in parts or ".." in parts:
        return None
    return parts


def _bare(host: str) -> str:
    """Without port and final dot, in lower case."""
    return host.partition(":")[0].rstrip(".").lower()
