"""The same supervisor as PID 1 of a container: what only a namespace of its own can promise."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faas.wire import messages as m
from tests.conformance.runtime.node import Node
from tests.support import ROOT, require

pytestmark = pytest.mark.docker

IMAGE = os.environ.get("FAAS_TEST_IMAGE", "faas-runtime-python3.11:latest")
INSIDE, UID = "/faas/instance", 65532
LIMITS = ["--memory", "128m", "--memory-swap", "128m", "--pids-limit", "64", "--tmpfs", "/tmp:mode=1777,size=16m"]
LOCKED = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]


class Container(Node):
    """An instance in a container that is locked down as a driver does it."""

    def spawn(self, python: str, runtime: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        self.inside = INSIDE
        self.folder.chmod(0o711)
        os.chown(self.folder / "sock", UID, UID)
        command = ["docker", "run", "--rm", "--name", self.folder.name, "--user", str(UID), *LIMITS, *LOCKED]
        command += ["-v", f"{self.folder}:{INSIDE}:ro", "-e", f"FAAS_DIR={INSIDE}", "-e", "FAAS_INSTANCE=i-test"]
        return subprocess.Popen([*command, IMAGE], stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    require("docker", "images", "root")
    with Container() as running:
        yield running


@pytest.fixture
def node(container: Container) -> Iterator[Container]:
    yield container
    assert container.reset()


def test_it_serves(node: Container) -> None:
    assert node.init("hello")[0] == m.READY
    assert node.call(b'{"name": "box"}').body == b'{"hello":"box"}'


def test_it_says_what_it_prints(node: Container) -> None:
    node.init("prints")
    assert {"one", "from C", "from a program", "buffered"} <= set(node.call().texts())


def test_out_of_memory(node: Container) -> None:
    node.init("memory")
    node.open()
    cause, _ = node.exited()
    assert (cause["signal"], cause["oom"], cause["detail"]) == (9, True, "out of memory")
    node.init("crash", handler="crash")
    node.open(b'{"how": "kill"}')
    cause, _ = node.exited()
    assert (cause["signal"], cause["oom"]) == (9, False), "the counter of the last one does not count again"


def test_fork_bomb(node: Container) -> None:
    for _ in range(3):
        node.init("fork_bomb")
        node.open()
        node.control.send(m.ping(1))
        node.until(node.control, m.PONG)
        node.control.send(m.kill("deadline"))
        assert node.exited()[0]["detail"] == "killed: deadline"
    node.init("hello", handler="hello")
    assert node.call().status == 200


def test_processes_that_hide_are_found(node: Container) -> None:
    node.init("orphans")
    node.open()
    assert node.exited()[0]["code"] == 1
    top = subprocess.run(["docker", "top", node.folder.name, "-o", "pid"], capture_output=True, text=True, check=True)
    assert len(top.stdout.split()) == 3, "a heading, the supervisor and the new child"


def test_tmp_is_emptied(node: Container) -> None:
    node.init("leftovers")
    node.open()
    assert node.exited()[0]["code"] == 1
    node.init("leftovers")
    assert node.call(b'{"look": true}').body == b"[]"


def test_pid_1_cannot_be_hurt(node: Container) -> None:
    node.init("crash")
    assert node.call(b'{"how": "parent", "stop": true}').status == 200
    node.control.send(m.ping(1))
    assert node.until(node.control, m.PONG)[0] == [m.PONG, 1]
    (node.code / "main.py").write_text(
        "import os\n"
        "def handler(event):\n"
        "    os.kill(1, 9); os.kill(1, 19)\n"
        "    try: open('/proc/1/mem', 'rb')\n"
        "    except PermissionError as error: return str(error)\n"
    )
    node.control.send(m.kill("next"))
    node.exited()
    node.init(handler="main")
    assert b"Permission denied" in node.call().body


def test_secrets_are_on_tmpfs_and_go(node: Container) -> None:
    node.init("secret", secrets={"API_KEY": "s3cret"}, env={"COLOUR": "x"})
    assert b'"folder":"/dev/shm/faas-secrets-i-test"' in node.call().body


def test_another_msgpack_with_its_c_part(node: Container) -> None:
    """The compiled module is the one that collides: it must be importable beside the runtime's own."""
    import msgpack

    package = Path(msgpack.__file__).parent
    target = node.folder / "deps" / "msgpack"
    target.mkdir(parents=True, exist_ok=True)
    for file in package.iterdir():
        if file.suffix in (".py", ".so"):
            (target / file.name).write_bytes(file.read_bytes())
    text = (package / "__init__.py").read_text().replace("version = (", "version = (99, ")
    (target / "__init__.py").write_text(text)
    assert node.init("uses_msgpack", deps=[f"{INSIDE}/deps"])[0] == m.READY
    assert node.call().body.startswith(b'{"version":[99,')
    source = "import msgpack\ndef handler(event): return msgpack.Packer.__module__\n"
    (node.code / "main.py").write_text(source)
    node.control.send(m.kill("next"))
    node.exited()
    node.init(handler="main", deps=[f"{INSIDE}/deps"])
    assert node.call().body == b"msgpack._cmsgpack"


def test_image_has_what_it_needs_and_no_more() -> None:
    require("docker", "images")
    shown = subprocess.run(
        ["docker", "image", "inspect", "-f", "{{.Config.User}} {{json .Config.Entrypoint}}", IMAGE],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == '65532:65532 ["/opt/faas/start"]'
    assert (ROOT / "runtimes" / "python" / "Dockerfile").is_file()
