"""A node that speaks HTTPS: calls and API, a new certificate without a restart, files that do not fit."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.certificates import write_certificate
from tests.integration.conftest import HERE
from tests.support import ROOT, dies_with_us, free_port, wait_until


class Https:
    """A node behind TLS, and a client that believes only the certificate in the file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate, self.key = write_certificate(folder, "one")
        self.url = f"https://127.0.0.1:{free_port()}"
        self.log = folder / "log"
        self.process: asyncio.subprocess.Process

    async def start(self, *flags: str) -> None:
        argv = [sys.executable, "-m", "faas.serve", "--data-dir", str(self.folder / "data"), "--driver", "process"]
        argv += ["--listen", self.url.removeprefix("https://"), *flags]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FAAS_")}
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *dies_with_us(argv), stdout=log, stderr=log, env=environment, cwd=ROOT
            )

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self.process.wait(), 20)

    def session(self) -> aiohttp.ClientSession:
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        return aiohttp.ClientSession(self.url, connector=aiohttp.TCPConnector(ssl=trusted))

    async def cli(self, *words: str) -> tuple[int, str]:
        token = (self.folder / "data" / "admin-token").read_text().strip()
        environment = os.environ | {"FAAS_URL": self.url, "FAAS_TOKEN": token, "SSL_CERT_FILE": str(self.certificate)}
        process = await asyncio.create_subprocess_exec(
            *dies_with_us([sys.executable, "-m", "faas.cli", *words]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            cwd=ROOT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode()


@pytest.fixture(scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Https]:
    https = Https(tmp_path_factory.mktemp("https"))
    await https.start("--tls-cert", str(https.certificate), "--tls-key", str(https.key))
    try:
        await wait_until(lambda: "ready https://" in https.log.read_text(), 30, "the node says ready")
        code, said = await https.cli("push", str(HERE / "route.py"), "--name", "route", "--route", "/route/{x}")
        assert code == 0, said
        yield https
    finally:
        await https.stop()


async def test_calls_and_the_api(node: Https) -> None:
    async with node.session() as http:
        async with http.post("/function/route", data=b"x" * 200_000) as answer:
            told = await answer.json()
            assert (answer.status, told["size"]) == (200, 200_000)
        async with http.get("/route/7") as answer:
            assert (await answer.json())["url"] == f"{node.url}/route/7", "the function sees https"
        async with http.get("/healthz") as answer:
            assert await answer.json() == {"ok": True}
    code, said = await node.cli("invoke", "route")
    assert code == 0, said


async def test_plain_http_on_the_port_is_refused_and_harms_nobody(node: Https) -> None:
    host, port = node.url.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" not in await asyncio.wait_for(reader.read(), 10)
    writer.close()
    async with node.session() as http, http.get("/healthz") as answer:
        assert answer.status == 200


async def test_a_new_certificate_without_a_restart(node: Https) -> None:
    async with node.session() as before:
        async with before.get("/route/1") as answer:
            assert answer.status == 200
        write_certificate(node.folder, "two")
        node.process.send_signal(signal.SIGHUP)

        async def taken() -> bool:
            async with node.session() as http:
                try:
                    async with http.get("/route/2") as answer:
                        return answer.status == 200
                except aiohttp.ClientConnectorCertificateError:
                    return False

        await wait_until(taken, 10, "new connections get the new certificate")
        async with before.get("/route/3") as answer:
            assert answer.status == 200, "the connection that stood goes on"
    assert node.process.returncode is None


async def test_files_that_do_not_fit_end_the_start(tmp_path: Path) -> None:
    https = Https(tmp_path)
    await https.start("--tls-cert", str(https.key), "--tls-key", str(https.key))
    try:
        assert await asyncio.wait_for(https.process.wait(), 30) == 2
    finally:
        await https.stop()
    assert f"the certificate {https.key} with the key {https.key} cannot be used" in https.log.read_text()
    assert "hint: Give --tls-cert a PEM file" in https.log.read_text()
