"""`python -m faas.drivers ls | build NAME [--base IMAGE]`: what `faas runtimes` runs on the node's machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from faas.drivers.engine import Engine
from faas.drivers.images import RuntimeImages
from faas.drivers.runtimes import manifests
from faas.errors import CallerError, FaasError


def main(arguments: list[str] | None = None) -> int:
    """Exit codes as the command line's: 0, 2 wrong use, 3 platform."""
    parser = argparse.ArgumentParser(prog="faas runtimes", description="Runtime images of this machine's engine.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("ls", help="list runtimes, and which of them are built")
    listing.add_argument("--json", action="store_true", help="one JSON document")
    building = commands.add_parser("build", help="build the image of a runtime")
    building.add_argument("name", help="such as python3.11")
    building.add_argument("--base", metavar="IMAGE", help="build on this image")
    asked = parser.parse_args(arguments)
    try:
        asyncio.run(_list(asked.json) if asked.command == "ls" else _build(asked.name, asked.base))
    except FaasError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return 2 if isinstance(error, CallerError) else 3
    except KeyboardInterrupt:
        return 130
    return 0


async def _list(as_json: bool) -> None:
    async with Engine() as engine:
        built = await RuntimeImages(engine).names()
    known = {name for manifest in manifests() for name in manifest.names()}
    rows = [{"name": name, "built": name in built} for name in sorted(known | set(built), key=_order)]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['name']:<16} {'built' if row['built'] else '-'}")


def _order(name: str) -> tuple[str, list[int]]:
    language = name.rstrip("0123456789.")
    digits = [int(part) for part in name.removeprefix(language).split(".") if part.isdigit()]
    return language, digits


async def _build(name: str, base: str | None) -> None:
    async with Engine() as engine:
        await RuntimeImages(engine).build(name, base_image=base, progress=lambda line: print(line, flush=True))


if __name__ == "__main__":
    sys.exit(main())
