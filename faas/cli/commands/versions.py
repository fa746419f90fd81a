"""`faas versions` and `faas rollback`."""

from __future__ import annotations

from typing import Any

import click

from faas.cli.commands.apps import roll_back
from faas.cli.commands.diff import setting
from faas.cli.output import ago, table, value
from faas.cli.state import Command, State, pass_state, run
from faas.errors import Invalid
from faas.names import check_app, parse_function


@click.command("versions", cls=Command)
@click.argument("name")
@pass_state
def versions(state: State, name: str) -> None:
    """List a function's versions, newest first: who pushed what, and what changed against the one before."""
    label = str(parse_function(name))

    async def work() -> list[dict[str, Any]]:
        async with state.client() as client:
            return await client.versions(label)

    found = sorted(run(work()), key=lambda view: -int(view.get("number") or 0))
    if state.json:
        for view in found:
            state.emit(view)
        return
    table(("VERSION", "ALIASES", "CODE", "CREATED", "BY", "CHANGED"), (_row(view) for view in found))


@click.command("rollback", cls=Command)
@click.argument("name", required=False)
@click.option(
    "--to",
    "to",
    type=click.IntRange(min=1),
    metavar="N",
    help="Version to put live.  [default: the one that was live before]",
)
@click.option("--app", default="", metavar="APP", help="Every function of this app: all move or none.")
@click.option("--all", "everything", is_flag=True, help="Every function of every app.")
@pass_state
def rollback(state: State, name: str | None, to: int | None, app: str, everything: bool) -> None:
    """Put live again what was live before. Nothing is built or uploaded; scale set by hand stays.

    Twice is there and back.
    """
    if bool(name) + bool(app) + everything != 1:
        raise Invalid("give one of NAME, --app and --all", hint="Such as: faas rollback hello")
    if not name:
        if to is not None:
            raise Invalid("--to goes with NAME only: versions are numbered by function")
        roll_back(state, check_app(app) if app else "")
        return
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
    changed = view.get("changes")
    if changed is None:
        shown = "first kept"
    else:
        parts = [part for part in ("code", "dependencies") if changed.get(part)]
        shown = ", ".join((*parts, *map(setting, changed.get("settings") or [])))
    return (
        f"@{value(view, 'number')}",
        ",".join(view.get("aliases") or []) or "-",
        str(view.get("code") or "")[:12] or "-",
        ago(view.get("created_at")),
        value(view, "created_by"),
        shown[:60] or "-",
    )
