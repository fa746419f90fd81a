"""What a container on the egress network can reach: the outside, and nothing that is ours.

```
 container -- egtN (bridge, rules) -- this machine -- veth -- namespace with 203.0.113.2: "the internet"
                    |                     `---------- veth -- the same namespace with 10.203.113.2: a private network
              another container
```
Names carry a number of their own; namespace, links, network and rules are gone at the end.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import docker
import pytest

from faas.drivers.egress import Egress
from faas.drivers.engine import Engine
from faas.errors import Unavailable
from tests.support import require, wait_until

pytestmark = pytest.mark.docker

NUMBER = os.getpid() % 10_000
NETWORK, BRIDGE, SPACE = f"faas-egt-{NUMBER}", f"egt{NUMBER}", f"egt-{NUMBER}"
OUTSIDE, PRIVATE, PORT = "203.0.113.2", "10.203.113.2", 8099
SERVER = f"""
import socket
listener = socket.create_server(("0.0.0.0", {PORT}))
print("ready", flush=True)
while True:
    peer, _ = listener.accept()
    peer.sendall(b"hello"); peer.close()
"""
PROBE = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as peer:
        print("reached:", peer.recv(16).decode())
except OSError as error:
    print("refused:", error)
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[None]:
    """A namespace that plays the internet and a private network, with a server that says hello on both."""
    require("docker", "images", "root")
    run("ip", "netns", "add", SPACE)
    server = None
    try:
        for index, address in enumerate((OUTSIDE, PRIVATE)):
            near, far = f"egn{NUMBER}{index}", f"egf{NUMBER}{index}"
            run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", SPACE)
            run("ip", "addr", "add", address[:-1] + "1/24", "dev", near)
            run("ip", "link", "set", near, "up")
            run("ip", "-n", SPACE, "addr", "add", f"{address}/24", "dev", far)
            run("ip", "-n", SPACE, "link", "set", far, "up")
        command = ["nsenter", f"--net=/run/netns/{SPACE}", sys.executable, "-c", SERVER]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "ready"
        yield
    finally:
        if server is not None:
            server.kill()
            server.wait()
            assert server.stdout is not None
            server.stdout.close()
        run("ip", "netns", "del", SPACE)  # takes its ends of the links, and so the links, along


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    require("docker", "images", "root")
    async with Engine() as engine:
        yield engine


@pytest.fixture
async def egress(engine: Engine) -> AsyncIterator[Egress]:
    egress = Egress(engine, network=NETWORK, bridge=BRIDGE)
    try:
        await egress.ensure()
        yield egress
    finally:
        with suppress(Exception):
            await engine.call(lambda client: client.remove_network(NETWORK))
        egress.firewall.remove()
    left = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    assert BRIDGE.upper() not in left


class Box:
    """A container of the runtime's image on the network under test, hardened as instances are."""

    def __init__(self, client: Any, program: str) -> None:
        self._client = client
        host = client.create_host_config(
            network_mode=NETWORK, cap_drop=["ALL"], security_opt=["no-new-privileges"], read_only=True
        )
        image, entry = "faas-runtime-python3.11:latest", ["python3", "-c", program]
        made = client.create_container(
            image, entrypoint=entry, user="65532:65532", host_config=host, labels={"faas.test": "egress"}
        )
        self.id = made["Id"]
        client.start(self.id)

    @property
    def address(self) -> str:
        networks = self._client.inspect_container(self.id)["NetworkSettings"]["Networks"]
        return str(networks[NETWORK]["IPAddress"])

    def run(self, *command: str) -> str:
        job = self._client.exec_create(self.id, list(command))
        return str(self._client.exec_start(job["Id"]).decode())

    def reaches(self, address: str, port: int = PORT) -> str:
        return self.run("python3", "-c", PROBE, address, str(port))

    def remove(self) -> None:
        self._client.remove_container(self.id, force=True)


@pytest.fixture
def client() -> Iterator[Any]:
    client = docker.APIClient(version="auto")
    yield client
    client.close()


@pytest.fixture
async def box(egress: Egress, elsewhere: None, client: Any) -> AsyncIterator[Box]:
    box = Box(client, "import time; time.sleep(600)")
    yield box
    box.remove()


