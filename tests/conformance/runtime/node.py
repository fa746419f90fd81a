"""The smallest node there can be: one socket, one instance, no loop. Every wait is bounded."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from faas.errors import ProtocolError
from faas.wire import limits
from faas.wire import messages as m
from faas.wire.codec import Decoder, encode
from tests.support import ROOT

RUNTIME = Path(os.environ.get("FAAS_TEST_RUNTIME", ROOT / "runtimes" / "python"))
PYTHON = os.environ.get("FAAS_TEST_PYTHON", sys.executable)
"""Another interpreter, to run the suite on another version; its runtime folder then needs a vendor/ of its own."""
HANDLERS = ROOT / "tests" / "fixtures" / "handlers"
WAIT_S = 10.0
JSON = [(b"Content-Type", b"application/json")]


class Wire:
    """One accepted connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(WAIT_S)
        self._decoder = Decoder()
        self._queue: list[m.Message] = []

    def send(self, message: m.Message) -> None:
        self.sock.sendall(encode(message))

    def read(self) -> m.Message:
        """The next message. Raises EOFError at the end, TimeoutError when nothing comes."""
        while not self._queue:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self._queue += self._decoder.feed(data)
        return self._queue.pop(0)

    def waiting(self) -> list[m.Message]:
        """What has arrived already."""
        self.sock.setblocking(False)
        try:
            while data := self.sock.recv(65536):
                self._queue += self._decoder.feed(data)
        except (BlockingIOError, ConnectionResetError):
            pass
        self.sock.settimeout(WAIT_S)
        found, self._queue = self._queue, []
        return found

    @property
    def queued(self) -> bool:
        """A message has been received and not been read."""
        return bool(self._queue)


