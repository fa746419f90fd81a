"""What a command's end means in numbers. The one mapping from errors to exit codes."""

from __future__ import annotations

from faas.errors import (
    CallerError,
    DeadlineExceeded,
    FaasError,
    Forbidden,
    FunctionError,
    RequestTimeout,
    TooManyRequests,
    Unauthorized,
)

OK = 0
FUNCTION = 1
USAGE = 2
PLATFORM = 3
DENIED = 4
DEADLINE = 124
INTERRUPTED = 130

MEANING = {
    OK: "done",
    FUNCTION: "the function failed",
    USAGE: "wrong use, or no such thing",
    PLATFORM: "the platform or the network failed",
    DENIED: "not allowed",
    DEADLINE: "the deadline passed",
    INTERRUPTED: "interrupted",
}

_RULES: tuple[tuple[type[FaasError], int], ...] = (
    (DeadlineExceeded, DEADLINE),
    (RequestTimeout, DEADLINE),
    (Unauthorized, DENIED),
    (Forbidden, DENIED),
    (TooManyRequests, PLATFORM),
    (CallerError, USAGE),
    (FunctionError, FUNCTION),
)


def exit_code(error: FaasError) -> int:
    """The exit code for `error`: its first match in the rules, else 3."""
    return next((code for kind, code in _RULES if isinstance(error, kind)), PLATFORM)
