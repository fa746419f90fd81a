"""Certificates for a listener, taken from two files and taken anew when they change. HTTP/1.1, TLS 1.2 and later.

What a connection gets is chosen while it shakes hands, so a new certificate is a new context put in the old one's
place: whole, or not at all. Connections that stand keep theirs.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import structlog
from cryptography import x509

from faas.errors import Invalid

log = structlog.get_logger("faas.tls")

LOOK_EVERY_S = 3.0
EXPIRES_SOON = timedelta(days=14)


class _Stamp(NamedTuple):
    """Tells one state of the files from another."""

    certificate: tuple[int, ...]
    key: tuple[int, ...]


class Certificates:
    """`context` is for the listener; keep `run` going beside it.

    Args:
        certificate: PEM file, the server's own certificate first and then the chain.
        key: PEM file with its private key, without a passphrase.
        look_every_s: seconds between two looks at the files.

    Raises:
        Invalid: a file cannot be read, or the two do not fit.
    """

    def __init__(self, certificate: Path, key: Path, look_every_s: float = LOOK_EVERY_S) -> None:
        self._certificate = certificate
        self._key = key
        self._look_every_s = look_every_s
        self._look_now = asyncio.Event()
        self._stamp = self._stamped()
        self._current = self._load()
        self.context = _context()
        self.context.load_cert_chain(certificate, key)
        self.context.sni_callback = self._choose

    def look(self) -> None:
        """Look at the files now: for SIGHUP."""
        self._look_now.set()

    async def run(self) -> None:
        """Take the files anew whenever they have changed, until cancelled. Files that do not fit change nothing."""
        while True:
            try:
                async with asyncio.timeout(self._look_every_s):
                    await self._look_now.wait()
            except TimeoutError:
                pass
            self._look_now.clear()
            stamp = await asyncio.to_thread(self._stamped)
            if stamp == self._stamp:
                continue
            self._stamp = stamp
            try:
                self._current = await asyncio.to_thread(self._load)
            except Invalid as error:
                # Often one of the two is written a moment before the other: the next look sees that too.
                log.warning("the new certificate is not used; the old one stays", error=error.message)

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = _context()
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
            _tell_end(self._certificate)
        except (OSError, ValueError) as cause:  # ssl.SSLError is an OSError
            raise Invalid(
                f"the certificate {self._certificate} with the key {self._key} cannot be used: "
                f"{getattr(cause, 'strerror', None) or cause}",
                hint="Give --tls-cert a PEM file with the whole chain and --tls-key its private key, not encrypted.",
            ) from cause
        return context

    def _stamped(self) -> _Stamp:
        return _Stamp(_state(self._certificate), _state(self._key))


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _state(path: Path) -> tuple[int, ...]:
    """Changes with the file's content; empty while there is none. Follows links, as certificate tools use them."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _tell_end(path: Path) -> None:
    certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    ends = certificate.not_valid_after_utc
    tell = log.warning if ends - datetime.now(UTC) < EXPIRES_SOON else log.info
    tell("certificate in use", subject=certificate.subject.rfc4514_string(), valid_until=ends.isoformat())