@pytest.fixture
def on_this_machine() -> Iterator[int]:
    """Port of a listener on every address of this machine, as Redis or the node may have."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        stop = threading.Event()

        def serve() -> None:
            listener.settimeout(0.1)
            while not stop.is_set():
                with suppress(TimeoutError):
                    peer, _ = listener.accept()
                    peer.sendall(b"hello")
                    peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        stop.set()
        thread.join()


async def test_the_outside_is_reached_and_nothing_of_ours(box: Box, client: Any, on_this_machine: int) -> None:
    assert box.reaches(OUTSIDE) == "reached: hello\n"

    gateway = client.inspect_network(NETWORK)["IPAM"]["Config"][0]["Gateway"]
    ours = {
        "the bridge": gateway,
        "the machine's outer address": OUTSIDE[:-1] + "1",
        "the machine's private address": PRIVATE[:-1] + "1",
    }
    for what, address in ours.items():
        assert box.reaches(address, on_this_machine).startswith("refused:"), what
    for address in (PRIVATE, "169.254.169.254"):
        assert box.reaches(address).startswith("refused:"), address


async def test_it_is_the_rules_that_protect(box: Box, egress: Egress, client: Any, on_this_machine: int) -> None:
    """The control of the test above: without them, all of it is open."""
    gateway = client.inspect_network(NETWORK)["IPAM"]["Config"][0]["Gateway"]
    egress.firewall.remove()
    assert box.reaches(gateway, on_this_machine) == "reached: hello\n"
    assert box.reaches(PRIVATE) == "reached: hello\n"
    await egress.ensure()
    assert box.reaches(gateway, on_this_machine).startswith("refused:")
    assert box.reaches(PRIVATE).startswith("refused:")


async def test_a_refusal_is_an_error_at_once_not_a_timeout(box: Box) -> None:
    if "REJECT" not in subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this kernel cannot reject; rules drop")
    assert "timed out" not in box.reaches("169.254.169.254")


async def test_containers_do_not_reach_each_other(box: Box, client: Any) -> None:
    neighbour = Box(client, SERVER)
    try:
        await wait_until(lambda: "reached" in neighbour.reaches("127.0.0.1"), 15, "the neighbour serves itself")
        assert box.reaches(neighbour.address).startswith("refused:")
    finally:
        neighbour.remove()


async def test_there_is_a_resolver_and_no_ipv6(box: Box) -> None:
    assert "127.0.0.11" in box.run("cat", "/etc/resolv.conf")
    assert box.run("cat", "/proc/net/if_inet6").strip() in ("", "cat: /proc/net/if_inet6: No such file or directory")


async def test_private_networks_open_by_the_operators_switch(engine: Engine, box: Box) -> None:
    await Egress(engine, network=NETWORK, bridge=BRIDGE, allow_private=True).ensure()
    assert box.reaches(PRIVATE) == "reached: hello\n"
    assert box.reaches("169.254.169.254").startswith("refused:")
    assert box.reaches(PRIVATE[:-1] + "1", 22).startswith("refused:")
    await Egress(engine, network=NETWORK, bridge=BRIDGE).ensure()
    assert box.reaches(PRIVATE).startswith("refused:")


async def test_repeating_it_changes_nothing_and_a_flush_is_repaired(egress: Egress) -> None:
    def ours() -> list[str]:
        saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
        return [line for line in saved.splitlines() if BRIDGE.upper() in line]

    before = [line.split("[")[0] for line in ours()]
    await egress.ensure()
    assert [line.split("[")[0] for line in ours()] == before
    run("iptables", "-w", "-F", egress.firewall.forward_chain)
    [(_, fine, finding)] = await egress.check()
    assert fine
    assert "are back" in finding
    assert [line.split("[")[0] for line in ours()] == before
    assert (await egress.check())[0][1:] == (True, f"{NETWORK} on {BRIDGE}: outside only")


async def test_a_network_of_that_name_without_isolation_is_refused(engine: Engine, client: Any) -> None:
    client.create_network(NETWORK, driver="bridge", labels={"faas.test": "egress"})
    try:
        with pytest.raises(Unavailable, match="reach each other") as error:
            await Egress(engine, network=NETWORK, bridge=BRIDGE).ensure()
        assert f"docker network rm {NETWORK}" in error.value.hint
    finally:
        client.remove_network(NETWORK)
