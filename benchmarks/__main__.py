"""`python -m benchmarks NAME`: run one benchmark."""

from __future__ import annotations

import asyncio
import importlib
import sys

NAMES = {
    "warm": "throughput and latency of warm calls",
    "cold": "starts from zero, bursts, push to first answer",
    "deps": "cold start with numpy, push with unchanged packages",
    "chaos": "background calls while everything is killed: nothing lost, nothing run twice without a reason",
    "density": "a thousand functions, memory of an instance",
    "workers": "HTTP processes beside the node: throughput, CPU a call",
    "routes": "finding a route among 10 and among 10,000",
}


def main() -> int:
    """Returns the exit code: 2 for an unknown name."""
    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        print("usage: python -m benchmarks NAME\n" + "\n".join(f"  {name:<10} {what}" for name, what in NAMES.items()))
        return 2
    asyncio.run(importlib.import_module(f"benchmarks.{sys.argv[1]}").main())
    return 0


if __name__ == "__main__":
    sys.exit(main())
