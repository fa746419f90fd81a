"""The forked process: says hello, waits for INIT, becomes the function. It ends by os._exit, never by returning."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from faas_runtime import environment, faults, linux, preload  # noqa: F401 - imported for what it imports
from faas_runtime.function import Function, Serving, say_goodbye
from faas_runtime.gate import Gate
from faas_runtime.link import Link
from faas_runtime.output import Output
from faas_runtime.page import Page
from faas_runtime.protocol import (
    DRAIN,
    DRAINED,
    HELLO,
    INIT,
    INIT_FAILED,
    PING,
    PONG,
    PROTOCOL,
    WELCOME,
    LinkClosed,
    Message,
)  # fmt: skip
from faas_runtime.serve_async import AsyncServer
from faas_runtime.serve_blocking import BlockingServer
from faas_runtime.warmup import is_idle, warm_up

RUNTIME = f"python{sys.version_info[0]}.{sys.version_info[1]}"
CANCEL_SIGNAL = signal.SIGURG
"""Ignored by default: harmless to a child that is not listening, and to the programs it starts."""
EXIT_BUG = 70
EXIT_LINK = 71
"""Exit code when the connection to the node ended, or user code destroyed it."""


def run(data: socket.socket, page: Page, pipes: dict[int, int], instance: str, *, alone: bool, parent: int) -> None:
    """Become the child. `pipes` are the writing ends for descriptors 1 and 2; `alone`: the parent is PID 1."""
    _own_process(pipes, alone, parent)
    link = Link(data)
    gate = Gate(page)
    output = Output(link, page, pipes, gate)
    code = EXIT_BUG
    try:
        link.send([HELLO, PROTOCOL, "data", {"runtime": RUNTIME, "pid": os.getpid()}])
        output.install()
        spec, rest = _wait_for_init(link, lambda: warm_up(page, output, gate, CANCEL_SIGNAL))
        _become(link, page, output, gate, spec, rest, instance)
        code = 0
    except LinkClosed as error:
        code = EXIT_LINK
        _say(f"runtime: {error}\n")
    except BaseException:
        _say(traceback.format_exc())
    finally:
        os._exit(code)


def _say(text: str) -> None:
    try:
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def _own_process(pipes: dict[int, int], alone: bool, parent: int) -> None:
    linux.set_dumpable(True)  # only the supervisor is to be untraceable; /proc/self is the function's own
    os.setsid()
    if not alone:
        linux.die_with_parent()
        if os.getppid() != parent:
            os._exit(0)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("800")  # when memory runs out, we go and not the supervisor
    except OSError:
        pass
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for number, fd in pipes.items():
        os.dup2(fd, number)


def _wait_for_init(link: Link, practise: Callable[[], None]) -> tuple[dict[str, Any], list[Message]]:
    """INIT's spec, and frames that came behind it. As a stem cell most of our life is spent in here."""
    warm = False
    while True:
        if not warm and is_idle(link):
            warm = True
            try:
                practise()
            except Exception:  # it would have been faster; it works all the same
                _say(f"runtime: warm-up failed\n{traceback.format_exc()}")
        messages = link.receive()
        for at, message in enumerate(messages):
            if message[0] == INIT:
                return message[1], messages[at + 1 :]
            if message[0] == PING:
                link.send([PONG, message[1]])
            elif message[0] == DRAIN:
                link.send([DRAINED])
                os._exit(0)
            elif message[0] != WELCOME:
                raise LinkClosed(f"frame of type {message[0]} came before INIT")
            elif message[1] != PROTOCOL:
                raise LinkClosed(f"the node speaks protocol {message[1]}, this runtime {PROTOCOL}")


def _load(spec: dict[str, Any], instance: str) -> Function:
    began = time.perf_counter()
    environment.apply(spec, instance)
    return Function(spec, began)


def _become(
    link: Link, page: Page, output: Output, gate: Gate, spec: dict[str, Any], rest: list[Message], instance: str
) -> None:
    """Load the function and serve it until DRAIN. Raises LinkClosed; after READY also what is our own fault."""
    blocking = None
    server = None
    try:
        function = _load(spec, instance)
        serving = Serving(link, page, output, function)
        if function.mode == "async":
            server = AsyncServer(serving)
            asyncio.run(server.serve(rest))
        else:
            blocking = BlockingServer(serving, gate, CANCEL_SIGNAL)
            blocking.start()
    except LinkClosed:
        raise
    except BaseException as error:
        if server is not None and server.ready:
            raise
        _report_failed(link, output, error, spec)
        return
    if blocking is not None:
        link.send(function.ready())
        blocking.run(rest)
    say_goodbye(link)
    atexit._run_exitfuncs()  # as other programs do; but no wait for threads, which need not end


def _report_failed(link: Link, output: Output, error: BaseException, spec: dict[str, Any]) -> None:
    for pause in output.finish(""):
        time.sleep(pause)
    link.send([INIT_FAILED, faults.describe(error, kind="start", network=spec["network"])])
