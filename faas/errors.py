"""Every error a user can meet, split by whose fault it is.

    FaasError
    |- CallerError                 the request is wrong; repeating it will not help
    |  |- BadRequest 400  Unauthorized 401  Forbidden 403  NotFound 404  MethodNotAllowed 405
    |  |- RequestTimeout 408  Conflict 409  TooLarge 413  Invalid 422  TooManyRequests 429  CallLoop 508
    |- FunctionError               the user's code, or the limits set for it
    |  |- HandlerRaised 500  StartFailed 500  BadReply 500
    |  |- InstanceDied 502  CrashLoop 502  DeadlineExceeded 504
    |- PlatformError               ours or the operator's
       |- Internal 500  NoRoom 503  NotBegun 503  Unavailable 503  Paused 503

`message` says what is wrong and why, `hint` says what to do next. The mapping to HTTP is `problem()`,
and it is the only one. Whether the caller may see the details is decided at the door, not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, ClassVar, Literal

Fault = Literal["caller", "function", "platform"]


class FaasError(Exception):
    """Base of the tree. Subclasses fix `code`, `status` (HTTP) and `fault`.

    Args:
        message: one sentence: what is wrong, naming the input and the rule.
        hint: one sentence: what to do next; may be empty.
        retry_after_s: seconds after which a repeat may succeed, for 429 and 503.
        extra: members added to the problem document (JSON values only).
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    fault: ClassVar[Fault] = "platform"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        retry_after_s: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s
        self.extra = extra or {}


class CallerError(FaasError):
    code, status, fault = "caller_error", 400, "caller"


class BadRequest(CallerError):
    code, status = "bad_request", 400


class Unauthorized(CallerError):
    code, status = "unauthorized", 401


class Forbidden(CallerError):
    code, status = "forbidden", 403


class NotFound(CallerError):
    code, status = "not_found", 404


class MethodNotAllowed(CallerError):
    code, status = "method_not_allowed", 405


class RequestTimeout(CallerError):
    code, status = "request_timeout", 408


class Conflict(CallerError):
    code, status = "conflict", 409


class TooLarge(CallerError):
    code, status = "too_large", 413


class Invalid(CallerError):
    code, status = "invalid", 422


class TooManyRequests(CallerError):
    code, status = "too_many_requests", 429


class CallLoop(CallerError):
    """Functions call each other deeper than allowed."""

    code, status = "call_loop", 508


class FunctionError(FaasError):
    code, status, fault = "function_error", 500, "function"


class HandlerRaised(FunctionError):
    """The handler raised. `extra` has `type` and, for those who may see it, `traceback`."""

    code, status = "handler_raised", 500


class StartFailed(FunctionError):
    """The code could not be imported or its start hook raised; `extra["traceback"]` is the handler's own."""

    code, status = "start_failed", 500


class BadReply(FunctionError):
    """The handler returned something that cannot be sent."""

    code, status = "bad_reply", 500


class InstanceDied(FunctionError):
    """The process ended while the attempt ran: signal, out of memory, or exit code."""

    code, status = "instance_died", 502


class CrashLoop(FunctionError):
    """Instances of this version keep dying at start; the next try is backed off."""

    code, status = "crash_loop", 502


class DeadlineExceeded(FunctionError):
    code, status = "deadline_exceeded", 504


class PlatformError(FaasError):
    code, status, fault = "platform_error", 500, "platform"


class Internal(PlatformError):
    code, status = "internal", 500


class NoRoom(PlatformError):
    """No node has memory or instances left for this call."""

    code, status = "no_room", 503


class Unavailable(PlatformError):
    """Something the platform needs (Redis, the engine) does not answer, or the node is stopping."""

    code, status = "unavailable", 503


class NotBegun(PlatformError):
    """A call sent ahead whose turn never came: it is run elsewhere. Never reaches a caller."""

    code, status = "not_begun", 503


class Paused(PlatformError):
    code, status = "paused", 503


class ProtocolError(FaasError):
    """The other side of a link broke the protocol. Never reaches a caller as such: the link is closed."""

    code, status, fault = "protocol_error", 502, "platform"


def all_errors() -> list[type[FaasError]]:
    """Every concrete class of the tree, for documentation and tests."""
    found: list[type[FaasError]] = []
    todo = [FaasError]
    while todo:
        cls = todo.pop()
        subclasses = cls.__subclasses__()
        todo.extend(subclasses)
        if not subclasses:
            found.append(cls)
    return sorted(found, key=lambda c: c.__name__)


def problem(error: FaasError, *, call_id: str | None = None, full: bool = True) -> dict[str, Any]:
    """The RFC 9457 document for `error`.

    Args:
        call_id: the call it belongs to, if any.
        full: False for callers without the invoke role: they get code, fault and call id only.
    """
    doc: dict[str, Any] = {"status": error.status, "code": error.code, "fault": error.fault}
    if call_id:
        doc["call_id"] = call_id
    if not full:
        return doc
    doc["type"] = f"urn:faas:error:{error.code}"
    doc["title"] = error.code.replace("_", " ")
    doc["detail"] = error.message
    if error.hint:
        doc["hint"] = error.hint
    doc.update(error.extra)
    return doc


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """`Did you mean "a" or "b"?`, or an empty string when nothing is close."""
    close = get_close_matches(wanted, list(known), n=3, cutoff=0.6)
    if not close:
        return ""
    return "Did you mean " + " or ".join(f'"{name}"' for name in close) + "?"
