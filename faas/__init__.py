"""Functions as a service on your own machines. What a handler's file may use is here, loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faas.sdk.handler import (
        App,
        CallError,
        Cancelled,
        Context,
        File,
        Headers,
        Request,
        Response,
        Retry,
        call,
        current,
        function,
        on_start,
        on_stop,
        secret,
    )

__version__ = "0.1.0"

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
    "__version__",
    "call",
    "current",
    "function",
    "on_start",
    "on_stop",
    "secret",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f'module "faas" has no attribute "{name}"')
    from faas.sdk import handler

    value = getattr(handler, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
