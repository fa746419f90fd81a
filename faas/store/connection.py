"""Connections to Redis as everything here needs them: no blind retries, bounded waits, errors of our tree.

redis-py repeats commands after a lost reply by default, which can turn one write into two. Here a command is
sent once: when its reply is lost the caller is told, and only the caller knows whether a repeat is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from faas.errors import Unavailable

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 5.0
CONNECTIONS = 32


async def connect(url: str, *, blocking: bool = False) -> Redis:
    """A client whose server has answered PING. The caller closes it with `aclose()`. Replies are bytes.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        blocking: for blocking reads: one connection, no reply timeout; the reader bounds its own wait.

    Raises:
        Unavailable: nobody answers there, or not to us. The password is not in the message.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=1 if blocking else CONNECTIONS,
            timeout=CONNECT_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=None if blocking else REPLY_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            protocol=2,
            client_name="faas",
        )
    except ValueError as cause:
        raise Unavailable(
            f"{redact(url)} is not a Redis URL: {cause}",
            hint="Write redis://HOST:PORT/0, rediss://USER:PASSWORD@HOST:PORT/0 or unix:///PATH/redis.sock.",
        ) from None
    redis = Redis.from_pool(pool)
    try:
        with translated(f"Redis at {redact(url)}"):
            await redis.ping()
    except BaseException:
        await redis.aclose()
        raise
    return redis


@contextmanager
def translated(what: str = "Redis") -> Iterator[None]:
    """Turns redis-py's and socket errors inside the block into Unavailable.

    The write in question may have happened: after a lost reply nobody knows.
    """
    try:
        yield
    except (exceptions.RedisError, OSError) as error:
        # While connecting, redis-py wraps what the server said.
        inner = error.__cause__ if isinstance(error.__cause__, exceptions.RedisError) else error
        raise _unavailable(what, inner) from error


def _unavailable(what: str, error: BaseException) -> Unavailable:
    said = str(error) or type(error).__name__
    match error:
        case exceptions.BusyLoadingError():
            return Unavailable(f"{what} is still loading its data", retry_after_s=1.0)
        case exceptions.AuthenticationError():
            hint = "Check user and password in the Redis URL."
            return Unavailable(f"{what} refuses our credentials: {said}", hint=hint)
        case exceptions.OutOfMemoryError():
            return Unavailable(f"{what} is full", hint="Raise its maxmemory, or delete what is not needed.")
        case exceptions.ReadOnlyError() | exceptions.NoPermissionError():
            hint = "Point the URL at a primary, with a user who may run every command on faas:*."
            return Unavailable(f"{what} does not let us: {said}", hint=hint)
        case exceptions.ConnectionError() | exceptions.TimeoutError() | OSError():
            hint = "Check that it runs and that the URL is right."
            return Unavailable(f"{what} does not answer: {said}", hint=hint, retry_after_s=1.0)
    return Unavailable(f"{what} answered with an error: {said}")


def redact(url: str) -> str:
    """The URL without its password, for messages and logs. What is no URL at all is not repeated."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(unreadable URL)"
    if not parts.scheme:
        return "(a text without redis:// or unix://)"
    user = f"{parts.username or ''}:***@" if parts.password is not None else ""
    if parts.username and not user:
        user = f"{parts.username}@"
    pairs = [(key, "***" if key == "password" else value) for key, value in parse_qsl(parts.query)]
    query = "?" + urlencode(pairs, safe="*") if pairs else ""
    return f"{parts.scheme}://{user}{host}{parts.path}{query}"
