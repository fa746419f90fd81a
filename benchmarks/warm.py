"""Warm calls on the docker driver: throughput at 32 connections, latency at one, beside two baselines."""

from __future__ import annotations

import asyncio

from benchmarks.harness import PROGRAMS, Load, Report, Sample, baseline, have_framework, node, wrk
from tests.support import free_port

ROUNDS = 5
SECONDS = 4.0
WARMUP_S = 1.0


async def main() -> None:
    """Five rounds, each server in turn."""
    report = Report("warm")
    with baseline("aiohttp", free_port()) as bare:
        async with node() as ours:
            await ours.push("hello", PROGRAMS / "hello.py")
            urls = {"faas": f"{ours.url}/function/hello", "aiohttp": bare}
            if have_framework():
                with baseline("functions-framework", free_port()) as framework:
                    many, one = await _measure({**urls, "functions-framework": framework})
            else:
                print("functions-framework is not installed: run `make bench-setup` for that row")
                many, one = await _measure(urls)
    _throughput(report, many)
    _latency(report, one)
    report.end()


async def _measure(urls: dict[str, str]) -> tuple[dict[str, list[Load]], dict[str, list[Load]]]:
    many: dict[str, list[Load]] = {name: [] for name in urls}
    one: dict[str, list[Load]] = {name: [] for name in urls}
    for url in urls.values():
        await asyncio.to_thread(wrk, url, connections=32, seconds=WARMUP_S)
    for _ in range(ROUNDS):
        for name, url in urls.items():
            many[name].append(await asyncio.to_thread(wrk, url, connections=32, seconds=SECONDS))
        for name, url in urls.items():
            one[name].append(await asyncio.to_thread(wrk, url, connections=1, seconds=SECONDS / 2))
    return many, one


def _throughput(report: Report, runs: dict[str, list[Load]]) -> None:
    samples = {name: Sample(tuple(load.rps for load in loads)) for name, loads in runs.items()}
    for name, sample in samples.items():
        errors = sum(load.errors for load in runs[name])
        report.add(
            f"{name}: calls/s, 32 connections ({errors} errors)", sample.show(0), rps=sample.median, errors=errors
        )
    for name, target in (("aiohttp", 0.80), ("functions-framework", 3.0)):
        if name in samples:
            ratio = Sample(tuple(a / b for a, b in zip(samples["faas"].rounds, samples[name].rounds, strict=True)))
            report.add(f"faas / {name}", ratio.show(), f">= {target:.2f}", ratio.median >= target, ratio=ratio.median)


def _latency(report: Report, runs: dict[str, list[Load]]) -> None:
    samples = {name: Sample(tuple(load.p50 for load in loads)) for name, loads in runs.items()}
    for name, sample in samples.items():
        report.add(f"{name}: p50 ms, 1 connection", sample.show(3), p50_ms=sample.median)
    ours, bare = samples["faas"], samples["aiohttp"]
    added = Sample(tuple(a - b for a, b in zip(ours.rounds, bare.rounds, strict=True)))
    report.add("added over bare aiohttp, p50 ms", added.show(3), "<= 0.15", added.median <= 0.15, added_ms=added.median)
    report.add("in all, p50 ms", ours.show(3), "<= 0.25", ours.median <= 0.25, p50_ms=ours.median)
