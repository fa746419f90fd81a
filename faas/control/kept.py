"""Replies that are kept: read whole, bounded in size."""

from __future__ import annotations

from faas.control.outcomes import too_large
from faas.node.call import Reply
from faas.units import show_size

RESULT_MAX = 16 * 1024 * 1024
"""Bytes of the largest result that is kept; the same as the default limit of a request's body."""


async def whole_body(reply: Reply) -> bytes:
    """The body of `reply`, streamed or not.

    Raises:
        TooLarge: more than RESULT_MAX; the handler is told to stop.
        FaasError: what a streamed reply broke off with.
    """
    if reply.stream is None:
        return reply.body
    body = bytearray()
    try:
        async for part in reply.stream:
            body += part
            if len(body) > RESULT_MAX:
                raise too_large(show_size(RESULT_MAX))
    except BaseException:
        reply.abandon("its result is not wanted any more")
        raise
    return bytes(body)
