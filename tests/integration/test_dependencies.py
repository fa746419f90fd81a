"""Packages that just install: from an index, from source, from a private index, offline, on every node."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.conftest import put
from tests.integration.node import RunningNode
from tests.integration.packages import index_of, make_sdist, make_wheel
from tests.support import require, wait_until

SCIENCE = """
# /// script
# dependencies = ["numpy", "pandas", "pillow", "jinja2"]
# [tool.faas]
# memory = "512M"
# ///
import io, os, sys
import jinja2, numpy, pandas
from PIL import Image

def handler(event):
    picture = io.BytesIO()
    Image.new("RGB", (8, 4), "red").save(picture, "PNG")
    try:
        open(os.path.join(os.path.dirname(numpy.__file__), "mine"), "w")
        writable = True
    except OSError:
        writable = False
    return {
        "numpy": int(numpy.arange(5).sum()),
        "pandas": pandas.DataFrame({"a": [1, 2, 3]})["a"].mean(),
        "pillow": Image.open(picture).size,
        "jinja2": jinja2.Template("hello {{ name }}").render(name="Ada"),
        "compiled": [os.path.exists(m.__cached__) for m in (numpy, pandas, jinja2)],
        "writable": writable,
        "word": %(word)r,
    }
"""
SOURCE_ONLY = """
# /// script
# dependencies = ["docopt==0.6.2"]
# ///
import docopt
def handler(event):
    return docopt.docopt("Usage: x <name>", argv=["Ada"])["<name>"]
"""
FETCHES = """
import requests
def handler(event):
    return requests.get(event["url"], timeout=5).text
"""
OUTSIDE, PORT = "198.51.100.2", 8098
NUMBER = os.getpid() % 10_000
SPACE = f"deps-{NUMBER}"
SERVER = f"""
import http.server
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"from outside")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("0.0.0.0", {PORT}), Hello)
print("ready", flush=True)
server.serve_forever()
"""
SECOND_PUSH_MS = 1_000
"""The promise for a push whose declaration is that of an earlier version, on the node's own clock."""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def told(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


# -- from the public index, in containers ------------------------------------------------------------------


async def test_well_known_packages_install_and_the_second_push_is_quick(
    docker_node: RunningNode, tmp_path: Path
) -> None:
    source = write(tmp_path / "science.py", SCIENCE % {"word": "one"})
    first = await docker_node.cli("push", str(source), "--json")
    assert first.code == 0, first
    assert [event["phase"] for event in told(first.out)] == [
        "resolving", "installing", "stored", "starting", "ready", "live", "done",
    ]  # fmt: skip
    answer = (await docker_node.call("science", json={})).json()
    assert answer == {
        "numpy": 10, "pandas": 2.0, "pillow": [8, 4], "jinja2": "hello Ada", "compiled": [True] * 3,
        "writable": False, "word": "one",
    }  # fmt: skip

    write(source, SCIENCE % {"word": "two"})
    second = await docker_node.cli("push", str(source), "--json")
    assert told(second.out)[0]["phase"] == "stored", second
    # The cold start imports pandas: what the push itself takes is told before it.
    before_start = next(event["ms"] for event in told(second.out) if event["phase"] == "starting")
    assert isinstance(before_start, float)
    assert before_start < SECOND_PUSH_MS
    assert (await docker_node.call("science", json={})).json()["word"] == "two"

    lock = await docker_node.cli("show", "science", "--lock")
    assert re.search(r"^numpy==[0-9.]+ \\$", lock.out, re.MULTILINE), lock
    assert "--hash=sha256:" in lock.out
    assert (await docker_node.cli("show", "science", "--lock", "--version", "1")).out == lock.out


async def test_a_package_that_is_only_there_as_source(docker_node: RunningNode, tmp_path: Path) -> None:
    await docker_node.push(write(tmp_path / "source-only.py", SOURCE_ONLY))
    assert (await docker_node.call("source-only", json={})).body == b"Ada"


