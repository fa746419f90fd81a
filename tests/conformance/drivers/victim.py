"""A node to be killed: `python victim.py DATA_DIR plain|bwrap` starts one instance, prints its id, and waits."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from faas.drivers.process import ProcessDriver
from tests.conformance.drivers.bench import Bench


async def main(data_dir: Path, kind: str) -> None:
    driver = ProcessDriver("n-victim", data_dir, sandboxed=kind == "bwrap")
    async with driver, Bench(driver, data_dir, "n-victim").guest() as guest:
        print(guest.id, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
