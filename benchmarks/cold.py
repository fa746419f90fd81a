"""From zero: with a stem cell, without one, a hundred callers at once, and push to first answer."""

from __future__ import annotations

import asyncio
import statistics
import time

import docker

from benchmarks.harness import PROGRAMS, Node, Report, Sample, node

ROUNDS = 5
STARTS = 30
"""Cold starts with a stem cell, in all rounds together at least 100."""
IMAGE = "faas-runtime-python3.11"


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of `values` lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def main() -> None:
    """Each question in turn; engine starts interleaved with ours."""
    report = Report("cold")
    async with node("--stem-cells", "3") as ours:
        await _stem(report, ours)
        await _push(report, ours)
        await _burst(report, ours)
    async with node("--stem-cells", "0") as ours:
        await _no_stem(report, ours)
    report.end()


async def _stem(report: Report, ours: Node) -> None:
    """Cold start from a stem cell: every call to a function that has no instance."""
    medians: list[float] = []
    everything: list[float] = []
    for _ in range(ROUNDS):
        times = []
        for number in range(STARTS):
            name = f"cold{number}"
            await ours.push(name, PROGRAMS / "hello.py", idle="0s") if not medians else None
            await ours.until(name, 0)
            await ours.stems(1)
            seconds, answer = await ours.call(name)
            if answer.headers["X-Faas-Start"] != "cold":
                raise RuntimeError("a call that should have been cold was warm")
            times.append(seconds * 1000)
        medians.append(statistics.median(times))
        everything += times
    p50 = Sample(tuple(medians))
    p99 = quantile(everything, 0.99)
    report.add("cold start, stem cell, caller's view: p50 ms", p50.show(), "<= 12", p50.median <= 12, p50_ms=p50.median)
    report.add(f"  p99 ms of {len(everything)}", f"{p99:.1f}", "<= 50", p99 <= 50, p99_ms=p99)


async def _push(report: Report, ours: Node) -> None:
    """`faas push` of one file to its first answer, the command's own start included."""
    times = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        await ours.push(f"pushed{number}", PROGRAMS / "hello.py")
        await ours.call(f"pushed{number}")
        times.append(time.perf_counter() - began)
    sample = Sample(tuple(times))
    report.add("push of one file to first answer, s", sample.show(), "<= 1", sample.median <= 1, seconds=sample.median)


async def _burst(report: Report, ours: Node) -> None:
    """100 callers at once on a function at zero."""
    slowest: list[float] = []
    peak = failed = 0
    for number in range(ROUNDS):
        name = f"burst{number}"
        await ours.push(name, PROGRAMS / "hello.py", idle="1s", max=20)
        await ours.until(name, 0)
        await ours.stems(3)
        answers = await asyncio.gather(*(ours.call(name) for _ in range(100)))
        failed += sum(answer.status != 200 for _, answer in answers)
        slowest.append(quantile([seconds for seconds, _ in answers], 0.99))
        peak = max(peak, (await ours.api("GET", f"/v1/functions/{name}"))["instances"])
    p99 = Sample(tuple(slowest))
    fine = p99.median <= 1.5 and failed == 0 and peak <= 20
    report.add(
        "100 callers on zero: p99 s", f"{p99.show()}, {failed} failed, {peak} inst.", "<= 1.5, 0, <= 20", fine,
        p99_s=p99.median, failed=failed, instances=peak,
    )  # fmt: skip


async def _no_stem(report: Report, ours: Node) -> None:
    """Without a stem cell, beside the engine's own create and start of the same image."""
    client = docker.from_env()
    own: list[float] = []
    engine: list[float] = []
    try:
        for number in range(ROUNDS * 2):
            name = f"bare{number}"
            await ours.push(name, PROGRAMS / "hello.py", idle="0s")
            await ours.until(name, 0)
            seconds, _ = await ours.call(name)
            own.append(seconds * 1000)
            engine.append(await asyncio.to_thread(_engine_start, client))
    finally:
        client.close()
    ratio = Sample(tuple(a / b for a, b in zip(own, engine, strict=True)))
    report.add("no stem cell: ms", Sample(tuple(own)).show(0))
    report.add("engine create + start: ms", Sample(tuple(engine)).show(0))
    report.add("  ratio", ratio.show(), "<= 1.25", ratio.median <= 1.25, ratio=ratio.median)


def _engine_start(client: docker.DockerClient) -> float:
    began = time.perf_counter()
    container = client.containers.create(
        IMAGE, entrypoint=["sleep", "60"], network="faas-egress", labels={"faas.bench": "1"}
    )
    try:
        container.start()
        return (time.perf_counter() - began) * 1000
    finally:
        container.remove(force=True)
