"""`runtimes/PROTOCOL.md` is normative; limits, messages and codec say the same."""

from __future__ import annotations

import re
from typing import Any

import pytest

from faas.wire import codec, limits, messages
from tests.house.source import text

PROTOCOL = text("runtimes/PROTOCOL.md")
LIMIT_ROW = re.compile(r"^\| ([A-Z_]+) \| (\d+) \|", re.MULTILINE)
FRAME_ROW = re.compile(r"^\| (\d+) \| ([A-Z_]+) `\[(\d+)((?:, \w+)*)\]` \|", re.MULTILINE)
FRAMES = {
    int(number): (name, int(first), fields.count(",") + 1)
    for number, name, first, fields in FRAME_ROW.findall(PROTOCOL)
}

# An argument for every builder, by the name of its parameter.
SAMPLES: dict[str, Any] = {
    "protocol": limits.PROTOCOL, "role": "data", "stream": 2, "size": 1024, "status": 200, "last": True, "token": 7,
    "grace_ms": 500, "reason": "deadline", "body": b"{}", "data": b"x", "headers": [(b"a", b"b")], "head": ["c-1"],
    "call_id": "c-1", "level": "info", "time_ms": 0, "text": "line",
}  # fmt: skip
MAPS = {"info", "limits", "spec", "error", "detail", "fields", "cause"}


def test_limits_are_those_of_the_table() -> None:
    table = {name: int(value) for name, value in LIMIT_ROW.findall(PROTOCOL)}
    module = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert table == module


def test_frames_are_those_of_the_table() -> None:
    assert {number: name for number, (name, _, _) in FRAMES.items()} == messages.NAMES
    assert all(number == first for number, (_, first, _) in FRAMES.items()), "a row's array starts with another type"


def test_the_codec_asks_for_as_many_elements_as_the_table_shows() -> None:
    assert {number: size for number, (_, _, size) in FRAMES.items()} == codec._ARITY


@pytest.mark.parametrize("number", sorted(messages.NAMES))
def test_builders_make_what_the_table_shows(number: int) -> None:
    name, _, size = FRAMES[number]
    builder = getattr(messages, name.lower())
    parameters = builder.__code__.co_varnames[: builder.__code__.co_argcount]
    message = builder(**{parameter: {} if parameter in MAPS else SAMPLES[parameter] for parameter in parameters})
    assert message[0] == number
    assert len(message) == size
    decoded = codec.Decoder().feed(codec.encode(message))
    assert [frame[0] for frame in decoded] == [number]


def test_the_head_of_a_call_has_the_fields_of_the_table() -> None:
    section = PROTOCOL.split("## 5. Calls", 1)[1].split("## 6.", 1)[0]
    table = re.findall(r"^\| (\d+) \| `(\w+)` \|", section, re.MULTILINE)
    builder = messages.invoke_head.__code__
    assert [name for _, name in table] == list(builder.co_varnames[: builder.co_argcount])
    assert [int(at) for at, _ in table] == list(range(len(table)))
