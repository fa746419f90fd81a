"""Kinds of values in the settings tables: how one is read, bounded, shown and described.

A parser takes what a flag, an environment variable or a TOML key gives and returns the value, or raises
ValueError with the value and the rule in the text. Parsers accept what they return, so a table can also
check finished values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Literal, NamedTuple

from faas.units import parse_duration, parse_size, show_duration, show_size

Shape = Literal["one", "switch", "list", "map"]
Read = Callable[[object], Any]
Network = IPv4Network | IPv6Network

VARIABLE_RULE = "letters, digits and _, not starting with a digit, at most 128"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SWITCH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}
ENV_MAX = 64 * 1024
"""Most bytes of names and values in one table of environment variables."""
LIST_MAX = 100
"""Most entries in one list."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value. `show` gives the readable, JSON-ready form that `parse` reads back."""

    name: str
    parse: Read
    schema: Mapping[str, Any]
    shape: Shape = "one"
    show: Callable[[Any], Any] = lambda value: value
    choices: tuple[str, ...] = ()


class Address(NamedTuple):
    """HOST:PORT to listen on; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """True when only this machine can connect."""
        return self.host in ("localhost", "::1") or re.fullmatch(r"127(?:\.\d{1,3}){3}", self.host) is not None


class Hidden(str):
    """Text that stays out of logs: its repr shows that it is set, not what it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'(hidden)'" if self else "''"


def duration(low: float, high: float) -> Kind:
    """Seconds from `low` to `high`, both included."""

    def parse(value: object) -> float:
        seconds = round(parse_duration(value), 3)  # whole milliseconds: what the wire carries and people can read
        if not low <= seconds <= high:
            raise ValueError(f"{_quote(value)} is out of range: from {show_duration(low)} to {show_duration(high)}")
        return seconds

    schema = {"anyOf": [{"type": "number", "minimum": low, "maximum": high}, {"type": "string"}]}
    return Kind("duration", parse, schema, show=show_duration)


