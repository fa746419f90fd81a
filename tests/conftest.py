"""Fixtures for every test: Redis databases, real nodes, and an account of what was skipped for want of a service."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
import redis

from tests.support import dies_with_us, require, wait_until_sync

if TYPE_CHECKING:
    from tests.integration.node import RunningNode

DATABASES = 256


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a missing service: a skip that nobody sees is a hole."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if reason.startswith("needs "):
                reasons[reason] += 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"NOT TESTED: {count} x {reason}", yellow=True)


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[Path]:
    """Socket of a redis-server of this session's own, append-only as in production."""
    require("redis")
    # Not tmp_path: a socket's path ends at 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="faas-redis-"))
    socket = folder / "redis.sock"
    argv = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    argv += ["--appendonly", "yes", "--appendfsync", "always", "--databases", str(DATABASES)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(dies_with_us(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until_sync(lambda: _answers(server, folder), 10, "redis-server answers")
        yield socket
    finally:
        server.terminate()
        try:
            server.wait(10)
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(folder)


def _answers(server: subprocess.Popen[bytes], folder: Path) -> bool:
    if server.poll() is not None:
        raise AssertionError(f"redis-server ended with {server.returncode}: {(folder / 'log').read_text()}")
    try:
        with redis.Redis(unix_socket_path=str(folder / "redis.sock")) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture(scope="session")
def redis_url(redis_socket: Path) -> str:
    """URL of the session's server, database 0. Shared: a test that needs it empty takes `fresh_redis`."""
    return f"unix://{redis_socket}"


@pytest.fixture
def fresh_redis(redis_socket: Path, request: pytest.FixtureRequest) -> Callable[[], str]:
    """A factory: each call gives the URL of an empty database that no other test uses meanwhile.

    Channels of PUBLISH are the server's and not a database's: put something random into their names.
    """
    free: list[int] = request.getfixturevalue("_free_databases")

    def fresh() -> str:
        number = free.pop()
        with redis.Redis(unix_socket_path=str(redis_socket), db=number) as client:
            client.flushdb()
        request.addfinalizer(lambda: free.append(number))
        return f"unix://{redis_socket}?db={number}"

    return fresh


@pytest.fixture(scope="session")
def _free_databases() -> list[int]:
    return list(range(DATABASES - 1, 0, -1))


class NodeFactory(Protocol):
    """`await node_factory("--driver", "docker")`: a started node; the fixture stops it."""

    async def __call__(self, *flags: str, data_dir: Path | None = None) -> RunningNode: ...


@pytest.fixture
async def node_factory(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeFactory]:
    """Real nodes, as many as a test asks for, each in a data directory of its own unless one is given."""
    from tests.integration.node import RunningNode

    async with AsyncExitStack() as stack:

        async def start(*flags: str, data_dir: Path | None = None) -> RunningNode:
            place = data_dir or tmp_path_factory.mktemp("node")
            return await stack.enter_async_context(RunningNode(place, *flags))

        yield start


@pytest.fixture(scope="session")
async def docker_node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    """One node with the docker driver for the whole session. Push under names of your own; never stop it."""
    require("docker", "images")
    from tests.integration.node import RunningNode

    async with RunningNode(tmp_path_factory.mktemp("docker-node"), "--driver", "docker") as node:
        yield node
