"""`faas audit`: who changed what, when, and how it ended."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import click

from faas.cli.output import clean, moment, value
from faas.cli.state import Command, State, pass_state, run
from faas.names import parse_function


@click.command("audit", cls=Command)
@click.argument("name", required=False)
@click.option("--app", default="", metavar="APP", help="Only changes in this app.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    "limit",
    type=click.IntRange(0, 10_000),
    default=50,
    show_default=True,
    metavar="N",
    help="At most this many past entries.",
)
@pass_state
def audit(state: State, name: str | None, app: str, follow: bool, limit: int) -> None:
    """Show who changed what, oldest first; with NAME only changes of that function."""
    label = str(parse_function(name)) if name else ""

    async def work() -> None:
        async with state.client() as client:
            entries = client.audit(function=label, app=app, limit=limit, follow=follow)
            async with aclosing(entries):  # type: ignore[type-var]
                async for entry in entries:
                    _show(state, entry)

    run(work())


def _show(state: State, entry: dict[str, Any]) -> None:
    if state.json:
        state.emit(entry)
        return
    outcome = str(value(entry, "outcome"))
    words = [
        click.style(moment(entry.get("at")), dim=True),
        clean(f"{value(entry, 'by')} ({value(entry, 'address')})"),
        clean(str(value(entry, "verb"))),
        clean(_target(entry)),
        clean(str(entry.get("detail") or "")),
        "" if outcome == "ok" else click.style(clean(outcome), fg="red"),
    ]
    click.echo("  ".join(word for word in words if word))


def _target(entry: dict[str, Any]) -> str:
    shown = [_touched(touched) for touched in entry.get("functions") or []]
    if len(shown) > 5:
        shown[5:] = [f"and {len(shown) - 5 + int(entry.get('more') or 0)} more"]
    app = entry.get("app")
    return ", ".join(shown) or (f"app {app}" if app else "")


def _touched(touched: dict[str, Any]) -> str:
    before, after = touched.get("from"), touched.get("to")
    move = f" @{before} -> @{after}" if before and after else f" @{after}" if after else ""
    return f"{value(touched, 'name')}{move}"
