"""The few things of Linux that the standard library does not offer, through libc."""

from __future__ import annotations

import ctypes
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_fflush = _libc.fflush
_fflush.argtypes = [ctypes.c_void_p]
_fflush.restype = ctypes.c_int
try:
    _stdout = ctypes.c_void_p.in_dll(_libc, "stdout")
except ValueError:  # a libc without the symbol: its buffered output is sent when the process ends
    _stdout = None  # type: ignore[assignment]


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def set_dumpable(on: bool) -> None:
    """Off: processes of the same user can neither trace this one nor read its memory. Children inherit it."""
    _prctl(_PR_SET_DUMPABLE, int(on))


def become_subreaper() -> None:
    """Orphans among our descendants become our children, so that none escapes."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """The kernel kills this process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def flush_stdout() -> None:
    """What C code wrote with stdio to its stdout goes to file descriptor 1.

    Only that stream: flushing all of them would wait for a thread that is blocked in reading one.
    """
    if _stdout is not None:
        _fflush(_stdout)
