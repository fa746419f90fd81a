"""Certificates: what is used, what is not, and what a change of the files does to connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from faas.config import load_config
from faas.errors import Invalid
from faas.gateway.tls import Certificates
from tests.integration.certificates import write_certificate
from tests.support import wait_until


@asynccontextmanager
async def serving(certificates: Certificates) -> AsyncIterator[int]:
    """A server that echoes a line, and the task that watches the files. Its port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.context)
    watching = asyncio.create_task(certificates.run())
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        server.close()
        await server.wait_closed()


async def connect(port: int, **options: ssl.TLSVersion) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in options.items():
        setattr(context, name, value)
    return await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def presented(port: int, **options: ssl.TLSVersion) -> str:
    """Common name of the certificate a new connection gets."""
    _reader, writer = await connect(port, **options)
    try:
        raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(raw).subject.rfc4514_string().removeprefix("CN=")
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def test_a_new_certificate_is_taken_and_connections_stay(tmp_path: Path) -> None:
    certificates = Certificates(*write_certificate(tmp_path, "first"), look_every_s=0.02)
    async with serving(certificates) as port:
        assert await presented(port) == "first"
        assert await presented(port, maximum_version=ssl.TLSVersion.TLSv1_2) == "first"
        reader, writer = await connect(port)
        write_certificate(tmp_path, "second")

        async def new() -> bool:
            return await presented(port) == "second"

        await wait_until(new, 10, "the new certificate is presented")
        assert await presented(port, maximum_version=ssl.TLSVersion.TLSv1_2) == "second"
        writer.write(b"still here\n")
        assert await asyncio.wait_for(reader.readline(), 5) == b"still here\n"
        writer.close()


async def test_files_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "good")
    other, _ = write_certificate(tmp_path, "other", stem="other")
    certificates = Certificates(certificate, key, look_every_s=60)
    async with serving(certificates) as port:
        for broken in (other.read_bytes(), b"no certificate", b""):
            with capture_logs() as logs:
                certificate.write_bytes(broken)
                certificates.look()
                await wait_until(lambda: logs, 10, "the node says so")
            assert "the old one stays" in logs[0]["event"]
            assert await presented(port) == "good"
        write_certificate(tmp_path, "better")
        certificates.look()

        async def better() -> bool:
            return await presented(port) == "better"

        await wait_until(better, 10, "files that fit again are taken")


def test_files_that_cannot_be_used_at_the_start(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "a")
    _, other_key = write_certificate(tmp_path, "b", stem="b")
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    for files, said in (
        ((tmp_path / "none.crt", key), "No such file"),
        ((certificate, tmp_path / "none.key"), "No such file"),
        ((certificate, other_key), "values mismatch|VALUES_MISMATCH"),
        ((key, key), "cannot be used"),
        ((certificate, locked), "the key is encrypted"),
    ):
        with pytest.raises(Invalid, match=said):
            Certificates(*files)


def test_a_certificate_that_ends_soon_is_told(tmp_path: Path) -> None:
    with capture_logs() as logs:
        Certificates(*write_certificate(tmp_path, "short", days=3))
    assert logs[0]["log_level"] == "warning"
    assert logs[0]["subject"] == "CN=short"


@pytest.mark.parametrize(("given", "missing"), [("tls_cert", "tls_key"), ("tls_key", "tls_cert")])
def test_one_file_without_the_other(given: str, missing: str) -> None:
    with pytest.raises(Invalid, match=f"{missing} is missing"):
        load_config({given: "/etc/tls/file.pem"}, {}, root=False)
