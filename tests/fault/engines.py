"""A Docker engine of a test's own, which may be stopped and killed, in a network namespace without a bridge.

The machine's engine, its networks and its firewall are out of its reach: what it shares with it is the kernel.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

import docker

from tests.support import TEST_RUNTIME, dies_with_us, require, wait_until_sync

_UP_S = 30.0
_DOWN_S = 30.0


class PrivateEngine:
    """A context manager. Everything it has is in one folder, which goes with it.

    A node uses it by `env`: its socket, and no iptables: the rules it would set are for this engine's bridges, and
    those are in another network namespace.
    """

    def __init__(self) -> None:
        require("docker", "images", "root")
        # Not tmp_path: a socket's path ends at 107 bytes, and containerd's are long.
        self.folder = Path(tempfile.mkdtemp(prefix="faas-engine-"))
        self.url = f"unix://{self.folder}/d.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """Environment of a node on this engine."""
        tools = self.folder / "bin"
        tools.mkdir(exist_ok=True)
        return {"DOCKER_HOST": self.url, "PATH": str(tools)}

    def __enter__(self) -> Self:
        try:
            self.start()
            self._load(f"faas-runtime-{TEST_RUNTIME}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        self.kill_rest()
        for point in sorted(self.mounts(), reverse=True):
            subprocess.run(["umount", "--lazy", point], check=True, timeout=10)
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it and wait until it answers."""
        argv = ["unshare", "--net", "dockerd", "-H", self.url, "--storage-driver", "overlay2", "--bridge", "none"]
        argv += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--shutdown-timeout", "1"]
        argv += ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        argv += ["-p", f"{self.folder}/pid"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(dies_with_us(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until_sync(self._answers, _UP_S, "the private engine answers")

    def stop(self) -> None:
        """SIGTERM, as an operator's restart begins: it ends its containers, then itself."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """SIGKILL. Its containers run on."""
        self._end(signal.SIGKILL)

    def kill_rest(self) -> None:
        """SIGKILL of all that an engine killed before has left: containerd, shims and the containers themselves."""
        for tree in self._trees():
            for pid in tree:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        wait_until_sync(lambda: not self._trees(), _DOWN_S, "what the engine left has ended")

    def _trees(self) -> list[list[int]]:
        """Processes that name our folder, each followed by its children: a container's first is a shim's child."""
        needle, parents, ours = os.fsencode(self.folder), {}, []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                pid, command = int(entry.name), (entry / "cmdline").read_bytes()
                parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if needle in command:
                    ours.append(pid)
        return [[pid, *(child for child, parent in parents.items() if parent == pid)] for pid in ours]

    def containers(self) -> list[str]:
        """Ids and states of all its containers."""
        with closing(docker.DockerClient(self.url, timeout=20)) as client:
            return [f"{row['Id'][:12]} {row['State']}" for row in client.api.containers(all=True)]

    def mounts(self) -> list[str]:
        """Mount points below its folder."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split(" ")[4] for line in lines]
        return [point for point in points if point.startswith(f"{self.folder}/")]

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        assert process is not None
        process.send_signal(number)
        try:
            process.wait(_DOWN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"dockerd still ran {_DOWN_S:g} s after {number.name}: {self._log()}") from None

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"dockerd ended with {self._process.returncode}: {self._log()}")
        with socket.socket(socket.AF_UNIX) as client:  # the package leaves sockets open where nobody answers
            client.settimeout(5)
            try:
                client.connect(str(self.folder / "d.sock"))
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b"200 OK" in client.recv(1024)
            except OSError:
                return False

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2_000:]

    def _load(self, image: str) -> None:
        """`docker save | docker load`: there need not be a registry."""
        save = subprocess.Popen(["docker", "save", f"{image}:latest"], stdout=subprocess.PIPE)
        assert save.stdout is not None
        with save.stdout:
            load = subprocess.run(["docker", "-H", self.url, "load", "--quiet"], stdin=save.stdout, timeout=120)
        codes = (save.wait(10), load.returncode)
        assert codes == (0, 0), f"the image did not move: save ended with {codes[0]}, load with {codes[1]}"
