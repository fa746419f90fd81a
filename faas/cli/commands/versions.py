"""`faas versions` and `faas rollback`."""

from __future__ import annotations

from typing import Any

import click

from faas.cli.output import ago, table, value
from faas.cli.state import Command, State, pass_state, run
from faas.names import parse_function


@click.command("versions", cls=Command)
@click.argument("name")
@pass_state
def versions(state: State, name: str) -> None:
    """List a function's versions, newest first."""
    label = str(parse_function(name))

    async def work() -> list[dict[str, Any]]:
        async with state.client() as client:
            return await client.versions(label)

    found = sorted(run(work()), key=lambda view: -int(view.get("number") or 0))
    if state.json:
        for view in found:
            state.emit(view)
        return
    table(("VERSION", "ALIASES", "CODE", "CREATED", "BY", "SETTINGS"), (_row(view) for view in found))


@click.command("rollback", cls=Command)
@click.argument("name")
@click.option(
    "--to", "to", type=click.IntRange(min=1), metavar="N", help="Version to put live.  [default: the one before]"
)
@pass_state
def rollback(state: State, name: str, to: int | None) -> None:
    """Put an earlier version live again. Nothing is built or uploaded; scale set by hand stays."""
    label = str(parse_function(name))

    async def work() -> dict[str, Any]:
        async with state.client() as client:
            return await client.rollback(label, to)

    moved = run(work())
    if state.json:
        state.emit({"name": label, **moved})
        return
    click.echo(f"{label}: live moved from @{value(moved, 'from')} to @{value(moved, 'to')}")


def _row(view: dict[str, Any]) -> tuple[object, ...]:
    settings = view.get("settings") or {}
    shown = " ".join(f"{key}={content}" for key, content in settings.items())
    return (
        f"@{value(view, 'number')}",
        ",".join(view.get("aliases") or []) or "-",
        str(view.get("code") or "")[:12] or "-",
        ago(view.get("created_at")),
        value(view, "created_by"),
        shown[:60] or "-",
    )
