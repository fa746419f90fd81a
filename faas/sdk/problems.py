"""From a node's answer back to the error tree: the inverse of `faas.errors.problem`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faas.errors import (
    CallerError,
    DeadlineExceeded,
    FaasError,
    Forbidden,
    FunctionError,
    NotFound,
    PlatformError,
    TooLarge,
    Unauthorized,
    Unavailable,
    all_errors,
)

_BASES: Mapping[str, type[FaasError]] = {
    "caller": CallerError,
    "function": FunctionError,
    "platform": PlatformError,
}
_BARE: Mapping[int, type[FaasError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 413: TooLarge}
_STANDARD = ("type", "title", "detail", "hint")


def from_problem(document: Mapping[str, Any], *, retry_after: str = "") -> FaasError:
    """The error a problem document stands for.

    `extra` keeps the other members: `call_id`, `traceback`, and for a code this client does not know also
    `code` and `status`; such an error is of its fault's base class.

    Args:
        document: the decoded body.
        retry_after: the header of that name, in seconds; empty: none.
    """
    code, fault = str(document.get("code", "")), str(document.get("fault", ""))
    known = {cls.code: cls for cls in all_errors()}
    cls = known.get(code) or _BASES.get(fault, PlatformError)
    standard = (*_STANDARD, "code", "status", "fault") if code in known else _STANDARD
    message = str(document.get("detail") or document.get("title") or code or "the node gave no reason")
    return cls(
        message,
        hint=str(document.get("hint") or ""),
        retry_after_s=float(retry_after) if retry_after.isdigit() else None,
        extra={key: value for key, value in document.items() if key not in standard},
    )


def from_status(url: str, status: int) -> FaasError:
    """The error for a status alone: the answer to a HEAD has no body."""
    cls = _BARE.get(status, Unavailable)
    return cls(f"{url} answered {status}", hint="Run `faas status` to see why.")


def from_bare(url: str, status: int, content_type: str) -> FaasError:
    """The error for an answer that is no problem document: something else than a node wrote it."""
    cls = DeadlineExceeded if status == 504 else _BARE.get(status, Unavailable)
    kind = content_type or "no content type"
    return cls(
        f"{url} answered {status} with {kind}, which is not how this platform answers",
        hint="Check the URL; a proxy in between may be the one that answers.",
    )
