"""Ends everything an instance's process has started, without hitting a process that is not its own. Blocking."""

from __future__ import annotations

import signal
import time

from faas.drivers import procfs
from faas.drivers.procfs import Stat

GONE_S = 5.0
_PAUSE_S = 0.01
_ROUNDS = 50


def kill_tree(root: Stat, *, has_namespace: bool) -> None:
    """Kill what is below `root`, then `root`.

    A supervisor inherits the orphans of its children and would start a new child in place of a dead one: it
    is stopped first. bubblewrap is left to run until its namespace is empty, which is when it ends by itself.
    """
    if not has_namespace:
        procfs.send(root, signal.SIGSTOP)
    for _ in range(_ROUNDS):
        below = procfs.descendants(root.pid)
        for process in below:
            procfs.send(process, signal.SIGKILL)
        # Nothing below yet may mean that bubblewrap has not forked: only its own end is proof.
        if not procfs.is_same(root.pid, root.start) or not (below or has_namespace):
            break
        time.sleep(_PAUSE_S)
    procfs.send(root, signal.SIGKILL)
    _until_gone(root, GONE_S)


def sweep(instance: str) -> bool:
    """Kill whatever still carries the instance's id in its environment; True when nothing is left."""
    deadline = time.monotonic() + GONE_S
    while left := procfs.with_variable("FAAS_INSTANCE").get(instance):
        for process in left:
            procfs.send(process, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def _until_gone(process: Stat, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while procfs.is_same(process.pid, process.start) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
