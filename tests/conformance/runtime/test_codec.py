"""Golden frames: what is on the wire does not change by accident, on either side of it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from faas.errors import ProtocolError
from faas.wire import codec, limits
from faas.wire import messages as m
from tests.conformance.runtime.node import RUNTIME
from tests.support import ROOT

GOLDEN = ROOT / "tests" / "conformance" / "golden" / "frames.txt"
PAIRS = [(b"content-type", b"text/plain")]
HEAD = m.invoke_head("c-0123", "http", "POST", "/a%20b", "q=1", PAIRS, 30_000, {"attempt": 1, "chain": ["web"]})
FRAMES: dict[str, m.Message] = {
    "HELLO": m.hello(1, "control", {"runtime": "python3.11", "pid": 1}),
    "WELCOME": m.welcome(1, {"frame_max": 1 << 20}),
    "INIT": m.init({"app": "default", "function": "grüß", "version": 3, "deps": [], "env": {"A": "b"}}),
    "READY": m.ready({"concurrency": 1, "mode": "sync", "handler": "a:b", "healthz": False, "import_ms": 1.5}),
    "INIT_FAILED": m.init_failed({"kind": "start", "type": "SyntaxError", "message": "x"}),
    "INVOKE": m.invoke(2, HEAD, b'{"a":1}', True),
    "REPLY": m.reply(2, 200, PAIRS, b"\x00\xff", {"run_us": 70_000}),
    "HEAD": m.head(2, 200, PAIRS),
    "CHUNK": m.chunk(1 << 40, b"x" * 300),
    "END": m.end(2, {"run_us": 1}),
    "ERROR": m.error(2, {"kind": "retry", "type": "Retry", "message": "", "retry_after_ms": 2500}),
    "CREDIT": m.credit(2, 131_072),
    "CANCEL": m.cancel(2, "deadline"),
    "LOG": m.log("c-0123", "stdout", 1_700_000_000_000, "line", {"n": None, "f": 0.5, "b": True}),
    "PING": m.ping(7),
    "PONG": m.pong(7),
    "DRAIN": m.drain(30_000),
    "DRAINED": m.drained(),
    "EXITED": m.exited({"code": None, "signal": 9, "oom": True, "detail": "out of memory"}),
    "KILL": m.kill("deadline"),
}


def _golden() -> dict[str, bytes]:
    rows = [line.split() for line in GOLDEN.read_text().splitlines() if line and not line.startswith("#")]
    return {name: bytes.fromhex(text) for name, text in rows}


def _lists(value: Any) -> Any:
    """Arrays come back as lists."""
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, list | tuple) else value


@pytest.fixture(scope="module")
def theirs() -> Iterator[ModuleType]:
    """The runtime's codec, which imports nothing of the platform."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RUNTIME))
        yield importlib.import_module("faas_runtime.codec")


def test_every_message_has_a_golden_frame() -> None:
    assert set(_golden()) == set(FRAMES) == set(m.NAMES.values())


@pytest.mark.parametrize("name", FRAMES)
def test_golden(name: str, theirs: ModuleType) -> None:
    frame, message = _golden()[name], FRAMES[name]
    assert codec.encode(message) == frame
    assert theirs.Encoder().encode(message) == frame
    assert codec.Decoder().feed(frame) == [_lists(message)]
    if message[0] in importlib.import_module("faas_runtime.protocol").ARITY:
        assert theirs.Decoder().feed(frame) == [_lists(message)]


def test_frames_split_anywhere(theirs: ModuleType) -> None:
    names = ("INVOKE", "PING", "CHUNK", "INIT")
    data = b"".join(_golden()[name] for name in names)
    expected = [_lists(FRAMES[name]) for name in names]
    for size in (1, 2, 3, 5, 7, 64, len(data) - 1):
        decoder = theirs.Decoder()
        found = [message for at in range(0, len(data), size) for message in decoder.feed(data[at : at + size])]
        assert found == expected, size


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\1\1", b"\0\0\0\2\x91\x63", b"\0\0\0\2\x91\6", b"\0\0\0\1\x90"],
)
def test_what_is_no_frame_is_refused(data: bytes, theirs: ModuleType) -> None:
    closed = importlib.import_module("faas_runtime.protocol").LinkClosed
    with pytest.raises(closed):
        theirs.Decoder().feed(data)
    with pytest.raises(ProtocolError):
        codec.Decoder().feed(data)


def test_numbers_are_the_same(theirs: ModuleType) -> None:
    protocol = importlib.import_module("faas_runtime.protocol")
    for number, name in m.NAMES.items():
        assert getattr(protocol, name) == number
    for name in (
        "PROTOCOL",
        "FRAME_MAX",
        "INLINE_MAX",
        "CHUNK_MAX",
        "WINDOW",
        "LOG_LINE_MAX",
        "TRACEBACK_MAX",
        "HEADERS_MAX",
    ):
        assert getattr(protocol, name) == getattr(limits, name), name
    with pytest.raises(theirs.TooLarge):
        theirs.Encoder().encode(m.chunk(2, bytes(limits.FRAME_MAX)))