@pytest.fixture(scope="module")
def outside() -> Iterator[str]:
    """A web server that containers reach only through the network `egress`."""
    require("docker", "images", "root")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=20)

    run("ip", "netns", "add", SPACE)
    server = None
    try:
        near, far = f"dpn{NUMBER}", f"dpf{NUMBER}"
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", SPACE)
        run("ip", "addr", "add", f"{OUTSIDE[:-1]}1/24", "dev", near)
        run("ip", "link", "set", near, "up")
        run("ip", "-n", SPACE, "addr", "add", f"{OUTSIDE}/24", "dev", far)
        run("ip", "-n", SPACE, "link", "set", far, "up")
        command = ["nsenter", f"--net=/run/netns/{SPACE}", sys.executable, "-c", SERVER]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "ready"
        yield f"http://{OUTSIDE}:{PORT}/"
    finally:
        if server is not None:
            server.kill()
            server.wait()
            assert server.stdout is not None
            server.stdout.close()
        run("ip", "netns", "del", SPACE)


async def test_requests_reaches_a_server_outside(docker_node: RunningNode, outside: str, tmp_path: Path) -> None:
    write(tmp_path / "fetches" / "main.py", FETCHES)
    write(tmp_path / "fetches" / "requirements.txt", "requests>=2  # the classic\n")
    await docker_node.push(tmp_path / "fetches")
    reply = await docker_node.call("fetches", json={"url": outside})
    assert reply.body == b"from outside", reply


async def test_what_does_not_fit_fails_in_the_resolvers_words_and_nothing_changes(
    docker_node: RunningNode, tmp_path: Path
) -> None:
    source = tmp_path / "unfit.py"
    await put(docker_node, write(source, "def handler(event): return 'old'\n"))
    cases = {
        '"jinja2==3.1.6", "markupsafe<2"': "markupsafe",
        '"a-name-nobody-has-taken-7f3a"': "a-name-nobody-has-taken-7f3a was not found",
    }
    for dependencies, words in cases.items():
        header = f"# /// script\n# dependencies = [{dependencies}]\n# ///\n"
        result = await docker_node.cli("push", str(write(source, header + "def handler(event): return 'new'\n")))
        assert result.code == 1, result
        assert words in result.err
        assert len(result.err) < 1_500, "short"
        assert (await docker_node.call("unfit", json={})).body == b"old"


# -- from wheels and sources of our own, in sandboxes ------------------------------------------------------

USES = """
import {module}
def handler(event):
    return {module}.WORD
"""


def folder_with(root: Path, module: str, requirements: str) -> Path:
    """A function that answers with a package's WORD."""
    write(root / "main.py", USES.format(module=module))
    write(root / "requirements.txt", requirements)
    return root


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder of wheels: `steady` needs `helper`."""
    require("redis", "bwrap", "root")
    folder = tmp_path / "wheels"
    folder.mkdir()
    folder.chmod(0o755)
    make_wheel(folder, "helper", "1.0", "WORD = 'help'\n")
    make_wheel(folder, "steady", "1.0", "import helper\nWORD = 'steady with ' + helper.WORD\n", ("helper>=1",))
    return folder


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., object]]:
    """Nodes with the process driver and an environment of their own."""
    async with AsyncExitStack() as stack:
        count = 0

        async def make(env: Mapping[str, str]) -> RunningNode:
            nonlocal count
            count += 1
            place = tmp_path / f"node{count}"
            return await stack.enter_async_context(RunningNode(place, "--driver", "process", env=env))

        yield make


async def test_a_folder_of_wheels_without_a_network_on_every_node(
    make: Callable[..., object], wheels: Path, fresh_redis: Callable[[], str], tmp_path: Path
) -> None:
    key = "ab" * 32
    env = {"FAAS_REDIS_URL": fresh_redis(), "FAAS_SECRET_KEY": key, "UV_FIND_LINKS": str(wheels), "UV_OFFLINE": "1"}
    first: RunningNode = await make(env)  # type: ignore[misc]
    second: RunningNode = await make(env)  # type: ignore[misc]
    source = folder_with(tmp_path / "steady-one", "steady", "steady\n")
    await first.push(source)
    assert (await first.call("steady-one", json={})).body == b"steady with help"

    # A newer one appears. The other node follows the lock, before anyone calls it, and decides nothing anew.
    make_wheel(wheels, "helper", "2.0", "WORD = 'news'\n")
    await wait_until(lambda: stored(first) <= stored(second), 20, "installed on the other node too")
    assert (await second.call("steady-one", json={})).body == b"steady with help"
    assert (await second.cli("show", "steady-one", "--lock")).out.count("==1.0") == 2

    # The same declaration stays with its lock, whoever pushes; --upgrade does not.
    write(source / "main.py", USES.format(module="steady") + "# changed\n")
    await second.push(source)
    assert (await second.call("steady-one", json={})).body == b"steady with help"
    await second.push(source, "--upgrade")
    assert (await second.call("steady-one", json={})).body == b"steady with news"
    assert (await second.call("steady-one@1", json={})).body == b"steady with help"


async def test_pushes_at_once_install_once(make: Callable[..., object], wheels: Path, tmp_path: Path) -> None:
    node: RunningNode = await make({"UV_FIND_LINKS": str(wheels), "UV_OFFLINE": "1"})  # type: ignore[misc]
    sources = [folder_with(tmp_path / f"at-once-{number}", "steady", "steady\n") for number in range(10)]
    await asyncio.gather(*(put(node, source) for source in sources))
    replies = await asyncio.gather(*(node.call(source.name, json={}) for source in sources))
    assert {reply.body for reply in replies} == {b"steady with help"}
    assert sum((folder / "helper.py").is_file() for folder in (node.data_dir / "store").iterdir()) == 1
    assert not list((node.data_dir / "store").glob(".tmp-*"))


def stored(node: RunningNode) -> set[str]:
    """Bundles on a node's disk that hold packages."""
    return {path.parent.name for path in (node.data_dir / "store").glob("*/helper.py")}


