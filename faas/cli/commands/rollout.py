"""`faas rollout`: give a new version the calls step by step, and watch it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import click

from faas.cli.exits import FUNCTION, OK
from faas.cli.output import ago, facts, milliseconds, table, value
from faas.cli.state import Group, State, pass_state, run
from faas.errors import Invalid
from faas.names import parse_function
from faas.units import parse_duration, show_duration

View = dict[str, Any]
LOOK_S = 1.0
_PERCENT = re.compile(r"\+?(\d{1,6}(?:\.\d{1,4})?)%", re.ASCII)
_OPEN = ("running", "paused")


class _Rollout(Group):
    """`faas rollout NAME` is `faas rollout start NAME`: what is no verb is a function."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put `start` in front where no verb is."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["start", *args]
        return super().parse_args(context, args)


@click.group("rollout", cls=_Rollout)
def rollout() -> None:
    """Move plain calls to a new version step by step; it goes back by itself when it is worse than the live one.

    \b
    faas push hello.py --alias canary
    faas rollout hello --steps 5,25,100 --every 30s
    faas rollout status hello
    """


@rollout.command("start")
@click.argument("name")
@click.option("--to", type=click.IntRange(min=1), metavar="N", help="Version; else that of `canary`, else the newest.")
@click.option("--steps", default="5,25,100", metavar="P,P,...", show_default=True, help="Percent of calls, to 100.")
@click.option("--every", default="30s", metavar="TIME", show_default=True, help="How long a step lasts at least.")
@click.option(
    "--max-errors", default="1%", metavar="P%", show_default=True, help="Failed calls above the live version's; none."
)
@click.option(
    "--max-p95", default="+20%", metavar="P%", show_default=True, help="p95 latency above the live version's; none."
)
@click.option(
    "--min-sample",
    type=click.IntRange(0, 1_000_000),
    default=100,
    metavar="N",
    show_default=True,
    help="Calls of each version that a step needs.",
)
@click.option("--wait", is_flag=True, help="Stay until it is over; ends with 1 unless it passed.")
@pass_state
def start(
    state: State,
    name: str,
    to: int | None,
    steps: str,
    every: str,
    max_errors: str,
    max_p95: str,
    min_sample: int,
    wait: bool,
) -> int:
    """Begin a rollout of a function (the word `start` can be left out)."""
    label = str(parse_function(name))
    terms = {
        "to": to,
        "steps": parse_steps(steps),
        "every_s": _duration(every),
        "max_errors": parse_percent("--max-errors", max_errors),
        "max_p95": parse_percent("--max-p95", max_p95),
        "min_sample": min_sample,
    }

    async def work() -> View:
        async with state.client() as client:
            view = await client.start_rollout(label, terms)
            _show(state, view)
            while wait and view.get("state") in _OPEN:
                await asyncio.sleep(LOOK_S)
                seen, view = view, (await client.rollout(label)) or {}
                if view.get("history") != seen.get("history"):
                    _show(state, view)
            return view

    view = run(work())
    return FUNCTION if wait and view.get("state") != "passed" else OK


@rollout.command("status")
@click.argument("name")
@pass_state
def status(state: State, name: str) -> None:
    """Show the present or last rollout of a function."""
    label = str(parse_function(name))

    async def work() -> View | None:
        async with state.client() as client:
            return await client.rollout(label)

    view = run(work())
    if state.json:
        state.emit({"rollout": view})
    elif view is None:
        click.echo(f"{label} has had no rollout")
    else:
        _show_all(view)


def _verb(name: str, text: str) -> click.Command:
    """`pause`, `resume` or `abort`."""

    @click.argument("name")
    @pass_state
    def act(state: State, name: str) -> None:
        label = str(parse_function(name))

        async def work() -> View:
            async with state.client() as client:
                return await client.change_rollout(label, verb)

        _show(state, run(work()))

    verb = name
    act.__doc__ = text
    return rollout.command(name)(act)


pause = _verb("pause", "Stay at the present share; a broken gate still sends it back.")
resume = _verb("resume", "Go on: the present step begins anew.")
abort = _verb("abort", "Give every call back to the live version.")


def parse_steps(text: str) -> list[int]:
    """`5,25,100`. Raises Invalid."""
    try:
        return [int(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError:
        raise Invalid(f'--steps "{text[:80]}" is not a list of percentages', hint="Such as 5,25,100.") from None


def parse_percent(flag: str, text: str) -> float | None:
    """0.2 from `20%` or `+20%`; None from `none`. Raises Invalid."""
    if text == "none":
        return None
    found = _PERCENT.fullmatch(text.strip())
    if found is None:
        raise Invalid(f'{flag} "{text[:40]}" is not a percentage', hint="Such as 1% or 20%, or none.")
    return float(found[1]) / 100


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Invalid(f"--every: {error}") from None


def _show(state: State, view: View) -> None:
    """One line on where it stands."""
    if state.json:
        state.emit(view)
        return
    head = f"{value(view, 'name')}@{value(view, 'version')} {value(view, 'state')} at {value(view, 'share')}%"
    click.echo(f"{head}: {view['reason']}" if view.get("reason") else head)


def _show_all(view: View) -> None:
    steps = ", ".join(f"{step}%" for step in view.get("steps") or [])
    every = show_duration(float(view.get("every_s") or 0))
    gates = [
        f"{name} +{limit:.4g}%"
        for name, limit in (("errors", _hundred(view, "max_errors")), ("p95", _hundred(view, "max_p95")))
        if limit is not None
    ]
    facts(
        [
            ("function", view.get("name")),
            ("version", f"@{value(view, 'version')}, live is @{value(view, 'live')}"),
            ("state", view.get("state")),
            ("share", f"{value(view, 'share')}%"),
            ("steps", f"{steps}, each at least {every}"),
            ("gates", f"{', '.join(gates) or 'none'}; {value(view, 'min_sample', '0')} calls of each"),
            ("reason", view.get("reason")),
            ("by", view.get("by")),
        ]
    )
    if measured := view.get("measured"):
        click.echo()
        rows = (
            (f"@{value(one, 'version')}", one.get("calls"), one.get("errors"), _p95(one.get("p95_ms")))
            for one in measured
        )
        table(("VERSION", "CALLS", "ERRORS", "P95"), rows)
    click.echo()
    rows = (
        (ago(event.get("at")), value(event, "what"), f"{value(event, 'share')}%", value(event, "reason"))
        for event in view.get("history") or []
    )
    table(("AGO", "WHAT", "SHARE", "REASON"), rows)


def _hundred(view: View, key: str) -> float | None:
    limit = view.get(key)
    return None if limit is None else float(limit) * 100


def _p95(ms: object) -> str:
    return milliseconds(ms) if isinstance(ms, int | float) else "-"
