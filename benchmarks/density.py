"""How much fits: a thousand functions registered, and what a warm instance costs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.harness import PROGRAMS, Node, Report, Sample, node, wrk
from faas.archive import File, pack

ROUNDS = 5
FUNCTIONS = 1000
INSTANCES = 10


async def main() -> None:
    """One node with one function, one with a thousand, measured in turn."""
    report = Report("density")
    async with node() as few, node() as many:
        await few.push("hello", PROGRAMS / "hello.py")
        await _register(many)
        await many.push("hello", PROGRAMS / "hello.py")
        urls = [f"{one.url}/function/hello" for one in (few, many)]
        ratios = []
        for url in urls:
            await asyncio.to_thread(wrk, url, connections=32, seconds=1)
        for _ in range(ROUNDS):
            alone, crowded = [(await asyncio.to_thread(wrk, url, connections=32, seconds=3)).rps for url in urls]
            ratios.append(crowded / alone)
        ratio, rss = Sample(tuple(ratios)), _rss(many.pid) / 2**20
        report.add(
            "throughput with 1,001 functions / with 1",
            ratio.show(),
            ">= 0.95",
            ratio.median >= 0.95,
            ratio=ratio.median,
        )
        report.add("node RSS with 1,001 functions, MiB", f"{rss:.0f}", "<= 150", rss <= 150, mib=rss)
    async with node("--stem-cells", "0") as ours:
        await _instance_memory(report, ours)
    report.end()


async def _register(ours: Node) -> None:
    """1,000 functions in pushes of 100, from one code bundle; none keeps an instance."""
    archive = pack({"hello.py": File((PROGRAMS / "hello.py").read_bytes())})
    await ours.api("PUT", f"/v1/bundles/{archive.digest}", data=archive.data)
    for batch in range(FUNCTIONS // 100):
        functions = [
            {"name": f"f{batch * 100 + number}", "code": archive.digest, "settings": {"idle_s": 0}}
            for number in range(100)
        ]
        await ours.api("POST", "/v1/apps/many/push", json={"functions": functions})
    while (await ours.api("GET", "/v1/status"))["instances"].keys() - {"stem"}:
        await asyncio.sleep(0.2)


async def _instance_memory(report: Report, ours: Node) -> None:
    """Memory of the whole machine before and after ten warm instances: engine, shims and page tables included."""
    await ours.push("dense", PROGRAMS / "hello.py", min=1)
    await ours.until("dense", 1)
    await asyncio.sleep(2)
    before = _used()
    await ours.api("PUT", "/v1/functions/dense/scale", json={"min": 1 + INSTANCES, "max": 20})
    await ours.until("dense", 1 + INSTANCES)
    await asyncio.sleep(2)
    each = (_used() - before) / INSTANCES / 2**20
    report.add("a warm instance, everything added, MiB", f"{each:.1f}", "<= 12", each <= 12, mib=each)


def _rss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no VmRSS of {pid}")


def _used() -> int:
    """Bytes of the machine's memory that are not available for something else."""
    values = {line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()}
    return (values["MemTotal"] - values["MemAvailable"]) * 1024
