"""What a handler can know about the call it serves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol


class Steps(Protocol):
    """What the runtime plugs in."""

    def step(self, context: Context, name: str, work: Callable[[], Any]) -> Any: ...

    async def step_async(self, context: Context, name: str, work: Callable[[], Any]) -> Any: ...


class Step:
    """`context.step("charge", fn, 3)`, and in async code `await context.step.aio("charge", fn, 3)`.

    Runs `fn(*arguments, **named)` and keeps what it returns under the invocation: when a later attempt of the same
    background call comes here again, it gets the kept result and `fn` does not run. The result is what JSON can carry,
    str or bytes, at most 1 MiB; it is returned as it was kept, so a tuple comes back as a list, in every attempt.
    Plain calls have one attempt: for them `fn` just runs.

    Args:
        name: 1 to 200 characters, the same in every attempt and different for every step.

    Raises:
        CallError: the result could not be kept; `fn` may have run.
        TypeError, ValueError: name or result are not of that kind.
    """

    __slots__ = ("_context",)
    backend: Steps | None = None

    def __init__(self, context: Context) -> None:
        self._context = context

    def __call__(self, name: str, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        return self._steps(name).step(self._context, name, partial(fn, *arguments, **named))

    async def aio(self, name: str, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """The same for async code; `fn` may be async."""
        return await self._steps(name).step_async(self._context, name, partial(fn, *arguments, **named))

    def _steps(self, name: str) -> Steps:
        if not isinstance(name, str) or not 1 <= len(name) <= 200:
            raise ValueError(f"a step's name is a str of 1 to 200 characters, not {name!r:.80}")
        if Step.backend is None:
            raise RuntimeError("context.step works in an instance that has been given its function")
        return Step.backend


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
    def step(self) -> Step:
        """Run a step whose result survives a retry: see `Step`."""
        return Step(self)

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
