"""Packages: what numpy adds to a cold start, and what a push costs whose packages are there already."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.harness import PROGRAMS, Node, Report, Sample, node

ROUNDS = 5
STARTS = 10
PROGRAM = PROGRAMS / "numpy_sum.py"


async def main() -> None:
    """Cold starts first, then pushes, on one node."""
    report = Report("deps")
    async with node("--stem-cells", "3") as ours:
        began = time.perf_counter()
        await ours.push("numpy", PROGRAM, idle="0s")
        report.add("first push, packages fetched and compiled, s", f"{time.perf_counter() - began:.2f}")
        await _cold(report, ours)
        await _push(report, ours)
    report.end()


async def _cold(report: Report, ours: Node) -> None:
    """The caller's view of a cold start, less the import of numpy in the very same instance."""
    more: list[float] = []
    imports: list[float] = []
    for _ in range(ROUNDS * STARTS):
        await ours.until("numpy", 0)
        await ours.stems(1)
        seconds, answer = await ours.call("numpy")
        if answer.headers["X-Faas-Start"] != "cold":
            raise RuntimeError("a call that should have been cold was warm")
        import_ms = (await answer.json())["import_ms"]
        imports.append(import_ms)
        more.append(seconds * 1000 - import_ms)
    rounds = [sorted(more[at : at + STARTS])[STARTS // 2] for at in range(0, len(more), STARTS)]
    added = Sample(tuple(rounds))
    report.add("import of numpy in the instance, ms", Sample(tuple(imports)).show(1))
    report.add("cold start beyond it, p50 ms", added.show(1), "<= 15", added.median <= 15, added_ms=added.median)


async def _push(report: Report, ours: Node) -> None:
    """`faas push` of changed code whose packages are those of the version before, the command's own start included."""
    folder = ours.data_dir.parent / "pushed"
    folder.mkdir()
    times = []
    for number in range(ROUNDS):
        times.append(await ours.push("numpy", _changed(folder / f"numpy_{number}.py", number)))
    sample = Sample(tuple(times))
    report.add(
        "push with unchanged packages, s", sample.show(), "<= 1", sample.median <= 1, seconds=sample.median
    )  # fmt: skip


def _changed(path: Path, number: int) -> Path:
    path.write_text(f"{PROGRAM.read_text()}\n# {number}\n")
    return path
