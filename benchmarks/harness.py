"""What every benchmark needs: servers that come and go, load from wrk, medians with spread, a report."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(__file__).resolve().parent / "programs"
BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Rounds of one measurement, in its unit."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def show(self, digits: int = 2) -> str:
        """`12.3 (11.9-12.8)`: median, lowest and highest round."""
        low, high = min(self.rounds), max(self.rounds)
        return f"{self.median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


@dataclass(slots=True)
class Report:
    """Rows of one run; prints a table and one JSON line."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, what: str, value: str, target: str = "", met: bool | None = None, **data: float) -> None:
        """One row. met: None where there is no target."""
        self.rows.append({"what": what, "value": value, "target": target, "met": met, **data})
        mark = {None: "", True: "met", False: "MISSED"}[met]
        print(f"{what:<58} {value:<34} {target:<22} {mark}", flush=True)

    def end(self) -> None:
        """Print the JSON line."""
        print(json.dumps({"benchmark": self.name, **machine(), "rows": self.rows}))


def machine() -> dict[str, Any]:
    """Where and on what this ran."""
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@dataclass(frozen=True, slots=True)
class Load:
    """One run of wrk. Latencies in milliseconds."""

    rps: float
    p50: float
    p99: float
    errors: int


def wrk(url: str, *, connections: int, seconds: float, script: str = "post.lua") -> Load:
    """Closed-loop load on `url` from one thread of wrk."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(PROGRAMS / script), url]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=seconds + 60)
    found = re.search(r"RESULT (\{.*\})", done.stdout)
    if found is None:
        raise RuntimeError(f"wrk printed no result: {done.stdout}{done.stderr}")
    result = json.loads(found[1])
    return Load(result["requests"] / result["seconds"], result["p50"], result["p99"], result["errors"])


@contextmanager
def process(argv: Sequence[str], log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A server of ours in the background, ended with SIGTERM."""
    with log.open("wb") as out:
        started = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env, cwd=PROGRAMS)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(60)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@dataclass(frozen=True, slots=True)
class Node:
    """A running node: where, with what token, and the process."""

    url: str
    token: str
    pid: int
    data_dir: Path
    session: aiohttp.ClientSession

    async def push(self, name: str, file: Path, **settings: object) -> float:
        """Push a one-file function through the command line; returns the seconds it took."""
        argv = [sys.executable, "-m", "faas.cli", "push", str(file), "--name", name]
        for key, value in settings.items():
            argv += [f"--{key.replace('_', '-')}", str(value)]
        env = {**os.environ, "FAAS_URL": self.url, "FAAS_TOKEN": self.token}
        began = time.perf_counter()
        pushed = await asyncio.create_subprocess_exec(
            *argv, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await pushed.communicate()
        if pushed.returncode != 0:
            raise RuntimeError(f"push failed: {output.decode()}")
        return time.perf_counter() - began

    async def call(self, name: str, body: bytes = b'{"name": "Ada"}') -> tuple[float, aiohttp.ClientResponse]:
        """One call; the seconds it took at this caller, and the answer (read)."""
        began = time.perf_counter()
        async with self.session.post(
            f"{self.url}/function/{name}", data=body, headers={"Content-Type": "application/json"}
        ) as answer:
            await answer.read()
            return time.perf_counter() - began, answer

    async def api(self, method: str, path: str, **kwargs: Any) -> Any:
        """One request to the control API."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.request(method, self.url + path, headers=headers, **kwargs) as answer:
            answer.raise_for_status()
            return await answer.json() if answer.content_type.endswith("json") else await answer.read()

    async def until(self, name: str, instances: int, timeout_s: float = 60.0) -> None:
        """Wait until the function has exactly this many instances."""
        end = time.monotonic() + timeout_s
        while (await self.api("GET", f"/v1/functions/{name}"))["instances"] != instances:
            if time.monotonic() > end:
                raise RuntimeError(f"{name} did not get to {instances} instances in {timeout_s} s")
            await asyncio.sleep(0.05)

    async def stems(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait until this many stem cells stand ready."""
        end = time.monotonic() + timeout_s
        while (await self.api("GET", "/v1/status"))["instances"].get("stem", 0) < count:
            if time.monotonic() > end:
                raise RuntimeError(f"no {count} stem cells in {timeout_s} s")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def node(*flags: str, driver: str = "docker") -> AsyncIterator[Node]:
    """A node of its own in a temporary directory on a free port."""
    folder = Path(tempfile.mkdtemp(prefix="faas-bench-"))
    argv = [sys.executable, "-m", "faas.serve", "--driver", driver, "--data-dir", str(folder / "data")]
    argv += ["--listen", "127.0.0.1:0", *flags]
    log = folder / "log"
    try:
        with process(argv, log) as server:
            url = await asyncio.to_thread(_ready_url, log, server)
            token = (folder / "data" / "admin-token").read_text().strip()
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:
                yield Node(url, token, server.pid, folder / "data", session)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ready_url(log: Path, server: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        found = re.search(r"^ready (\S+)", log.read_text(errors="replace"), re.MULTILINE)
        if found:
            return found[1]
        time.sleep(0.02)
    raise RuntimeError(f"the node did not get ready: {log.read_text(errors='replace')}")


@contextmanager
def baseline(name: str, port: int) -> Iterator[str]:
    """A baseline server from `programs/` on loopback; yields the URL to call."""
    with tempfile.TemporaryDirectory(prefix="faas-bench-") as folder:
        if name == "aiohttp":
            argv = [sys.executable, "-W", "ignore", str(PROGRAMS / "bare_aiohttp.py"), str(port)]
        else:
            program = str(BENCH_PYTHON.parent / "functions-framework")
            argv = [program, "--target", "hello", "--source", str(PROGRAMS / "framework.py"), "--port", str(port)]
            argv += ["--host", "127.0.0.1"]
        with process(argv, Path(folder) / "log"):
            url = f"http://127.0.0.1:{port}/"
            _answers(url)
            yield url


def _answers(url: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            done = subprocess.run(
                ["curl", "-sf", "-d", '{"name":"Ada"}', "-H", "Content-Type: application/json", url],
                capture_output=True,
                check=True,
            )
        except subprocess.CalledProcessError:
            time.sleep(0.05)
            continue
        if b"Ada" not in done.stdout:
            raise RuntimeError(f"{url} answered {done.stdout!r}")
        return
    raise RuntimeError(f"{url} does not answer")


def have_framework() -> bool:
    """True when `make bench-setup` has installed the peers."""
    return BENCH_PYTHON.exists()