async def test_a_private_index_and_its_password(make: Callable[..., object], tmp_path: Path) -> None:
    require("bwrap", "root")
    folder = tmp_path / "index"
    folder.mkdir()
    make_wheel(folder, "inhouse", "3.0", "WORD = 'ours'\n")
    make_sdist(folder, "fromsource", "1.0", "WORD = 'built'\n")
    source = folder_with(tmp_path / "private", "inhouse", "inhouse\nfromsource\n")
    node: RunningNode = await make({"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"})  # type: ignore[misc]
    with index_of(folder, "me", "hunter2/@") as place:
        index = ("--index", f"http://me:${{PASS}}@{place}/simple")
        refused = await node.cli("push", str(source), *index)
        assert refused.code == 2, refused
        assert "faas secrets set PASS" in refused.err
        assert (await node.cli("secrets", "set", "PASS", stdin="wrong-one")).code == 0
        refused = await node.cli("push", str(source), *index)
        assert refused.code in (1, 3), refused
        assert "401" in refused.err
        assert "wrong-one" not in refused.err + node.log()
        assert (await node.cli("secrets", "set", "PASS", stdin="hunter2/@")).code == 0
        await node.push(source, *index)
    assert (await node.call("private", json={})).body == b"ours"
    lock = (await node.cli("show", "private", "--lock")).out
    assert "inhouse==3.0" in lock
    assert "hunter2" not in lock + node.log()


async def test_a_build_that_fails_says_why_and_gets_hold_of_nothing(
    make: Callable[..., object], tmp_path: Path
) -> None:
    require("bwrap", "root")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    node: RunningNode = await make({"UV_FIND_LINKS": str(wheels), "UV_OFFLINE": "1"})  # type: ignore[misc]
    source = folder_with(tmp_path / "builds", "broken", "broken\n")
    token = node.data_dir / "admin-token"
    make_sdist(wheels, "broken", "1.0", "", before="raise SystemExit('there is no compiler called f77')")
    refused = await node.cli("push", str(source))
    assert refused.code == 1, refused
    assert "there is no compiler called f77" in refused.err

    # What it prints, reads, or leaves in place of the files the node reads afterwards.
    grabs = f"""
import os, pathlib, sys
sys.stderr.write(repr(dict(os.environ)))
room = pathlib.Path("/faas/instance")
for name in ("output.txt", "lock.txt", "exit-code"):
    (room / name).unlink(missing_ok=True)
    (room / name).symlink_to({str(token)!r})
try:
    sys.stderr.write(pathlib.Path({str(token)!r}).read_text())
except OSError as error:
    sys.stderr.write("refused: " + type(error).__name__)
raise SystemExit("enough")
"""
    make_sdist(wheels, "broken", "2.0", "", before=grabs)
    refused = await node.cli("push", str(source))
    assert refused.code == 1, refused
    for text in (refused.err, node.log()):
        assert node.token not in text
        assert "FAAS_" not in text
    assert not list((node.data_dir / "store").glob(".tmp-*")), "no room is left"
    assert (await node.call("builds", json={})).status == 404
