"""What a handler can know about the call it serves."""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from typing import Any


class Identity:
    """What is the same for every call of an instance."""

    __slots__ = ("app", "function", "instance", "logger", "version")

    def __init__(self, app: str, function: str, version: int, instance: str) -> None:
        self.app = app
        self.function = function
        self.version = version
        self.instance = instance
        self.logger = logging.getLogger(function or "function")


class Context:
    """One call. `deadline` is in Unix seconds, `remaining()` in seconds."""

    __slots__ = ("_extra", "_identity", "call_id", "cancelled", "deadline")

    def __init__(self, identity: Identity, call_id: str, deadline: float, extra: dict[str, Any]) -> None:
        self._identity = identity
        self._extra = extra
        self.call_id = call_id
        self.deadline = deadline
        self.cancelled = False
        """True once the caller no longer wants the answer: for loops in handlers that run in threads."""

    def remaining(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self.deadline - time.time())

    @property
    def app(self) -> str:
        return self._identity.app

    @property
    def function(self) -> str:
        return self._identity.function

    @property
    def version(self) -> int:
        return self._identity.version

    @property
    def instance(self) -> str:
        return self._identity.instance

    @property
    def logger(self) -> logging.Logger:
        """A logger whose lines carry this call's id, as those of every logger do."""
        return self._identity.logger

    @property
    def attempt(self) -> int:
        """1 for the first try."""
        return int(self._extra.get("attempt") or 1)

    @property
    def trace(self) -> str:
        """The W3C traceparent, or an empty string."""
        return str(self._extra.get("trace") or "")

    @property
    def cloudevent(self) -> dict[str, Any] | None:
        """Attributes of the event (`id`, `source`, `type`, ...), None for a plain call."""
        return self._extra.get("cloudevent")

    @property
    def extra(self) -> dict[str, Any]:
        """All the platform sent along, as it came."""
        return self._extra

    def __repr__(self) -> str:
        return f"<faas.Context {self.call_id} of {self.function}@{self.version}>"


calling: ContextVar[Context | None] = ContextVar("faas_call", default=None)


def current() -> Context:
    """The context of the call this code runs in. Raises RuntimeError outside of one."""
    context = calling.get()
    if context is None:
        raise RuntimeError(
            "faas.current() works only while a call runs, and in threads only with its context: "
            "start them with contextvars.copy_context().run"
        )
    return context
