"""Frames to bytes and back, with a msgpack of our own.

msgpack is imported from the private folder and then forgotten: these references live on, while a function
that imports `msgpack` gets the version it depends on. (A renamed copy would not do: the C part collides.)
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence

import msgpack

from faas_runtime.protocol import ARITY, FRAME_MAX, LinkClosed, Message

_LENGTH = struct.Struct(">I")
_unpack = msgpack.unpackb
_Packer = msgpack.Packer
_BAD = (ValueError, msgpack.UnpackException, RecursionError, UnicodeDecodeError)
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_VENDORED = (msgpack.__file__ or "").startswith(_HOME + os.sep)


class TooLarge(ValueError):
    """A frame over FRAME_MAX."""


def forget_msgpack(folders: Sequence[str]) -> None:
    """Leave the name `msgpack` to user code, whose own folders are `folders`.

    An interpreter's own msgpack (no vendor/ here) stays unless the user brings another: its C part cannot
    be imported a second time from the same file.
    """
    if _VENDORED or any(os.path.exists(os.path.join(folder, "msgpack")) for folder in folders):
        for name in [n for n in sys.modules if n == "msgpack" or n.startswith("msgpack.")]:
            del sys.modules[name]


class Encoder:
    """Makes frames. Not for several threads at once."""

    __slots__ = ("_pack",)

    def __init__(self) -> None:
        self._pack = _Packer(use_bin_type=True, autoreset=True, unicode_errors="backslashreplace").pack

    def encode(self, message: Message) -> bytes:
        """One frame. Raises TooLarge, TypeError or ValueError for what msgpack cannot carry."""
        payload: bytes = self._pack(message)
        if len(payload) > FRAME_MAX:
            raise TooLarge(f"frame of {len(payload)} bytes exceeds the limit of {FRAME_MAX}")
        return _LENGTH.pack(len(payload)) + payload


class Decoder:
    """Turns a byte stream into messages. After LinkClosed it stays broken."""

    __slots__ = ("_rest", "_size", "_want")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0
        self._want = 4

    def feed(self, data: bytes) -> list[Message]:
        """Messages completed by `data`, in order. Raises LinkClosed for anything that is not a known frame."""
        if self._rest:
            self._rest.append(data)
            self._size += len(data)
            if self._size < self._want:
                return []
            data = b"".join(self._rest)
            self._rest = []
        messages: list[Message] = []
        at, size, want = 0, len(data), 4
        while size - at >= 4:
            (length,) = _LENGTH.unpack_from(data, at)
            if length > FRAME_MAX:
                raise LinkClosed(f"frame of {length} bytes exceeds the limit of {FRAME_MAX}")
            stop = at + 4 + length
            if stop > size:
                want = 4 + length
                break
            messages.append(_parse(data[at + 4 : stop]))
            at = stop
        if at < size:
            self._rest, self._size, self._want = [data[at:]], size - at, want
        return messages


def _parse(payload: bytes) -> Message:
    try:
        message = _unpack(payload, raw=False, use_list=True, strict_map_key=False)
    except _BAD as cause:
        raise LinkClosed(f"frame is not valid msgpack: {cause}") from cause
    if not isinstance(message, list) or not message or not isinstance(message[0], int):
        raise LinkClosed("frame is not an array that starts with a type number")
    arity = ARITY.get(message[0])
    if arity is None:
        raise LinkClosed(f"frame of type {message[0]} is not for an instance")
    if len(message) < arity:
        raise LinkClosed(f"frame of type {message[0]} has {len(message)} elements, needs {arity}")
    return message
