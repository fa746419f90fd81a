"""Frames to bytes and back, without I/O: `u32 length, big endian` + msgpack array."""

from __future__ import annotations

import struct
import sys
from typing import Any

import msgpack

from faas.errors import ProtocolError
from faas.wire.limits import FRAME_MAX
from faas.wire.messages import NAMES, Message

_LENGTH = struct.Struct(">I")
# Minimum number of elements of a frame, its type included. More are allowed: later minor revisions append.
_ARITY = {1: 4, 2: 3, 3: 2, 4: 2, 5: 2, 6: 5, 7: 6, 8: 4, 9: 3, 10: 3, 11: 3, 12: 3, 13: 3, 14: 6, 15: 2, 16: 2,
          17: 2, 18: 1, 19: 2, 20: 2}  # fmt: skip

_packer = msgpack.Packer(use_bin_type=True, autoreset=True)


def encode(message: Message | list[Any]) -> bytes:
    """One frame. Raises ProtocolError when it is larger than FRAME_MAX: split bodies before this."""
    payload: bytes = _packer.pack(message)
    if len(payload) > FRAME_MAX:
        raise ProtocolError(f"{NAMES.get(message[0])} of {len(payload)} bytes exceeds the frame limit of {FRAME_MAX}")
    return _LENGTH.pack(len(payload)) + payload


class Decoder:
    """Turns a byte stream into messages. One per connection; after an error it stays broken."""

    __slots__ = ("_buffer", "more")

    def __init__(self) -> None:
        self._buffer = b""
        self.more = False
        """The last `feed` has left something for another one, which needs no new data."""

    def feed(self, data: bytes, most: int = sys.maxsize) -> list[Message]:
        """Messages completed by `data`, in order.

        Args:
            most: so many at once; see `more`.

        Raises:
            ProtocolError: a frame is too large, is not msgpack, or is not a known message.
        """
        buffer = self._buffer + data if self._buffer else data
        messages: list[Message] = []
        at, size = 0, len(buffer)
        while size - at >= 4 and len(messages) < most:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > FRAME_MAX:
                raise ProtocolError(f"frame of {length} bytes exceeds the limit of {FRAME_MAX}")
            stop = at + 4 + length
            if stop > size:
                break
            messages.append(_parse(buffer[at + 4 : stop]))
            at = stop
        self._buffer = buffer[at:] if at else buffer
        self.more = len(messages) == most and at < size
        return messages


def _parse(payload: bytes) -> Message:
    try:
        message = msgpack.unpackb(payload, raw=False, use_list=True, strict_map_key=False)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as cause:
        raise ProtocolError(f"frame is not valid msgpack: {cause}") from cause
    if not isinstance(message, list) or not message or not isinstance(message[0], int):
        raise ProtocolError("frame is not an array that starts with a type number")
    arity = _ARITY.get(message[0])
    if arity is None:
        raise ProtocolError(f"unknown frame type {message[0]}")
    if len(message) < arity:
        raise ProtocolError(f"{NAMES[message[0]]} has {len(message)} elements, needs {arity}")
    return message
