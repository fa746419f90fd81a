"""What the registry holds, as a node sees it: an immutable value made from the hash's fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import msgspec
import structlog

from faas.model import Function
from faas.store import keys

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Record(NamedTuple):
    """A record of a kind without a struct of its own."""

    rev: int
    payload: bytes


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The registry at one moment. Never change the dicts: a newer snapshot has dicts of its own."""

    functions: dict[str, Function] = {}
    """By `APP/NAME`."""
    secrets: dict[str, bytes] = {}
    """Sealed values by `APP/NAME`."""
    others: dict[str, Record] = {}
    """Everything else by its whole field, such as `t:SHA256`."""
    position: str = "0-0"
    """Id of the last change it contains."""


def apply_fields(old: Snapshot, position: str, fields: Mapping[bytes, bytes | None]) -> Snapshot:
    """A snapshot like `old` with these fields as they are now; None: gone.

    A record that cannot be read is left out and logged: one bad record must not take the others down.
    """
    functions, secrets, others = dict(old.functions), dict(old.secrets), dict(old.others)
    for raw, value in fields.items():
        field = raw.decode("utf-8", "replace")
        kind, key = field[:2], field[2:]
        if kind not in keys.KINDS:
            continue
        record = None if value is None else _split(value)
        if record is None and value is not None:
            _log.error("registry: a record is not readable and is ignored", field=field)
        if kind == keys.FUNCTION:
            _set(functions, key, None if record is None else _function(field, record))
        elif kind == keys.SECRET:
            _set(secrets, key, None if record is None else record.payload)
        else:
            _set(others, field, record)
    return Snapshot(functions=functions, secrets=secrets, others=others, position=position)


def _set(target: dict[str, T], key: str, value: T | None) -> None:
    if value is None:
        target.pop(key, None)
    else:
        target[key] = value


def _split(value: bytes) -> Record | None:
    rev, space, payload = value.partition(b" ")
    return Record(int(rev), payload) if space and rev.isdigit() else None


def _function(field: str, record: Record) -> Function | None:
    try:
        function = msgspec.json.decode(record.payload, type=Function)
    except msgspec.MsgspecError as error:
        _log.error(
            "registry: a function's record is not readable; it is unknown on this node",
            field=field,
            error=str(error),
        )
        return None
    return msgspec.structs.replace(function, rev=record.rev)
