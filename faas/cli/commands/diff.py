"""`faas diff`: what differs between two versions."""

from __future__ import annotations

from typing import Any

import click

from faas.cli.output import clean, value
from faas.cli.state import Command, State, pass_state, run
from faas.names import parse_function

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command("diff", cls=Command)
@click.argument("name")
@click.argument("old", type=click.IntRange(min=1), required=False, metavar="[FROM")
@click.argument("new", type=click.IntRange(min=1), required=False, metavar="[TO]]")
@pass_state
def diff(state: State, name: str, old: int | None, new: int | None) -> None:
    """Compare two versions: settings, files and lines.

    Without FROM the version that was live before; without TO the live one.
    """
    label = str(parse_function(name))

    async def work() -> dict[str, Any]:
        async with state.client() as client:
            return await client.diff(label, old or 0, new or 0)

    found = run(work())
    if state.json:
        state.emit(found)
        return
    click.echo(f"{label}: @{value(found, 'from')} -> @{value(found, 'to')}")
    for change in found.get("settings") or []:
        click.echo(f"  {clean(setting(change))}")
    if found.get("dependencies"):
        click.echo("  other dependencies")
    for file in found.get("files") or []:
        _file(file)
    if more := found.get("more_files"):
        click.echo(f"and {more} more files")
    if not any(found.get(key) for key in ("settings", "dependencies", "files")):
        click.echo("  no difference")


def setting(change: dict[str, Any]) -> str:
    """`memory 64MiB -> 128MiB`."""
    old, new = (change.get(side) for side in ("old", "new"))
    return f"{value(change, 'key')} {_shown(old)} -> {_shown(new)}"


def _shown(content: object) -> str:
    return "(default)" if content is None else str(content)


def _file(file: dict[str, Any]) -> None:
    note = f" ({file['note']})" if file.get("note") else ""
    click.echo(clean(f"{value(file, 'change')} {value(file, 'path')}{note}"))
    for line in str(file.get("patch") or "").split("\n")[:-1]:
        plain = "".join(char if char.isprintable() or char == "\t" else "�" for char in line)
        click.echo(click.style(plain, fg=_COLOURS.get(line[:1])))
