"""Requests as bytes: what a client sends that is not one, and what it gets."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from yarl import URL


class Answer(NamedTuple):
    """What came back on a connection until its end."""

    data: bytes
    first_s: float
    """Seconds until something came."""
    seconds: float
    """Until the end."""
    closed: bool
    """By the other side, within the time given."""

    @property
    def status(self) -> int:
        """Of the last final answer; 0: there was none."""
        found = re.findall(rb"HTTP/1\.[01] (\d{3}) ", self.data)
        return int(found[-1]) if found else 0

    @property
    def body(self) -> bytes:
        """Of the last answer."""
        return self.data.rpartition(b"\r\n\r\n")[2]

    def problem(self) -> dict[str, Any]:
        """The problem document of the only answer."""
        assert self.data.count(b"HTTP/1.") == 1, self.data
        assert b"content-type: application/problem+json" in self.data.lower(), self.data
        document: dict[str, Any] = msgspec.json.decode(self.body)
        return document


async def send(url: str, parts: Sequence[bytes], *, pause_s: float = 0.0, within_s: float = 5.0) -> Answer:
    """Send `parts` with pauses between them, whatever comes meanwhile, and read to the connection's end."""
    address = URL(url)
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection(address.host, address.port)
    feeding = asyncio.create_task(_feed(writer, parts, pause_s))
    data, first_s, closed = b"", 0.0, False
    try:
        async with asyncio.timeout(within_s):
            while piece := await reader.read(1 << 16):
                first_s = first_s or time.monotonic() - begun
                data += piece
            closed = True
    except TimeoutError:
        pass
    except ConnectionResetError:
        closed = True
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        writer.transport.abort()
    return Answer(data, first_s, time.monotonic() - begun, closed)


async def _feed(writer: asyncio.StreamWriter, parts: Sequence[bytes], pause_s: float) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(pause_s)


def head(line: str, *headers: str, close: bool = True) -> bytes:
    """A request's head."""
    lines = [line, "Host: test", *headers, *(["Connection: close"] if close else [])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
