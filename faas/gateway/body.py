"""Request bodies: read whole before a slot is taken, so that a slow sender never holds an instance."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.http import HttpVersion11

from faas.errors import BadRequest, RequestTimeout, TooLarge, TooManyRequests
from faas.units import show_size

IDLE_S = 20.0
"""Seconds a sender may be silent."""
TOTAL_S = 300.0
"""Seconds a body may take in all."""
SMALL = 64 * 1024
"""Bodies up to this size are not counted against the budget."""


class Budget:
    """Bytes of large bodies that may be in memory at once, over all calls."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def take(self, size: int) -> None:
        """Claim `size` bytes. Raises TooManyRequests when they are not there."""
        if self.used + size > self.total:
            raise TooManyRequests(
                f"the gateway holds {show_size(self.used)} of request bodies, its limit is {show_size(self.total)}",
                hint="Retry in a moment.",
                retry_after_s=1.0,
            )
        self.used += size

    def give(self, size: int) -> None:
        """Return a claim."""
        self.used -= size


def at_hand(request: web.BaseRequest, limit: int) -> tuple[bytes, int] | None:
    """The body, if it is small and came with the head: no timer, no waiting. Otherwise None: `read` it."""
    announced = request.content_length
    content = request.content
    if announced is None or announced > min(limit, SMALL) or not content.is_eof() or content.exception() is not None:
        return None
    return content.read_nowait(-1), 0


async def read(request: web.BaseRequest, limit: int, budget: Budget) -> tuple[bytes, int]:
    """The body and the size claimed from `budget`, which the caller gives back when the call has ended.

    Raises:
        TooLarge: more than `limit` bytes, announced or sent.
        RequestTimeout: the sender is silent or too slow.
        BadRequest: broken framing, or the connection ended early.
    """
    announced = request.content_length
    if announced is not None and announced > limit:
        raise _too_large(announced, limit)
    if "Expect" in request.headers:
        await ask_for_it(request)
    if announced is not None and announced <= SMALL:
        try:
            async with asyncio.timeout(IDLE_S):
                return await request.content.read(-1), 0
        except TimeoutError:
            raise _too_slow() from None
        except (web.RequestPayloadError, ValueError, EOFError) as cause:
            raise BadRequest(f"the request body is broken: {cause}") from cause
    return await _read_large(request, limit, budget)


async def ask_for_it(request: web.BaseRequest) -> None:
    """The sender holds the body back until it knows that it is wanted; curl does so for a second."""
    if request.version == HttpVersion11 and request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the reply has not begun


async def _read_large(request: web.BaseRequest, limit: int, budget: Budget) -> tuple[bytes, int]:
    parts: list[bytes] = []
    size = claimed = 0
    try:
        async with asyncio.timeout(TOTAL_S):
            while True:
                async with asyncio.timeout(IDLE_S):
                    part = await request.content.readany()
                if not part:
                    return b"".join(parts), claimed
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise _too_large(size, limit)
                if size > SMALL:
                    budget.take(size - claimed)
                    claimed = size
    except BaseException as error:
        budget.give(claimed)
        if isinstance(error, TimeoutError):
            raise _too_slow() from None
        if isinstance(error, web.RequestPayloadError | ValueError | EOFError):
            raise BadRequest(f"the request body is broken: {error}") from error
        raise


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(
        f"the request body has {show_size(size)} or more; the limit is {show_size(limit)}",
        hint="Send less, or push the function with a larger `body`.",
    )


def _too_slow() -> RequestTimeout:
    return RequestTimeout(
        f"the request body did not arrive: at most {IDLE_S:g} s of silence and {TOTAL_S:g} s in all",
        hint="Check the connection, then send it again.",
    )
