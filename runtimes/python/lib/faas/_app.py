"""Decorators. Settings matter where the file is pushed from; in here they only mark what is a function or a hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

_F = TypeVar("_F", bound=Callable[..., Any])
MARK = "__faas_function__"
_start: list[Callable[[], Any]] = []
_stop: list[Callable[[], Any]] = []


def _mark(target: _F, settings: Any) -> _F:
    try:
        setattr(target, MARK, settings)
    except (AttributeError, TypeError):
        raise TypeError(f"@faas.function cannot mark {target!r}: decorate a function or a class's instance") from None
    return target


@overload
def function(target: _F) -> _F: ...
@overload
def function(**settings: Any) -> Callable[[_F], _F]: ...
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

    def function(self, target: Any = None, **settings: Any) -> Any:
        """Like `faas.function`, with the app's settings underneath."""
        merged = {**self.settings, **settings}
        return _mark(target, merged) if target is not None else (lambda decorated: _mark(decorated, merged))

    def on_start(self, hook: _F) -> _F:
        """Like `faas.on_start`."""
        return on_start(hook)

    def on_stop(self, hook: _F) -> _F:
        """Like `faas.on_stop`."""
        return on_stop(hook)

    def __repr__(self) -> str:
        return f"faas.App({self.name!r})"


def on_start(hook: _F) -> _F:
    """Run `hook()`, plain or async, once in every instance before its first call. If it raises, the start failed."""
    _start.append(hook)
    return hook


def on_stop(hook: _F) -> _F:
    """Run `hook()`, plain or async, once when the instance ends in peace; not after a crash."""
    _stop.append(hook)
    return hook


def hooks(when: str) -> list[Callable[[], Any | None]]:
    """The runtime's view: hooks for `start` in the order they were declared, for `stop` in the reverse one."""
    return list(_start) if when == "start" else list(reversed(_stop))
