"""How people write functions down: `hello`, `hello.shop`, `hello@3`, `hello.shop@canary`."""

from __future__ import annotations

import re
from typing import NamedTuple

from faas.errors import Invalid

DEFAULT_APP = "default"
LIVE = "live"
RESERVED_APPS = frozenset({"v1", "ui", "function", "async-function"})

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_ALIAS = re.compile(r"[a-z](?:[a-z0-9_-]{0,61}[a-z0-9])?")
NAME_RULE = "1 to 63 of a-z, 0-9, - and _, starting and ending with a letter or digit"


class FunctionName(NamedTuple):
    """A function's identity. `str()` is what people type; `key` is what stores use."""

    app: str
    name: str

    def __str__(self) -> str:
        return self.name if self.app == DEFAULT_APP else f"{self.name}.{self.app}"

    @property
    def key(self) -> str:
        return f"{self.app}/{self.name}"


class Target(NamedTuple):
    """What a caller asks for: a function and, after `@`, a version number or an alias (default `live`)."""

    function: FunctionName
    version: int | None
    alias: str

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.function}@{self.version}"
        return str(self.function) if self.alias == LIVE else f"{self.function}@{self.alias}"


def check_name(text: str, what: str = "function name") -> str:
    """`text` itself. Raises Invalid naming the rule."""
    if not _NAME.fullmatch(text):
        raise Invalid(f'"{text[:80]}" is not a {what}: {NAME_RULE}')
    return text


def check_app(text: str) -> str:
    """`text` itself. Raises Invalid naming the rule."""
    check_name(text, "app name")
    if text in RESERVED_APPS:
        raise Invalid(f'"{text}" cannot be an app name: it is a path of the platform itself')
    return text


def check_alias(text: str) -> str:
    """`text` itself. An alias starts with a letter, so that it never looks like a version number."""
    if not _ALIAS.fullmatch(text):
        raise Invalid(f'"{text[:80]}" is not an alias: {NAME_RULE}, starting with a letter')
    return text


def parse_function(text: str) -> FunctionName:
    """`NAME` or `NAME.APP`. Raises Invalid."""
    name, dot, app = text.partition(".")
    return FunctionName(check_app(app) if dot else DEFAULT_APP, check_name(name))


def parse_key(key: str) -> FunctionName:
    """Inverse of `FunctionName.key`."""
    app, _, name = key.partition("/")
    return FunctionName(app, name)


def parse_target(text: str) -> Target:
    """`NAME[.APP][@VERSION|@ALIAS]`. Raises Invalid."""
    base, at, tag = text.partition("@")
    function = parse_function(base)
    if not at:
        return Target(function, None, LIVE)
    if tag.isascii() and tag.isdigit():
        if len(tag) > 9:
            raise Invalid(f'"{tag[:20]}" is not a version: versions count from 1')
        return Target(function, int(tag), "")
    return Target(function, None, check_alias(tag))
