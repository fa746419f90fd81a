"""`faas runtimes`: what functions can be written in here."""

from __future__ import annotations

import re
from typing import Any

import click

from faas.cli.output import facts, table, value
from faas.cli.replace import become
from faas.cli.state import Group, State, pass_state, run
from faas.errors import Invalid


@click.group("runtimes", cls=Group)
def runtimes() -> None:
    """List and build runtimes."""


@runtimes.command("ls")
@pass_state
def runtimes_ls(state: State) -> None:
    """List the runtimes the node can start now."""

    async def work() -> list[Any]:
        async with state.client() as client:
            return await client.runtimes()

    views = [view if isinstance(view, dict) else {"name": view} for view in run(work())]
    if state.json:
        for view in views:
            state.emit(view)
        return
    if not views:
        facts([("runtimes", "none yet; build one: faas runtimes build python3.11")])
        return
    others = sorted({key for view in views for key in view} - {"name"})
    heads = ("NAME", *(key.upper().replace("_", " ") for key in others))
    table(heads, ((value(view, "name"), *(value(view, key) for key in others)) for view in views))


@runtimes.command("build")
@click.argument("name")
@click.option("--base", metavar="IMAGE", help="Image to build on.  [default: the language's official one]")
def runtimes_build(name: str, base: str | None) -> None:
    """Build a runtime's image on this machine's engine."""
    for text in (name, base or "x"):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", text):
            raise Invalid(f'"{text[:80]}" is not a name for a runtime or image', hint="Write one such as python3.11.")
    become("faas.drivers", "build", name, *(["--base", base] if base else []))
