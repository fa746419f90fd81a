"""10,000 background calls while the node, instances and Redis are killed with SIGKILL, 20 times each, by seed.

One Redis of its own (fsync at every write; half of its kills come during a rewrite of the append-only file) and one
node with the process driver, whose functions can tell a recorder outside of every run. Run as root with redis-server
and bubblewrap installed. CHAOS_SEED, CHAOS_CALLS and CHAOS_KILLS change the plan.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Report
from tests.fault.chaos import FUNCTION, Chaos, OwnRedis, Plan, Recorder
from tests.integration.conftest import HERE, put
from tests.integration.node import RunningNode

ENDS_S = 600.0


async def main() -> None:
    """Run the plan and print what came of it. Raises AssertionError when a promise was not kept."""
    count = int(os.environ.get("CHAOS_KILLS", "20"))
    plan = Plan(
        seed=int(os.environ.get("CHAOS_SEED", "1")),
        calls=int(os.environ.get("CHAOS_CALLS", "10000")),
        kills={"node": count, "instance": count, "redis": count},
        sleep_s=0.002,
    )
    report = Report("chaos")
    with tempfile.TemporaryDirectory(prefix="faas-chaos-") as folder:
        place = Path(folder)
        (place / "node").mkdir()
        async with OwnRedis(place / "r") as redis, Recorder() as recorder:
            flags = ("--driver", "process", "--redis", redis.url, "--drain", "1s")
            async with RunningNode(place / "node", *flags) as node:
                settings: dict[str, Any] = {"max": 4, "retries": 10, "retry_wait": "20ms", "retry_cap": "500ms"}
                await put(node, HERE / "recorded.py", name=FUNCTION, **settings)
                account = await Chaos(plan, node, redis, recorder).run(ends_within_s=ENDS_S)
    lost = len(account.accepted) - sum(account.states.values())
    report.add(f"calls accepted, seed {plan.seed}", str(len(account.accepted)), seconds=account.seconds)
    report.add("kills", str(dict(account.kills)))
    report.add("lost", str(lost), "0", lost == 0)
    report.add("succeeded", str(account.states["succeeded"]))
    report.add("dead, with a reason", str(account.states["dead"]))
    extra, limit = account.extra_runs, account.in_flight
    report.add("runs beyond one per id", str(extra), f"<= {limit} in flight", extra <= limit)
    report.add("keys with one result", str(len(account.keyed)))
    report.end()
    account.check()
