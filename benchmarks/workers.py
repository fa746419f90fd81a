"""HTTP processes beside the node (`--workers`): throughput with 0, 1 and 2 of them, and what a call costs whom in CPU.

Three nodes stand at once and are measured in turn, so that all see the same machine. Where load, node, workers and
instances share two cores, more processes cannot give more calls: what to look at is the node's own CPU a call, which
is what bounds a machine with more cores.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import PROGRAMS, Load, Node, Report, Sample, node, wrk

COUNTS = (0, 1, 2)
ROUNDS = 5
SECONDS = 2.0
WARMUP_S = 1.0
START_S = 30.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Round:
    """One load on one node. CPU in microseconds a call: the node's process, all its HTTP processes, all the rest."""

    load: Load
    node_us: float
    workers_us: float
    machine_us: float


async def main() -> None:
    """Rounds on each node in turn."""
    report = Report("workers")
    rounds: dict[int, list[Round]] = {count: [] for count in COUNTS}
    async with AsyncExitStack() as stack:
        nodes = {count: await stack.enter_async_context(node("--workers", str(count))) for count in COUNTS}
        for count, one in nodes.items():
            await one.push("hello", PROGRAMS / "hello.py")
            await _until_workers(one, count)
            await asyncio.to_thread(wrk, f"{one.url}/function/hello", connections=32, seconds=WARMUP_S)
        for _ in range(ROUNDS):
            for count, one in nodes.items():
                rounds[count].append(await asyncio.to_thread(_round, one))
    for count, measured in rounds.items():
        _add(report, count, measured)
    base = Sample(tuple(one.load.rps for one in rounds[0]))
    for count in COUNTS[1:]:
        ratio = Sample(tuple(one.load.rps / alone for one, alone in zip(rounds[count], base.rounds, strict=True)))
        report.add(f"{count} workers / none: calls/s", ratio.show(), ratio=ratio.median)
    report.end()


def _add(report: Report, count: int, rounds: list[Round]) -> None:
    errors = sum(one.load.errors for one in rounds)
    rps = Sample(tuple(one.load.rps for one in rounds))
    report.add(f"{count} workers: calls/s, 32 connections ({errors} errors)", rps.show(0), rps=rps.median)
    for what, values in (
        ("p99 ms", [one.load.p99 for one in rounds]),
        ("CPU us a call, node", [one.node_us for one in rounds]),
        ("CPU us a call, workers together", [one.workers_us for one in rounds]),
        ("CPU us a call, whole machine, load included", [one.machine_us for one in rounds]),
    ):
        report.add(f"{count} workers: {what}", Sample(tuple(values)).show(1))


def _round(one: Node) -> Round:
    pids = _workers(one)
    before = (_cpu_s(one.pid), sum(map(_cpu_s, pids)), _busy_s())
    load = wrk(f"{one.url}/function/hello", connections=32, seconds=SECONDS)
    after = (_cpu_s(one.pid), sum(map(_cpu_s, pids)), _busy_s())
    calls = load.rps * SECONDS
    return Round(load, *((new - old) / calls * 1e6 for old, new in zip(before, after, strict=True)))


async def _until_workers(one: Node, count: int) -> None:
    """Wait until as many processes as expected listen beside the node."""
    port = int(one.url.rpartition(":")[2])
    end = asyncio.get_running_loop().time() + START_S
    while _listeners(port) < count + 1:
        if asyncio.get_running_loop().time() > end:
            raise RuntimeError(f"no {count} workers within {START_S:g} s")
        await asyncio.sleep(0.05)


def _listeners(port: int) -> int:
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(1 for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port)


def _workers(one: Node) -> list[int]:
    children = Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"faas.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _busy_s() -> float:
    user, nice, system, _idle, _wait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) * _TICK_S
