"""`faas logs`: what a function wrote, past or as it happens."""

from __future__ import annotations

import time
from contextlib import aclosing
from datetime import datetime

import click

from faas.cli.options import KindType
from faas.cli.state import Command, State, pass_state, run
from faas.kinds import duration
from faas.model import LogLine, to_builtins
from faas.names import parse_function

LEVELS = ("debug", "info", "warning", "error", "critical")
_COLOURS = {"warning": "yellow", "error": "red", "critical": "red", "stderr": "yellow", "debug": "bright_black"}


@click.command("logs", cls=Command)
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("--call", default="", metavar="ID", help="Only lines of this call.")
@click.option(
    "--since", type=KindType(duration(0, 366 * 86_400)), metavar="DURATION", help="Only this long back, as 10m."
)
@click.option("--level", type=click.Choice(LEVELS), help="Only this level and above.")
@click.option("--grep", default="", metavar="TEXT", help="Only lines that hold this text.")
@click.option(
    "-n",
    "--lines",
    "limit",
    type=click.IntRange(0, 100_000),
    default=100,
    show_default=True,
    metavar="N",
    help="At most this many past lines.",
)
@pass_state
def logs(
    state: State,
    name: str,
    follow: bool,
    call: str,
    since: float | None,
    level: str | None,
    grep: str,
    limit: int,
) -> None:
    """Print a function's log, oldest line first."""
    label = str(parse_function(name))
    since_ms = 0 if since is None else int((time.time() - since) * 1000)

    async def work() -> None:
        async with state.client() as client:
            lines = client.logs(
                label, call=call, since_ms=since_ms, limit=limit, level=level or "", grep=grep, follow=follow
            )
            async with aclosing(lines):  # type: ignore[type-var]
                async for line in lines:
                    _show(state, line)

    run(work())


def _show(state: State, line: LogLine) -> None:
    if state.json:
        state.emit(to_builtins(line))
        return
    when = datetime.fromtimestamp(line.time_ms / 1000).astimezone().strftime("%m-%d %H:%M:%S.%f")[:-3]
    text = _plain(line.text)
    if line.fields:
        text += " " + " ".join(f"{key}={content}" for key, content in line.fields.items())
    version = f"@{line.version} " if line.version else ""
    level = click.style(line.level.ljust(7), fg=_COLOURS.get(line.level))
    click.echo(f"{click.style(when, dim=True)} {version}{level} {text}")


def _plain(text: str) -> str:
    """Log text without what could steer a terminal; tabs stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in text.rstrip("\r\n"))
