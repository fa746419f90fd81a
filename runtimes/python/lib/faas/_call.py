"""Calls from one function to another, over the connection the instance already has."""

from __future__ import annotations

from typing import Any, Protocol


class Backend(Protocol):
    """What the runtime plugs in."""

    def call(self, target: str, data: Any, timeout: float | None) -> Any: ...

    async def call_async(self, target: str, data: Any, timeout: float | None) -> Any: ...


class _Call:
    """`faas.call("resize.shop", {"id": 3})`, and in async code `await faas.call.aio(...)`.

    Args:
        target: `NAME`, `NAME.APP`, either with `@VERSION` or `@ALIAS`.
        data: None, str, bytes, or what JSON can carry.
        timeout: seconds; never more than what is left of this call's own.

    Returns what the other function returned: JSON decoded, text as str, anything else as bytes.

    Raises:
        CallError: it failed, or answered with a status of 400 or more.
        TypeError, ValueError: data that cannot be sent.
    """

    def __init__(self) -> None:
        self.backend: Backend | None = None

    def __call__(self, target: str, data: Any = None, timeout: float | None = None) -> Any:
        return self._backend().call(target, data, timeout)

    async def aio(self, target: str, data: Any = None, timeout: float | None = None) -> Any:
        """The same for async code."""
        return await self._backend().call_async(target, data, timeout)

    def _backend(self) -> Backend:
        if self.backend is None:
            raise RuntimeError("faas.call works in an instance that has been given its function")
        return self.backend


call = _Call()
