"""PID 1 of an instance: forks the child that runs user code, outlives whatever it does, reports how it ended.

One loop over epoll, no threads, no user code. It answers PING, hands on CANCEL, kills on KILL, turns the
child's raw output into LOG, and ends when the node's end of the control connection closes.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from faas_runtime import child as child_process
from faas_runtime import linux, reaper
from faas_runtime.cgroup import OomCounter
from faas_runtime.control import PAUSE_AT, Control
from faas_runtime.lines import Budget
from faas_runtime.link import connect
from faas_runtime.page import Page
from faas_runtime.pipes import Pipe
from faas_runtime.protocol import CANCEL, EXITED, HELLO, KILL, PING, PONG, PROTOCOL, LinkClosed, Message

CANCEL_SIGNAL = signal.SIGURG
"""Ignored by default: harmless to a child that is not listening, and to the programs it starts."""
RUNTIME = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_QUICK_S = 1.0
_QUICK_DEATHS = 3


class Child:
    """A forked process and our ends of what we share with it."""

    def __init__(self, pid: int, page: Page, pipes: dict[int, Pipe], ooms: int) -> None:
        self.pid = pid
        self.page = page
        self.pipes = pipes
        self.ooms = ooms
        self.born = time.monotonic()
        self.killed: str | None = None
        """Reason of the KILL we carried out."""


class Supervisor:
    """See the module's docstring. `run` returns the exit code."""

    def __init__(self, folder: str, instance: str) -> None:
        self.folder = folder
        self.instance = instance
        self.alone = os.getpid() == 1
        self.control = Control(connect(folder))
        self.epoll = select.epoll()
        self.oom = OomCounter()
        self.budget = Budget(time.monotonic())
        self.child: Child | None = None
        self.respawn_at: float | None = 0.0
        self.quick_deaths = 0
        self.stopping = False
        self.paused = False
        # What is in the scratch folders before any user code is the image's own, and stays.
        self.furniture = {f: reaper.contents(f) for f in ("/tmp", "/dev/shm")} if self.alone else {}
        self.wake_in, self.wake_out = socket.socketpair()

    def run(self) -> int:
        """Serve until the control connection closes or, when not PID 1, SIGTERM comes."""
        self._prepare()
        code = 0
        try:
            self.control.send([HELLO, PROTOCOL, "control", {"runtime": RUNTIME, "pid": os.getpid()}])
            while not self.stopping:
                self._turn()
        except LinkClosed:
            pass
        except OSError as error:
            print(f"supervisor: ends, because {error}", file=sys.stderr, flush=True)
            code = 1
        self._kill_all()
        reaper.remove_secrets(self.instance)
        return code

    def _prepare(self) -> None:
        linux.set_dumpable(False)  # before the first fork: else the child could trace and freeze us
        if not self.alone:
            linux.become_subreaper()
        self.wake_in.setblocking(False)
        self.wake_out.setblocking(False)
        signal.set_wakeup_fd(self.wake_out.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _heard)
        # The kernel keeps signals without a handler away from PID 1; elsewhere SIGTERM must not leave a child.
        for number in _TERMINAL:
            signal.signal(number, signal.SIG_DFL if self.alone else signal.SIG_IGN)
        if not self.alone:
            signal.signal(signal.SIGTERM, _heard)
        self.epoll.register(self.control.fd, select.EPOLLIN)
        self.epoll.register(self.wake_in.fileno(), select.EPOLLIN)
        gc.collect()
        gc.freeze()  # the collector of the child leaves our objects alone: their pages stay shared

    def _turn(self) -> None:
        """Wait for something and see to it."""
        now = time.monotonic()
        if self.child is None and self.respawn_at is not None and now >= self.respawn_at:
            self._spawn()
        for fd, events in self.epoll.poll(self._timeout(now)):
            if fd == self.control.fd:
                self._on_control(events)
            elif fd == self.wake_in.fileno():
                self._on_signal()
            elif self.child is not None and fd in self.child.pipes:
                self._on_output(self.child.pipes[fd])
        if self.child is not None and self.child.pipes and self.budget.due(time.monotonic()):
            next(iter(self.child.pipes.values())).report()

    def _timeout(self, now: float) -> float:
        if self.child is None and self.respawn_at is not None:
            return max(0.0, self.respawn_at - now)
        return 1.0 if self.budget.lines else -1.0

    # -- what comes in ---------------------------------------------------------------------------------

    def _on_control(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self.control.flush()
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            for message in self.control.receive():
                self._obey(message)
        self._balance()

    def _obey(self, message: Message) -> None:
        kind = message[0]
        if kind == PING:
            self.control.send([PONG, message[1]])
        elif self.child is None:
            return
        elif kind == KILL:
            self.child.killed = str(message[1])
            _signal(self.child.pid, signal.SIGKILL)
        elif kind == CANCEL:
            self.child.page.cancelled = int(message[1]) & 0xFFFF_FFFF_FFFF_FFFF
            _signal(self.child.pid, CANCEL_SIGNAL)

    def _on_output(self, pipe: Pipe) -> None:
        pipe.read()
        if not pipe.open and self.child is not None:
            self.epoll.unregister(pipe.fd)
            del self.child.pipes[pipe.fd]
            pipe.finish()
        self._balance()

    def _balance(self) -> None:
        """Read output only as fast as the node takes it."""
        waiting = self.control.waiting
        self.epoll.modify(self.control.fd, select.EPOLLIN | (select.EPOLLOUT if waiting else 0))
        if self.child is None:
            return
        if not waiting:
            for pipe in self.child.pipes.values():
                pipe.sent()
            self.child.page.busy = False
        pause = waiting > PAUSE_AT if not self.paused else waiting > 0
        if pause != self.paused:
            self.paused = pause
            for fd in self.child.pipes:
                self.epoll.unregister(fd) if pause else self.epoll.register(fd, select.EPOLLIN)

    def _on_signal(self) -> None:
        try:
            numbers = self.wake_in.recv(4096)
        except BlockingIOError:
            return
        if not self.alone and signal.SIGTERM in numbers:
            self.stopping = True
        self._reap()

    # -- the child's life ------------------------------------------------------------------------------

    def _spawn(self) -> None:
        """Fork a child with a data connection of its own; on failure try again later."""
        self.respawn_at = None
        data = connect(self.folder)
        page = Page()
        ends = {1: os.pipe(), 2: os.pipe()}
        ooms, parent = self.oom.read(), os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            data.close()
            for reading, writing in ends.values():
                os.close(reading)
                os.close(writing)
            print(f"supervisor: cannot fork: {error}", file=sys.stderr, flush=True)
            self.quick_deaths += 1
            self._later()
            return
        if pid == 0:
            self._become_child(data, page, ends, parent)
        data.close()
        pipes = {}
        for number, (reading, writing) in ends.items():
            os.close(writing)
            pipes[reading] = Pipe(number, reading, page, self.control, self.budget)
            self.epoll.register(reading, select.EPOLLIN)
        self.paused = False
        self.child = Child(pid, page, pipes, ooms)

    def _become_child(self, data: socket.socket, page: Page, ends: dict[int, Any], parent: int) -> None:
        """The new process: gives up all that is the supervisor's, and never comes back."""
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, *_TERMINAL):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for end in (self.control, self.epoll, self.wake_in, self.wake_out):
                end.close()
            for reading, _ in ends.values():
                os.close(reading)
            writing = {number: pair[1] for number, pair in ends.items()}
            child_process.run(data, page, writing, self.instance, alone=self.alone, parent=parent)
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode("utf-8", "replace"))
        finally:
            os._exit(70)

    def _reap(self) -> None:
        """Collect whoever has ended; as PID 1 or subreaper also other people's children."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.child is not None and pid == self.child.pid:
                self._bury(self.child, status)
                return

    def _bury(self, child: Child, status: int) -> None:
        """The child has ended: end what is left of it, say why, and plan the next one."""
        gone = self._kill_all()
        clean = all(reaper.empty(folder, keep) for folder, keep in self.furniture.items())
        reaper.remove_secrets(self.instance)
        for fd, pipe in child.pipes.items():
            if not self.paused:
                self.epoll.unregister(fd)
            pipe.finish()
        self.control.send([EXITED, self._cause(child, status)])
        self.child = None
        child.page.close()
        self._balance()
        if not (gone and clean):
            raise OSError("something of the last child could not be removed")
        quick = child.killed is None and time.monotonic() - child.born < _QUICK_S
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        self._later()

    def _later(self) -> None:
        """Plan the next fork: at once, but slower and slower for children that die young."""
        extra = self.quick_deaths - _QUICK_DEATHS
        delay = min(1.0, 0.02 * 2 ** min(extra, 6)) if extra > 0 else 0.0
        self.respawn_at = time.monotonic() + delay

    def _kill_all(self) -> bool:
        return reaper.kill_all(self.alone, self.child.pid if self.child is not None else 0)

    def _cause(self, child: Child, status: int) -> dict[str, Any]:
        if os.WIFEXITED(status):
            code = os.WEXITSTATUS(status)
            return {"code": code, "signal": None, "oom": False, "detail": f"exited with code {code}"}
        number = os.WTERMSIG(status)
        oom = number == signal.SIGKILL and child.killed is None and self.oom.read() > child.ooms
        if oom:
            detail = "out of memory"
        elif child.killed is not None and number == signal.SIGKILL:
            detail = f"killed: {child.killed}"
        else:
            detail = f"{_signal_name(number)} ({signal.strsignal(number) or 'unknown signal'})"
        return {"code": None, "signal": number, "oom": oom, "detail": detail}


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _heard(_number: int, _frame: Any) -> None:
    """Nothing to do here: the signal's number is on the wake-up socket."""


def main() -> int:
    """Exit code of the supervisor; 2 for a wrong environment."""
    folder, instance = os.environ.pop("FAAS_DIR", ""), os.environ.pop("FAAS_INSTANCE", "")
    if not folder or not instance:
        print("supervisor: FAAS_DIR and FAAS_INSTANCE must be set; a node starts this, not a person", file=sys.stderr)
        return 2
    try:
        supervisor = Supervisor(folder, instance)
    except OSError as error:
        print(f"supervisor: cannot reach the node at {folder}/sock: {error}", file=sys.stderr)
        return 1
    return supervisor.run()
