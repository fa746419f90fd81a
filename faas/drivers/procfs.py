"""Processes as /proc shows them. A process is (pid, start time): a pid alone may have been given to another."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")


class Stat(NamedTuple):
    """What we need of /proc/PID/stat."""

    pid: int
    parent: int
    state: str
    start: int
    """Clock ticks after boot."""
    cpu_s: float
    """Own and of children it has reaped."""

    @property
    def alive(self) -> bool:
        return self.state not in "ZX"


def stat(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name may hold anything, spaces and brackets too; the last bracket ends it.
    fields = text[text.rindex(")") + 2 :].split()
    ticks = sum(int(field) for field in fields[11:15])
    return Stat(pid, int(fields[1]), fields[0], int(fields[19]), ticks / _TICKS)


def is_same(pid: int, start: int) -> bool:
    """True while the process that began at `start` runs."""
    seen = stat(pid)
    return seen is not None and seen.alive and seen.start == start


def everyone() -> list[Stat]:
    """All processes, in no order."""
    pids = (int(name) for name in os.listdir(PROC) if name.isdigit())
    return [seen for pid in pids if (seen := stat(pid)) is not None]


def descendants(pid: int) -> list[Stat]:
    """Live processes below `pid`, nearest first."""
    children: dict[int, list[Stat]] = {}
    for one in everyone():
        children.setdefault(one.parent, []).append(one)
    found: list[Stat] = []
    todo = [pid]
    while todo:
        below = children.pop(todo.pop(0), [])
        found += [one for one in below if one.alive]
        todo += [one.pid for one in below]
    return found


def with_variable(entry: str) -> dict[str, list[Stat]]:
    """Live processes by the value of environment variable `entry` they were started with, where readable."""
    found: dict[str, list[Stat]] = {}
    wanted = entry.encode() + b"="
    for one in everyone():
        try:
            environment = (PROC / str(one.pid) / "environ").read_bytes()
        except OSError:
            continue
        for line in environment.split(b"\0"):
            if line.startswith(wanted) and one.alive:
                found.setdefault(line[len(wanted) :].decode(errors="replace"), []).append(one)
    return found


def send(process: Stat, number: signal.Signals) -> None:
    """Signal this very process; one that has ended, or whose pid was given to another, is left alone."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        if is_same(process.pid, process.start):
            signal.pidfd_send_signal(handle, number)
    except OSError:
        pass
    finally:
        os.close(handle)


def private_memory(pid: int) -> int:
    """Bytes of resident memory it shares with no file; 0 when it has ended."""
    try:
        resident, shared = (PROC / str(pid) / "statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return max(0, int(resident) - int(shared)) * _PAGE


def uptime_s() -> float:
    """Seconds since boot."""
    return float((PROC / "uptime").read_text().split()[0])


def age_s(process: Stat) -> float:
    """Seconds since it began."""
    return max(0.0, uptime_s() - process.start / _TICKS)
