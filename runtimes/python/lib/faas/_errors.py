"""What a handler may raise or catch."""

from __future__ import annotations


class Cancelled(BaseException):
    """The call is no longer wanted: its deadline has passed or its caller is gone.

    Raised inside a plain handler where it happens to be; an async one sees asyncio.CancelledError. Like that
    one it is no Exception, so that `except Exception` does not swallow it.
    """


class Retry(Exception):
    """Ask for another attempt: `raise faas.Retry(after=30)`. `after` is in seconds; None: the platform chooses."""

    def __init__(self, message: str = "the handler asks for another attempt", *, after: float | None = None) -> None:
        super().__init__(message)
        if after is not None and not 0 <= after <= 7 * 86400:
            raise ValueError(f"after={after!r} is not between 0 and 604800 seconds")
        self.after = after


class CallError(Exception):
    """A function called with `faas.call` failed.

    `kind` is the protocol's (`raised`, `caller`, `cancelled`, ...) or `status` when it answered with an HTTP
    status of 400 or more; `type` is the other side's exception; `status` an HTTP status or 0; `body` its reply.
    """

    def __init__(
        self, message: str, *, kind: str = "", type: str = "", status: int = 0, hint: str = "", body: bytes = b""
    ) -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.kind = kind
        self.type = type
        self.status = status
        self.hint = hint
        self.body = body
