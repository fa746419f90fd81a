"""An exception to the error map of the protocol, with the user's own frames only."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import traceback
from typing import Any

from faas import Cancelled, Retry
from faas_runtime.events import BadBody
from faas_runtime.protocol import TRACEBACK_MAX
from faas_runtime.replies import BadReply

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_MESSAGE_MAX = 4096
_NETWORK_ERRNOS = {
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.ENETDOWN,
}  # fmt: skip


class LoadError(Exception):
    """The code has no handler that can be used. Not an exception of the user's: it has no traceback."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def describe(
    error: BaseException, *, kind: str = "raised", network: str = "", cancelled: bool = False
) -> dict[str, Any]:
    """The error map for `error`.

    Args:
        kind: `raised`, or `start` while the code is loaded.
        network: the function's network, to explain its errors.
        cancelled: the node has asked to end this call.
    """
    if cancelled and isinstance(error, (Cancelled, asyncio.CancelledError)):
        return _map("cancelled", error, message=_text(error) or "the call was cancelled")
    if isinstance(error, BadBody):
        return {**_map("caller", error, hint=error.hint), "status": 400}
    if isinstance(error, BadReply):
        return _map("reply", error, hint=error.hint)
    if isinstance(error, LoadError):
        return _map("start", error, hint=error.hint)
    if isinstance(error, Retry) and kind == "raised":
        detail = _map("retry", error)
        if error.after is not None:
            detail["retry_after_ms"] = int(error.after * 1000)
        return detail
    return _map(kind, error, hint=_hint(error, network), trace=_trace(error))


def _map(
    kind: str, error: BaseException, message: str | None = None, hint: str = "", trace: str = ""
) -> dict[str, Any]:
    text = _text(error) if message is None else message
    return {"kind": kind, "type": type(error).__name__, "message": text, "traceback": trace, "hint": hint}


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as inner:
        text = f"(its message cannot be shown: {type(inner).__name__})"
    return text if len(text) <= _MESSAGE_MAX else text[:_MESSAGE_MAX] + "…"


def _trace(error: BaseException) -> str:
    try:
        shown = traceback.TracebackException(type(error), error, error.__traceback__)
        _only_theirs(shown, 0)
        text = "".join(shown.format())
    except Exception as inner:  # a __str__ or __repr__ that raises
        return f"(no traceback: {type(inner).__name__} while it was formatted)"
    if len(text) <= TRACEBACK_MAX:
        return text
    half = TRACEBACK_MAX // 2 - 32
    return f"{text[:half]}\n… [cut, {len(text) - 2 * half} characters]\n{text[-half:]}"


def _only_theirs(shown: traceback.TracebackException, depth: int) -> None:
    """Take our own frames and the import system's out, in causes and groups too."""
    shown.stack = traceback.StackSummary.from_list(
        [f for f in shown.stack if not f.filename.startswith((_HOME, "<frozen importlib"))]
    )
    if depth < 50:
        for inner in (shown.__cause__, shown.__context__, *(getattr(shown, "exceptions", None) or ())):
            if inner is not None:
                _only_theirs(inner, depth + 1)


def _hint(error: BaseException, network: str) -> str:
    if network == "none" and _is_network(error):
        return "This function has no network; push it with --network egress."
    if isinstance(error, SystemExit):
        return "Return a value or raise an exception; exiting ends only this call."
    if isinstance(error, ModuleNotFoundError):
        return f"Add the package that has {error.name!r} to the function's dependencies and push again."
    if isinstance(error, MemoryError):
        return "Push the function with more --memory, or let it read its input in pieces."
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return "The file system is read-only; write to /tmp, which is emptied with the instance."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "/tmp is full; remove files that are no longer needed, it is shared by the calls of an instance."
    return ""


def _is_network(error: BaseException) -> bool:
    """Also through wrappers such as urllib's: the first OSError of the chain decides."""
    seen: BaseException | None = error
    for _ in range(10):
        if isinstance(seen, socket.gaierror) or (isinstance(seen, OSError) and seen.errno in _NETWORK_ERRNOS):
            return True
        reason = getattr(seen, "reason", None)
        if isinstance(reason, BaseException):
            seen = reason
        elif seen is not None:
            seen = seen.__cause__ or seen.__context__
        if seen is None:
            return False
    return False
