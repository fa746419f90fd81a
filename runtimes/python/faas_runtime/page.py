"""One page of memory that supervisor and child share: how a call's raw output and its end stay in order.

    0      busy: the supervisor has read output that it has not yet sent
    1, 2   the last line of stdout, of stderr is not complete
    8..16  stream that the node wants cancelled
    16..24 how many reads of stdout, of stderr have been sent, two counters of 32 bits
    64..128 id of the call that runs, padded with zeros

The child can write what it likes here, so the supervisor treats every byte as hostile.
"""

from __future__ import annotations

import mmap
import struct

_CANCEL = struct.Struct("<Q")
_COUNTS = struct.Struct("<II")
_ID_AT, _ID_SIZE = 64, 64


class Page:
    """Shared by a supervisor and one child; made before the fork."""

    __slots__ = ("_map",)

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, mmap.PAGESIZE)

    def close(self) -> None:
        self._map.close()

    @property
    def busy(self) -> bool:
        return self._map[0] != 0

    @busy.setter
    def busy(self, on: bool) -> None:
        self._map[0] = on

    def partial(self, pipe: int) -> bool:
        """True when pipe 1 or 2 ends in the middle of a line."""
        return self._map[pipe] != 0

    def set_partial(self, pipe: int, on: bool) -> None:
        self._map[pipe] = on

    def count(self, pipe: int, reads: int) -> None:
        """The supervisor has sent what so many more reads of pipe 1 or 2 gave."""
        counts = list(_COUNTS.unpack_from(self._map, 16))
        counts[pipe - 1] = (counts[pipe - 1] + reads) & 0xFFFF_FFFF
        _COUNTS.pack_into(self._map, 16, *counts)

    def counts(self) -> tuple[int, ...]:
        """Reads sent of pipe 1 and pipe 2."""
        return _COUNTS.unpack_from(self._map, 16)

    @property
    def cancelled(self) -> int:
        """Stream the node wants cancelled; 0: none."""
        return int(_CANCEL.unpack_from(self._map, 8)[0])

    @cancelled.setter
    def cancelled(self, stream: int) -> None:
        _CANCEL.pack_into(self._map, 8, stream)

    @property
    def call(self) -> str:
        """Id of the call that runs, empty between calls."""
        return self._map[_ID_AT : _ID_AT + _ID_SIZE].rstrip(b"\0").decode("utf-8", "replace")

    def begin_call(self, call_id: str) -> None:
        self._map[_ID_AT : _ID_AT + _ID_SIZE] = call_id.encode("utf-8", "replace")[:_ID_SIZE].ljust(_ID_SIZE, b"\0")

    def end_call(self) -> None:
        self._map[_ID_AT : _ID_AT + _ID_SIZE] = bytes(_ID_SIZE)
