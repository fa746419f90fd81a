"""A real node for tests: `python -m faas.serve` in a process of its own, driven from outside only."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec

from tests.leftovers import assert_nothing_left, clear
from tests.support import ROOT, dies_with_us, free_port, wait_until

READY = re.compile(r"^.*\bready\b.*http.*$", re.MULTILINE)
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
CLI_TIMEOUT_S = 60.0
_LOG_TAIL = 4_000


class Reply(NamedTuple):
    """A whole answer of the node."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


class CliResult(NamedTuple):
    """How a `faas` command ended."""

    code: int
    out: str
    err: str


class RunningNode:
    """Starts on entering and waits for `ready`; on leaving stops it and asserts that nothing is left behind.

    `kill9()` and `start()` may be called in between, in that order, for crash tests: the data directory and the
    port stay the same.

    Args:
        data_dir: the node's own; also holds `../NAME.log`, the output of every start.
        flags: of `faas up`, besides `--data-dir` and `--listen`, which are ours.
        env: added to an environment without any `FAAS_` variable.
        ready_timeout_s: seconds from start to the `ready` line.
        wrapper: a command that becomes the node after it has changed what the node may do, such as setpriv.
    """

    def __init__(
        self,
        data_dir: Path,
        *flags: str,
        env: Mapping[str, str] | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        self.url = f"http://127.0.0.1:{free_port()}"
        self.node_id = ""
        self.log_file = data_dir.with_name(data_dir.name + ".log")
        self._flags = flags
        self._env = _clean_environment() | dict(env or {})
        self._ready_timeout_s = ready_timeout_s
        self._wrapper = wrapper
        self._process: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None
        self._log_from = 0

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(self.url)
        try:
            await self.start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        crashed = not self.running
        try:
            if kind is None and not crashed:
                await self.stop()
            if kind is None:
                await self.assert_clean(crashed=crashed)
        finally:
            await self._end()

    async def start(self) -> None:
        """Start the process and wait until it says `ready`. It must not be running.

        Raises:
            AssertionError: it ended or was silent for `ready_timeout_s`; the message ends with its log.
        """
        assert not self.running, "the node is running already"
        argv = [*self._wrapper, sys.executable, "-m", "faas.serve", "--data-dir", str(self.data_dir)]
        argv += ["--listen", self.url.removeprefix("http://"), *self._flags]
        with self.log_file.open("ab") as log:
            self._log_from = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *dies_with_us(argv), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=self._env, cwd=ROOT
            )
        try:
            await wait_until(self._said_ready, self._ready_timeout_s, "the node says ready")
        except AssertionError as cause:
            raise AssertionError(f"{cause}\n--- node's log ---\n{self.log()[-_LOG_TAIL:]}") from None
        self.node_id = (await self.api("GET", "/v1/status"))["node"]["id"]

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM. Raises AssertionError when it takes longer than `timeout_s` or ends with a code but 0."""
        process = self._running_process()
        process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            raise AssertionError(
                f"still running {timeout_s:g} s after SIGTERM\n--- node's log ---\n{self.log()[-_LOG_TAIL:]}"
            ) from None
        assert code == 0, f"ended with {code} after SIGTERM\n--- node's log ---\n{self.log()[-_LOG_TAIL:]}"

    async def kill9(self) -> None:
        """SIGKILL, and wait until the kernel has taken it away."""
        process = self._running_process()
        process.kill()
        await process.wait()

    @property
    def running(self) -> bool:
        """True between a start and the end of that process."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self._running_process().pid

    @property
    def token(self) -> str:
        """The admin token of the data directory."""
        return (self.data_dir / "admin-token").read_text().strip()

    @property
    def http(self) -> aiohttp.ClientSession:
        """Client whose paths begin at the node: `node.http.get("/healthz")`. No credential is set."""
        assert self._http is not None, "use `async with RunningNode(...)`"
        return self._http

    def log(self) -> str:
        """What the process of the last start has printed so far."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace")

    async def call(self, name: str, method: str = "POST", path: str = "", **options: Any) -> Reply:
        """Call a function. `options` are aiohttp's: `json=`, `data=`, `params=`, `headers=`, `timeout=`."""
        async with self.http.request(method, f"/function/{name}{path}", **options) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def api(self, method: str, path: str, **options: Any) -> Any:
        """The control API with the admin token. The decoded answer; AssertionError unless it is 2xx."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.request(method, path, headers=headers, **options) as answer:
            body = await answer.text()
            assert answer.ok, f"{method} {path}: {answer.status} {body}"
            return msgspec.json.decode(body) if body else None

    async def cli(self, *words: str, stdin: str = "", env: Mapping[str, str] | None = None) -> CliResult:
        """Run `faas WORDS` against this node, as its administrator. Bounded to a minute."""
        process = await asyncio.create_subprocess_exec(
            *dies_with_us([sys.executable, "-m", "faas.cli", *words]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._env | {"FAAS_URL": self.url, "FAAS_TOKEN": self.token} | dict(env or {}),
            cwd=ROOT,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin.encode()), CLI_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"faas {' '.join(words)}: still running after {CLI_TIMEOUT_S:g} s") from None
        assert process.returncode is not None
        return CliResult(process.returncode, out.decode(), err.decode())

    async def push(self, source: Path, *flags: str) -> None:
        """`faas push`. Raises AssertionError with what it printed unless it succeeds."""
        result = await self.cli("push", str(source), *flags)
        assert result.code == 0, f"faas push {source.name}: {result}"

    async def assert_clean(self, *, crashed: bool = False) -> None:
        """No container of this node, no mount and no process of its data directory is left.

        Args:
            crashed: after kill -9 only what runs counts: the next start sweeps the rest.
        """
        await assert_nothing_left(
            self.data_dir,
            labels={"faas.node": self.node_id} if self.node_id else None,
            kinds=("containers", "processes") if crashed else ("containers", "processes", "mounts"),
            running_only=crashed,
        )

    def _said_ready(self) -> bool:
        if not self.running:
            code = self._process.returncode if self._process else None
            raise AssertionError(f"the node ended with {code} before it was ready")
        return READY.search(self.log()) is not None

    def _running_process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "the node was not started"
        assert self._process.returncode is None, f"the node ended with {self._process.returncode}"
        return self._process

    async def _end(self) -> None:
        if self.running:
            await self.kill9()
        if self._http is not None:
            await self._http.close()
        if self.node_id:
            await asyncio.to_thread(clear, self.data_dir, {"faas.node": self.node_id})


def _clean_environment() -> dict[str, str]:
    """Ours without what would configure a node or a client, and with nowhere to find a stored login."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAAS_")}
    return kept | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "XDG_CONFIG_HOME": "/nonexistent"}