def size(low: int, high: int) -> Kind:
    """Bytes from `low` to `high`, both included."""

    def parse(value: object) -> int:
        count = parse_size(value)
        if not low <= count <= high:
            raise ValueError(f"{_quote(value)} is out of range: from {show_size(low)} to {show_size(high)}")
        return count

    schema = {"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, {"type": "string"}]}
    return Kind("size", parse, schema, show=_show_size_exactly)


def integer(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`, both included."""

    def parse(value: object) -> int:
        text = str(value).strip()
        if isinstance(value, bool) or not isinstance(value, int | str) or not re.fullmatch(r"[+-]?\d{1,18}", text):
            raise ValueError(f"{_quote(value)} is not a whole number")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"{number} is out of range: from {low} to {high}")
        return number

    return Kind("integer", parse, {"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: float) -> Kind:
    """A number from `low` to `high`, both included."""

    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"{_quote(value)} is not a number")
        try:
            amount = float(value)
        except ValueError:
            raise ValueError(f"{_quote(value)} is not a number") from None
        if not low <= amount <= high:  # also refuses NaN
            raise ValueError(f"{_quote(value)} is out of range: from {low:g} to {high:g}")
        return amount

    return Kind("number", parse, {"type": "number", "minimum": low, "maximum": high})


def text(pattern: str, rule: str, *, name: str = "text") -> Kind:
    """A string that matches `pattern` as a whole; `rule` says so in words."""
    compiled = re.compile(pattern)

    def parse(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"{_quote(value)} does not fit: {rule}")
        return value

    return Kind(name, parse, {"type": "string", "pattern": f"^(?:{pattern})$"})


def hidden(rule: str) -> Kind:
    """A secret or an address with one inside: any line of text, never repeated in an error."""

    def parse(value: object) -> Hidden:
        if not isinstance(value, str) or not value.isprintable() or len(value) > 4096:
            raise ValueError(f"the value given does not fit: {rule}")
        return Hidden(value.strip())

    return Kind("text", parse, {"type": "string"})


def choice(*names: str) -> Kind:
    """One of `names`."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"{_quote(value)} is not one of {', '.join(names)}")
        return value

    return Kind("|".join(names), parse, {"enum": list(names)}, choices=names)


def switch() -> Kind:
    """True or false; as text also yes, no, on, off, 1, 0."""

    def parse(value: object) -> bool:
        found = value if isinstance(value, bool) else _SWITCH.get(str(value).strip().lower())
        if found is None or not isinstance(value, bool | str):
            raise ValueError(f"{_quote(value)} is not true or false")
        return found

    return Kind("true|false", parse, {"type": "boolean"}, shape="switch")


def path() -> Kind:
    """A file or folder name; may be empty. `~` is the home of the user who runs the node."""

    def parse(value: object) -> str:
        if not isinstance(value, str | os.PathLike) or "\0" in str(value) or len(str(value)) > 4096:
            raise ValueError(f"{_quote(value)} is not a path")
        return str(value)

    return Kind("path", parse, {"type": "string"})


def address() -> Kind:
    """HOST:PORT, or [HOST]:PORT for IPv6."""

    def parse(value: object) -> Address:
        if isinstance(value, Address):
            return value
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})", str(value))
        if match is None or int(match[3]) > 65535:
            raise ValueError(f"{_quote(value)} is not an address: write HOST:PORT, such as 127.0.0.1:8080")
        return Address(match[1] or match[2], int(match[3]))

    return Kind("host:port", parse, {"type": "string"}, show=str)


def networks() -> Kind:
    """Addresses and networks such as `10.0.0.0/8`, as a list or separated by commas."""

    def parse(value: object) -> tuple[Network, ...]:
        entries = value.split(",") if isinstance(value, str) else value
        if not isinstance(entries, list | tuple) or len(entries) > LIST_MAX:
            raise ValueError(f"{_quote(value)} is not a list of at most {LIST_MAX} networks, such as 10.0.0.0/8,::1")
        found = []
        for entry in filter(None, (str(entry).strip() for entry in entries)):
            try:
                found.append(ip_network(entry))
            except ValueError as error:
                raise ValueError(f"{_quote(entry)} is not a network such as 10.0.0.0/8: {error}") from None
        return tuple(found)

    return Kind("networks", parse, {"type": "array", "items": {"type": "string"}}, show=_show_networks)


def listing(name: str, item: Callable[[str], str], pattern: str = "") -> Kind:
    """A list of strings without repeats, each read by `item` (which raises ValueError)."""

    def parse(value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{_quote(value)} is not a list: write [{_quote(value)}]")
        for entry in value:
            if not isinstance(entry, str):
                raise ValueError(f"{_quote(entry)} in the list is not text")
        items = tuple(item(entry) for entry in value)
        if len(items) > LIST_MAX:
            raise ValueError(f"{len(items)} entries are too many: at most {LIST_MAX}")
        twice = next((entry for entry in items if items.count(entry) > 1), None)
        if twice is not None:
            raise ValueError(f'"{twice}" is listed twice')
        return items

    entry = {"type": "string", "pattern": f"^(?:{pattern})$"} if pattern else {"type": "string"}
    schema = {"type": "array", "items": entry, "maxItems": LIST_MAX, "uniqueItems": True}
    return Kind(name, parse, schema, shape="list", show=list)


def variables() -> Kind:
    """Environment variables: names to text."""

    def parse(value: object) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise ValueError(f"{_quote(value)} is not a table of names and texts")
        for key, content in value.items():
            variable_name(key)
            if not isinstance(content, str):
                raise ValueError(f'{key} = {_quote(content)} is not text: write {key} = "{content}"')
            if "\0" in content:
                raise ValueError(f"the value of {key} holds a NUL character")
        total = sum(len(key.encode()) + len(content.encode()) for key, content in value.items())
        if total > ENV_MAX:
            raise ValueError(f"{total} bytes of variables are too many: at most {show_size(ENV_MAX)}")
        return dict(value)

    schema = {
        "type": "object",
        "propertyNames": {"pattern": f"^(?!FAAS_){_VARIABLE.pattern}$"},
        "additionalProperties": {"type": "string"},
    }
    return Kind("NAME=text", parse, schema, shape="map")


def variable_name(name: object) -> str:
    """`name` itself when an environment variable or a secret may be called so. Raises ValueError."""
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        raise ValueError(f"{_quote(name)} is not a variable's name: {VARIABLE_RULE}")
    if name.startswith("FAAS_"):
        raise ValueError(f'"{name}" cannot be used: names that start with FAAS_ belong to the platform')
    return name


def _quote(value: object) -> str:
    shown = f'"{value}"' if isinstance(value, str) else repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _show_networks(value: str | tuple[Network, ...]) -> str:
    return value if isinstance(value, str) else ",".join(map(str, value))


def _show_size_exactly(count: int) -> str | int:
    """`256MiB` when that reads back as the same number, else the bytes."""
    shown = show_size(count)
    return shown if parse_size(shown) == count else count
