"""Failures on the wire: what an instance says, bounded and typed here, and whole errors between our own processes."""

from __future__ import annotations

import signal
from functools import cache
from typing import Any

from faas.drivers.api import Exit
from faas.errors import (
    BadReply,
    BadRequest,
    CallerError,
    FaasError,
    FunctionError,
    HandlerRaised,
    InstanceDied,
    PlatformError,
    ProtocolError,
    StartFailed,
    Unavailable,
    all_errors,
)

RETRY_MAX_S = 7 * 86400.0


class RetryAsked(FunctionError):
    """The handler raised `Retry`: another attempt may work, after `retry_after_s` if it said so."""

    code, status = "retry", 503


_CALLER_BY_STATUS = {cls.status: cls for cls in all_errors() if issubclass(cls, CallerError)}


def error_from(detail: object) -> FaasError:
    """The error an ERROR or INIT_FAILED frame describes. Every field is the instance's word: bounded, typed."""
    if not isinstance(detail, dict):
        raise ProtocolError("error is not a map")
    kind, name = str(detail.get("kind", "raised")), str(detail.get("type", ""))[:200]
    message, hint = str(detail.get("message", ""))[:8192], str(detail.get("hint", ""))[:1024]
    extra: dict[str, Any] = {"type_name": name} if name else {}
    if trace := detail.get("traceback"):
        extra["traceback"] = str(trace)
    if kind == "caller":
        status = detail.get("status", 400)
        return _CALLER_BY_STATUS.get(status if isinstance(status, int) else 400, BadRequest)(message, hint=hint)
    if kind == "retry":
        return RetryAsked(message, hint="Repeat the call later.", retry_after_s=_after_s(detail), extra=extra)
    text = f"{name}: {message}" if name else message
    if kind == "start":
        return StartFailed(text, hint=hint, extra=extra)
    if kind == "reply":
        return BadReply(message, hint=hint, extra=extra)
    return HandlerRaised(text, hint=hint, extra=extra)


def _after_s(detail: dict[str, Any]) -> float | None:
    after_ms = detail.get("retry_after_ms")
    if isinstance(after_ms, bool) or not isinstance(after_ms, int | float) or not 0 <= after_ms <= RETRY_MAX_S * 1000:
        return None
    return after_ms / 1000


def whole(error: FaasError) -> dict[str, Any]:
    """The map of an ERROR between processes of ours: `from_whole` makes the same error of it."""
    return {
        "code": error.code,
        "fault": error.fault,
        "message": error.message,
        "hint": error.hint,
        "retry_after_s": error.retry_after_s,
        "extra": error.extra,
    }


def from_whole(detail: object) -> FaasError:
    """Inverse of `whole`. Never for what an instance says: it may not speak as the platform."""
    if not isinstance(detail, dict) or "code" not in detail:
        return error_from(detail)
    cls = _by_code().get(detail["code"]) or _BY_FAULT.get(detail["fault"], PlatformError)
    return cls(
        detail["message"], hint=detail["hint"], retry_after_s=detail["retry_after_s"], extra=dict(detail["extra"])
    )


@cache
def _by_code() -> dict[str, type[FaasError]]:
    return {cls.code: cls for cls in all_errors()}


_BY_FAULT: dict[str, type[FaasError]] = {cls.fault: cls for cls in (CallerError, FunctionError, PlatformError)}


def died(cause: object) -> InstanceDied:
    """InstanceDied from EXITED: out of memory, signal or exit code, in words."""
    cause = cause if isinstance(cause, dict) else {}
    code, signal_number = cause.get("code"), cause.get("signal")
    detail = str(cause.get("detail", ""))[:500]
    extra: dict[str, Any] = {"exit": {"code": code, "signal": signal_number, "oom": bool(cause.get("oom"))}}
    if cause.get("oom"):
        return InstanceDied("the instance ran out of memory", hint="Raise `memory` or use less.", extra=extra)
    if isinstance(signal_number, int):
        return InstanceDied(
            f"the process was killed by signal {_signal_name(signal_number)} {detail}".strip(), extra=extra
        )
    said = "" if detail == f"exited with code {code}" else f" {detail}"
    return InstanceDied(f"the process exited with code {code}{said}".strip(), extra=extra)


def ended(exit: Exit) -> FaasError:
    """Why an instance is gone without a word of its supervisor, by the driver's account."""
    if not exit.lost:
        return died({"code": exit.code, "signal": exit.signal, "oom": exit.oom, "detail": exit.detail})
    return Unavailable(
        f"the instance was lost while the call ran: {exit.detail[:500] or 'nobody knows why'}",
        hint="The call had begun: repeat it only if running twice does no harm.",
    )


def _signal_name(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)