class Answer:
    """How a call ended, and what was logged until then."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.chunks: list[bytes] = []
        self.error: dict[str, Any] = {}
        self.logs: list[m.Message] = []

    def texts(self, *levels: str) -> list[str]:
        """Lines of the log, of these levels or all."""
        return [log[4] for log in self.logs if not levels or log[2] in levels]


class Node:
    """Starts the supervisor as a plain process and talks to it."""

    def __init__(self, python: str = PYTHON, runtime: Path = RUNTIME) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="faas-rt-"))
        self.code = self.folder / "code"
        self.code.mkdir()
        self.inside = str(self.folder)
        """The folder as the instance sees it."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / "sock"))
        self._listener.listen()
        self._listener.settimeout(WAIT_S)
        environ = {"FAAS_DIR": str(self.folder), "FAAS_INSTANCE": "i-test", "PATH": os.environ["PATH"]}
        self.process = self.spawn(python, runtime, environ)
        self._stream = 0
        self.control = self.accept("control")
        self.data = self.accept("data")
        self.ready: dict[str, Any] = {}

    def spawn(self, python: str, runtime: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [python, "-I", "-B", "-X", "utf8", str(runtime / "start.py")]
        return subprocess.Popen(command, env=environ, start_new_session=True)

    def accept(self, role: str) -> Wire:
        """The next connection, which must say HELLO as `role`."""
        wire = Wire(self._listener.accept()[0])
        hello = wire.read()
        assert hello[:3] == [m.HELLO, limits.PROTOCOL, role], hello
        wire.send(m.welcome(limits.PROTOCOL, {}))
        return wire

    def put(self, *names: str) -> None:
        """Copy handlers of the fixtures into the code."""
        for name in names:
            shutil.copy(HANDLERS / f"{name}.py", self.code)

    def init(self, *names: str, **changes: Any) -> m.Message:
        """Send INIT for the handlers `names`; returns READY or INIT_FAILED, logs left out."""
        self.put(*names)
        spec = {
            "app": "default", "function": "hello", "version": 1, "node": "n-test", "instance": "i-test",
            "code": f"{self.inside}/code", "deps": [], "handler": "", "style": "", "env": {}, "secrets": {},
            "concurrency": 0, "timeout_ms": 30_000, "memory": 256 << 20, "network": "egress", **changes,
        }  # fmt: skip
        self.data.send(m.init(spec))
        self.logs: list[m.Message] = []
        while (message := self.data.read())[0] == m.LOG:
            self.logs.append(message)
        self.ready = message[1]
        return message

    def open(self, body: bytes = b"{}", *, last: bool = True, headers: Any = JSON, **head: Any) -> int:
        """Send INVOKE; returns the stream."""
        self._stream += 2
        call_id = head.get("call_id", f"c-{self._stream}")
        fields = m.invoke_head(
            call_id, head.get("kind", "http"), head.get("method", "POST"), head.get("path", "/"),
            head.get("query", ""), headers, head.get("timeout_ms", 30_000), head.get("extra", {}),
        )  # fmt: skip
        self.data.send(m.invoke(self._stream, fields, body, last))
        return self._stream

    def finish(self, stream: int, other: Callable[[m.Message], object] | None = None, credit: bool = True) -> Answer:
        """Read until `stream` has its last frame. `other` sees frames of other streams."""
        answer = Answer()
        while True:
            if not self.data.queued and self.control.sock in self._readable():
                answer.logs += [x for x in self.control.waiting() if x[0] == m.LOG]
                continue
            message = self.data.read()
            kind = message[0]
            if kind == m.LOG:
                answer.logs.append(message)
            elif message[1] != stream:
                assert other is not None, message
                other(message)
            elif kind == m.CHUNK:
                answer.chunks.append(message[2])
                if credit:
                    self.data.send(m.credit(stream, len(message[2])))
            elif kind != m.CREDIT:
                self._take(answer, message)
                if kind != m.HEAD:
                    break
        answer.body = answer.body or b"".join(answer.chunks)
        answer.logs += [x for x in self.control.waiting() if x[0] == m.LOG]
        return answer

    def _readable(self) -> list[socket.socket]:
        """Which connections have something to read; at least one. A node always reads both."""
        found = select.select([self.control.sock, self.data.sock], [], [], WAIT_S)[0]
        assert found, f"nothing came in {WAIT_S} s"
        return found

    def _take(self, answer: Answer, message: m.Message) -> None:
        if message[0] in (m.REPLY, m.HEAD):
            answer.status = message[2]
            answer.headers = {k.decode(): v.decode() for k, v in message[3]}
        if message[0] == m.REPLY:
            answer.body = message[4]
        if message[0] == m.ERROR:
            answer.error = message[2]

    def call(self, body: bytes = b"{}", **head: Any) -> Answer:
        """One call with a small body, from INVOKE to its last frame."""
        return self.finish(self.open(body, **head))

    def until(self, wire: Wire, kind: int) -> tuple[m.Message, list[m.Message]]:
        """The next message of this kind on a connection, and those before it."""
        before: list[m.Message] = []
        while (message := wire.read())[0] != kind:
            before.append(message)
        return message, before

    def exited(self) -> tuple[dict[str, Any], list[m.Message]]:
        """EXITED's cause, the logs before it; then the next child's data connection is accepted."""
        message, logs = self.until(self.control, m.EXITED)
        try:
            logs += [x for x in self.data.waiting() if x[0] == m.LOG]
        except ProtocolError:
            logs.append(m.log("", "garbage", 0, "", {}))
        self.data.sock.close()
        self.data = self.accept("data")
        return message[1], logs

    def reset(self) -> bool:
        """Back to a stem cell in a new child; False when the instance has ended."""
        for path in self.code.iterdir():
            path.unlink()
        self._stream = 0
        try:
            if any(message[0] == m.EXITED for message in self.control.waiting()):
                return False  # a death the test has not looked at
            self.control.send(m.kill("next test"))
            self.exited()
        except (OSError, EOFError):
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.control.sock.close()
        try:
            code = self.process.wait(WAIT_S)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            self.data.sock.close()
            self._listener.close()
            shutil.rmtree(self.folder)
        assert code == 0, f"the supervisor exited with {code}"
        assert not Path("/dev/shm/faas-secrets-i-test").exists(), "secrets are still there"
