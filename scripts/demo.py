"""The platform in a minute: start a node, push two functions, call them, stop. Leaves nothing behind.

Drives the `faas` command and plain HTTP, as a user would. Needs no root, no engine and no Redis.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from scripts.images import FAAS, build_command, missing_images

ROOT = Path(__file__).resolve().parent.parent
START_S, STOP_S, BUILD_S, PUSH_S, TO_ZERO_S = 30.0, 30.0, 40.0, 30.0, 15.0
WARM_CALLS = 200
READY = re.compile(r"\bready\b.*http")
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
JSON = {"Content-Type": "application/json"}

GO_ON = """
Go on from here:
  make up                                      a node that stays, at http://127.0.0.1:8080
  .venv/bin/faas push examples/hello.py        in a second terminal: put a function on it
  .venv/bin/faas logs hello --follow           watch it work
  .venv/bin/faas --help                        everything else"""


class Answer(NamedTuple):
    """A reply, and what it took as the caller sees it, in milliseconds."""

    status: int
    start: str
    body: bytes
    ms: float


class Node(NamedTuple):
    """A running node: where it listens, where its data is, and one open connection to it."""

    address: str
    folder: Path
    link: http.client.HTTPConnection

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """One request over the open connection."""
        began = time.perf_counter()
        self.link.request(method, path, body, headers or {})
        reply = self.link.getresponse()
        data = reply.read()
        took = (time.perf_counter() - began) * 1000
        return Answer(reply.status, reply.headers.get("X-Faas-Start", ""), data, took)

    def call(self, name: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Call a function; anything but 200 ends the demo."""
        answer = self.ask("POST", f"/function/{name}", body, headers)
        if answer.status != 200:
            fail(f"{name} answered {answer.status}", answer.body.decode(errors="replace"))
        return answer

    def instances(self, name: str) -> int:
        """How many instances of a function run now."""
        token = (self.folder / "data" / "admin-token").read_text().strip()
        answer = self.ask("GET", f"/v1/functions/{name}", headers={"Authorization": f"Bearer {token}"})
        view: dict[str, Any] = json.loads(answer.body)
        return int(view["instances"])


def say(line: str = "") -> None:
    """Print at once, also into a pipe."""
    print(line, flush=True)


def fail(what: str, detail: str = "") -> NoReturn:
    """Say what went wrong and end; everything started is stopped on the way out."""
    say(f"\nThe demo failed: {what}")
    if detail:
        say(detail.strip()[-4000:])
    sys.exit(1)


def choose_driver() -> str:
    """`docker` where an engine and its image can be had, else `process`; says which and why."""
    lacking = missing_images()
    if lacking is None:
        say("No Docker engine answers: functions run as processes on this machine, without a container's isolation.")
        return "process"
    for runtime in lacking:
        say(f"A Docker engine answers. Building its image for {runtime}, once ...")
        if not build(runtime):
            say("The image could not be built here: functions run as processes. `make images` shows why.")
            return "process"
    say("A Docker engine answers: each function runs in containers of its own.")
    return "docker"


def build(runtime: str) -> bool:
    """True when the image was built within the time a demo may take."""
    nothing = subprocess.DEVNULL
    command = build_command(runtime)
    builder = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    try:
        return builder.wait(BUILD_S) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        end(builder)


def end(process: subprocess.Popen[bytes], *, group: bool = True) -> int:
    """Ask a process (or its whole session) to end, and insist after a while. Its exit code."""
    if process.poll() is None:
        os.kill(-process.pid if group else process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


@contextmanager
def running_node(folder: Path, driver: str) -> Iterator[Node]:
    """`faas up` until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = ["faas", "up", "--listen", address, "--data-dir", str(folder / "data"), "--driver", driver]
    say(f"\n$ {shlex.join(command)}")
    log, began = folder / "node.log", time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [FAAS, *command[1:]], env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip
    try:
        while not READY.search(log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() - began > START_S:
                fail("the node did not get ready", log.read_text(errors="replace"))
            time.sleep(0.01)
        say(f"  ready after {time.monotonic() - began:.1f} s")
        link = http.client.HTTPConnection(address, timeout=60)
        try:
            yield Node(address, folder, link)
        finally:
            link.close()
    finally:
        code = end(process, group=False)
    if code:
        fail(f"the node ended with code {code}", log.read_text(errors="replace"))


def environment(**more: str) -> dict[str, str]:
    """Ours, without anything that configures another node or client."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAAS_")}
    return kept | more


def push(node: Node, source: str, *flags: str) -> None:
    """`faas push`, shown as it is typed."""
    say(f"\n$ {shlex.join(['faas', 'push', source, *flags])}")
    token = (node.folder / "data" / "admin-token").read_text().strip()
    result = subprocess.run(
        [FAAS, "push", source, *flags],
        env=environment(FAAS_URL=f"http://{node.address}", FAAS_TOKEN=token, XDG_CONFIG_HOME=str(node.folder)),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PUSH_S, cwd=ROOT,
    )  # fmt: skip
    if result.returncode:
        fail(f"faas push {source} ended with code {result.returncode}", result.stdout + result.stderr)
    say("\n".join(f"  {line}" for line in (result.stdout + result.stderr).strip().splitlines()))


def show_call(node: Node, name: str, body: bytes, headers: dict[str, str], typed: str) -> None:
    """Call a function and show the same as a curl command with its answer."""
    say(f"\n$ curl {typed} http://{node.address}/function/{name}")
    answer = node.call(name, body, headers)
    say(f"  {answer.body.decode()}")


def measure(node: Node, text: bytes) -> None:
    """Warm calls over one connection, and a call to a function whose instances are all gone."""
    warm = statistics.median(node.call("hello", b'{"name": "Ada"}', JSON).ms for _ in range(WARM_CALLS))
    say(f"\n  hello, warm:           {warm:7.2f} ms   (median of {WARM_CALLS} calls over one connection)")
    deadline = time.monotonic() + TO_ZERO_S
    while node.instances("wordcount") and time.monotonic() < deadline:
        time.sleep(0.1)
    cold = node.call("wordcount", text, TEXT)
    note = "nobody called for a second, so it had gone to zero" if cold.start == "cold" else "it was still warm"
    say(f"  wordcount, from zero:  {cold.ms:7.2f} ms   ({note})")


def main() -> None:
    """The whole story. Exit code 1 when any step fails."""
    # So that the `finally` blocks run when somebody ends the demo from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    text = (ROOT / "LICENSE").read_bytes()
    driver = choose_driver()
    with tempfile.TemporaryDirectory(prefix="faas-demo-") as folder, running_node(Path(folder), driver) as node:
        push(node, "examples/hello.py")
        push(node, "examples/wordcount.py", "--idle", "1s")
        show_call(node, "hello", b'{"name": "Ada"}', JSON, """-d '{"name": "Ada"}'""")
        show_call(node, "wordcount", text, TEXT, "-H 'Content-Type: text/plain' --data-binary @LICENSE")
        measure(node, text)
    say("\nThe node is stopped; its instances and its data are gone.")
    say(GO_ON)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
