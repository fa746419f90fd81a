"""`faas.call` outside an instance: the same call, over HTTP to the node of `faas login` or FAAS_URL."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

REPLY_MAX = 64 * 1024 * 1024
"""Most bytes of a reply."""


class CallError(Exception):
    """A function called with `faas.call` failed.

    `kind` is the platform's code, or `status` when the function answered with an HTTP status of 400 or more;
    `type` is the other side's exception; `status` an HTTP status or 0; `body` its reply.
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


class Call:
    """`faas.call("resize.shop", {"id": 3})`, and in async code `await faas.call.aio(...)`.

    Args:
        target: `NAME`, `NAME.APP`, either with `@VERSION` or `@ALIAS`.
        data: None, str, bytes, or what JSON can carry.
        timeout: seconds; None: as long as the function may run.

    Returns what the function returned: JSON decoded, text as str, anything else as bytes.

    Raises:
        CallError: it failed, could not be reached, or answered with a status of 400 or more.
        TypeError, ValueError: data that cannot be sent.
    """

    def __call__(self, target: str, data: Any = None, timeout: float | None = None) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.aio(target, data, timeout))
        raise RuntimeError("faas.call would block the event loop: write `await faas.call.aio(...)` in async code")

    async def aio(self, target: str, data: Any = None, timeout: float | None = None) -> Any:
        """The same for async code."""
        from faas.errors import FaasError
        from faas.names import parse_target

        body, kind = _encode(data)
        headers = {"Content-Type": kind} if kind else {}
        try:
            async with asyncio.timeout(timeout):
                return await _invoke(str(parse_target(target)), body, headers)
        except TimeoutError as error:
            raise CallError(f"{target} did not answer within {timeout} s", kind="deadline_exceeded") from error
        except FaasError as error:
            kind_of = str(error.extra.get("type", ""))
            raise CallError(
                error.message, kind=error.code, type=kind_of, status=error.status, hint=error.hint
            ) from error


call = Call()


async def _invoke(target: str, body: bytes | None, headers: dict[str, str]) -> Any:
    from faas.errors import TooLarge
    from faas.sdk.client import Client
    from faas.sdk.credentials import find

    found = find(os.environ)
    async with Client(found.url, found.token) as client, client.invoke(target, headers=headers, body=body) as reply:
        if reply.problem is not None:
            raise reply.problem
        content = bytearray()
        async for chunk in reply.chunks:
            content += chunk
            if len(content) > REPLY_MAX:
                raise TooLarge(f"the reply of {target} is larger than {REPLY_MAX} bytes")
        if reply.status >= 400:
            text = f"{target} answered {reply.status}"
            raise CallError(text, kind="status", status=reply.status, body=bytes(content))
        return _decode(bytes(content), reply.header("Content-Type"))


def _encode(data: Any) -> tuple[bytes | None, str]:
    """Body and media type of what is sent."""
    if data is None:
        return None, ""
    if isinstance(data, bytes):
        return data, "application/octet-stream"
    if isinstance(data, str):
        return data.encode(), "text/plain; charset=utf-8"
    return json.dumps(data, allow_nan=False).encode(), "application/json"


def _decode(content: bytes, content_type: str) -> Any:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return json.loads(content)
    if kind.startswith("text/"):
        return content.decode("utf-8", "replace")
    return content or None
