"""What the node and its HTTP processes are both made of. Used by `serve`, `assembly` and `worker` alone."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from redis.asyncio import Redis

from faas.control.catalog import Catalog
from faas.control.routes import Routes
from faas.errors import Unavailable
from faas.gateway.tls import Certificates
from faas.kinds import Address
from faas.node.connection import bind
from faas.store.durability import check_durability
from faas.store.tasks import end

CLOSE_S = 10.0
"""Seconds that closing may take after the drain."""
DURABLE_S = 10.0
"""Seconds that what Redis said of its durability is believed."""
LEAVE_S = 1.0
BACKLOG = 1024


class Door(NamedTuple):
    """An open listener."""

    site: web.BaseSite
    url: str
    port: int
    """The real one, where the system chose it."""


async def open_door(
    server: web.Server,
    address: Address,
    flag: str,
    stack: AsyncExitStack,
    tls: ssl.SSLContext | None,
    *,
    shared: bool = False,
    shutdown_s: float = CLOSE_S,
) -> Door:
    """Listen on `address`, until `stack` ends.

    Args:
        flag: the one that names the address, for messages.
        shared: other processes of this node listen there too.
        shutdown_s: seconds that requests under way may take at the end.

    Raises:
        Unavailable: the address cannot be had.
    """
    runner = web.ServerRunner(server, shutdown_timeout=shutdown_s)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, address.host, address.port, ssl_context=tls, backlog=BACKLOG, reuse_port=shared or None)
    try:
        await site.start()
    except OSError as cause:
        raise _taken(address, flag, cause) from cause
    name, port = runner.addresses[0][:2]
    scheme = "https" if tls else "http"
    return Door(site, f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}", port)


async def open_private_door(server: web.Server, path: Path, stack: AsyncExitStack) -> None:
    """Listen on a unix socket at `path`, for processes of this user only, until `stack` ends."""
    runner = web.ServerRunner(server, shutdown_timeout=CLOSE_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, bind(path, os.geteuid()), backlog=BACKLOG).start()


async def refuse_taken(address: Address, flag: str) -> None:
    """A shared port can be had even when another node shares it: a listener that does not share finds out.

    Processes of a node that was killed a moment ago may still be on their way out: they have LEAVE_S.

    Raises:
        Unavailable: it is taken.
    """
    loop = asyncio.get_running_loop()
    end_at = loop.time() + LEAVE_S
    while True:
        try:
            _try(address)
            return
        except OSError as cause:
            if cause.errno != errno.EADDRINUSE or loop.time() >= end_at:
                raise _taken(address, flag, cause) from cause
        await asyncio.sleep(0.05)


def _try(address: Address) -> None:
    for family, kind, protocol, _, where in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(where)


def _taken(address: Address, flag: str, cause: OSError) -> Unavailable:
    return Unavailable(
        f"cannot listen on {address}: {os.strerror(cause.errno) if cause.errno else cause}",
        hint=f"If another program has the port, stop it or give another with {flag} HOST:PORT.",
    )


async def open_certificates(certificate: str, key: str, stack: AsyncExitStack) -> ssl.SSLContext | None:
    """What listeners shake hands with, kept as new as its files; None without a file: they speak plain HTTP."""
    if not certificate:
        return None
    certificates = Certificates(Path(certificate), Path(key))
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, certificates.look)
    await stack.enter_async_context(beside(certificates.run(), "certificates"))
    return certificates.context


def follow_routes(catalog: Catalog, stack: AsyncExitStack) -> Routes:
    """Functions' own paths, as they are at any time."""
    routes = Routes()
    stack.callback(catalog.subscribe(routes.sync))
    routes.sync(catalog.snapshot)
    return routes


@asynccontextmanager
async def beside(work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    """Run `work` beside the body."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        await end(task)


def durable(redis: Redis, durability: str) -> Callable[[], Awaitable[str]]:
    """Asks why Redis may lose what it was told; asks again when the answer is DURABLE_S old.

    Args:
        durability: `memory` when the operator does not mind.
    """
    asked_at, answer = -DURABLE_S, ""

    async def problem() -> str:
        nonlocal asked_at, answer
        if durability == "memory":
            return ""
        now = asyncio.get_running_loop().time()
        if now - asked_at > DURABLE_S:
            found = await check_durability(redis)
            asked_at, answer = now, "" if found.ok else f"{found.finding} {found.fix}"
        return answer

    return problem


def raise_open_files() -> None:
    """Take what the system grants: each caller's connection and each instance is an open file."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
