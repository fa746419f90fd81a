"""What a handler's file may use, on the client's side: enough to import it, run it and test it as plain Python.

Inside an instance `import faas` finds the runtime's own module with the same names. Decorators mark and return
what they are given, so a handler can be called like any function.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, overload

from faas.sdk.call import CallError, call
from faas.sdk.request import File, Headers, Request, Response

F = TypeVar("F", bound=Callable[..., Any])
MARK = "__faas_function__"
"""Attribute of a marked function: its settings."""

__all__ = [
    "App",
    "CallError",
    "Cancelled",
    "Context",
    "File",
    "Headers",
    "Request",
    "Response",
    "Retry",
    "call",
    "current",
    "function",
    "on_start",
    "on_stop",
    "secret",
]


class Cancelled(BaseException):
    """The call is no longer wanted: its deadline has passed or its caller is gone.

    No Exception, so that `except Exception` does not swallow it.
    """


class Retry(Exception):
    """Ask for another attempt: `raise faas.Retry(after=30)`. `after` is in seconds; None: the platform chooses."""

    def __init__(self, message: str = "the handler asks for another attempt", *, after: float | None = None) -> None:
        super().__init__(message)
        if after is not None and not 0 <= after <= 7 * 86400:
            raise ValueError(f"after={after!r} is not between 0 and 604800 seconds")
        self.after = after


class Step:
    """Runs a step; nothing is kept, because there is one attempt."""

    def __call__(self, name: str, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """What `fn` returns."""
        return fn(*arguments, **named)

    async def aio(self, name: str, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """The same for async code; `fn` may be async."""
        value = fn(*arguments, **named)
        return await value if hasattr(value, "__await__") else value


class Context:
    """One call. On a node the platform makes it; here a test does.

    Args:
        deadline: Unix seconds; not given: 30 seconds from now.
    """

    def __init__(
        self,
        *,
        call_id: str = "local",
        deadline: float | None = None,
        app: str = "default",
        function: str = "local",
        version: int = 0,
        instance: str = "local",
        attempt: int = 1,
        trace: str = "",
        cloudevent: dict[str, Any] | None = None,
    ) -> None:
        self.call_id = call_id
        self.deadline = time.time() + 30 if deadline is None else deadline
        self.cancelled = False
        self.app = app
        self.function = function
        self.version = version
        self.instance = instance
        self.attempt = attempt
        self.trace = trace
        self.cloudevent = cloudevent
        self.extra: dict[str, Any] = {}
        self.logger = logging.getLogger(function)

    def remaining(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self.deadline - time.time())

    @property
    def step(self) -> Step:
        """`context.step("charge", fn, 3)`: on a node its result survives a retry; here `fn` just runs."""
        return Step()

    @contextmanager
    def active(self) -> Iterator[Context]:
        """Only here: what `faas.current()` answers inside the block, for tests."""
        token = _calling.set(self)
        try:
            yield self
        finally:
            _calling.reset(token)

    def __repr__(self) -> str:
        return f"<faas.Context {self.call_id} of {self.function}@{self.version}>"


_calling: ContextVar[Context | None] = ContextVar("faas_call", default=None)


def current() -> Context:
    """The context of the call this code runs in. Raises RuntimeError outside of one."""
    context = _calling.get()
    if context is None:
        raise RuntimeError("faas.current() works only while a call runs; in a test: `with faas.Context().active():`")
    return context


@overload
def function(target: F) -> F: ...
@overload
def function(**settings: Any) -> Callable[[F], F]: ...
def function(target: Any = None, **settings: Any) -> Any:
    """Mark a function of the platform: `@faas.function` or `@faas.function(name=..., memory=...)`."""
    if target is not None:
        return _mark(target, settings)
    return lambda decorated: _mark(decorated, settings)


class App:
    """A group of functions: `app = faas.App("shop")`, then `@app.function(...)`."""

    def __init__(self, name: str = "default", **settings: Any) -> None:
        self.name = name
        self.settings = settings

    @overload
    def function(self, target: F) -> F: ...
    @overload
    def function(self, **settings: Any) -> Callable[[F], F]: ...
    def function(self, target: Any = None, **settings: Any) -> Any:
        """Like `faas.function`, with the app's settings underneath."""
        merged = {**self.settings, **settings}
        return _mark(target, merged) if target is not None else (lambda decorated: _mark(decorated, merged))

    def on_start(self, hook: F) -> F:
        """Like `faas.on_start`."""
        return on_start(hook)

    def on_stop(self, hook: F) -> F:
        """Like `faas.on_stop`."""
        return on_stop(hook)

    def __repr__(self) -> str:
        return f"faas.App({self.name!r})"


def on_start(hook: F) -> F:
    """Run `hook()` once in every instance before its first call. Here it is returned as it is, and not run."""
    return hook


def on_stop(hook: F) -> F:
    """Run `hook()` once when the instance ends in peace. Here it is returned as it is, and not run."""
    return hook


def secret(name: str) -> str:
    """The secret `name`; here the environment variable of that name. Raises KeyError saying so."""
    if name not in os.environ:
        raise KeyError(f"no secret {name!r}: outside the platform, set the environment variable {name}")
    return os.environ[name]


def _mark(target: Any, settings: dict[str, Any]) -> Any:
    try:
        setattr(target, MARK, settings)
    except (AttributeError, TypeError):
        raise TypeError(f"@faas.function cannot mark {target!r}: decorate a function or a class's instance") from None
    return target
