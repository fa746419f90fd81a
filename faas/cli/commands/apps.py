"""`faas apps`, and `faas pause` and `resume`: functions that belong together, changed together."""

from __future__ import annotations

from typing import Any

import click

from faas.cli.commands.functions import confirm
from faas.cli.output import ago, facts, table, value
from faas.cli.state import Command, Group, State, pass_state, run
from faas.errors import Invalid
from faas.names import check_app, parse_function
from faas.units import parse_size, show_size

View = dict[str, Any]
_REASON = click.Option(["--reason"], default="", metavar="TEXT", help="What callers are told.  [default: who paused]")


@click.group("apps", cls=Group)
def apps() -> None:
    """List apps, and scale, revert, pause and remove their functions together."""


@apps.command("ls")
@pass_state
def apps_ls(state: State) -> None:
    """List apps."""

    async def work() -> list[View]:
        async with state.client() as client:
            return await client.apps()

    views = run(work())
    if state.json:
        for view in views:
            state.emit(view)
        return
    keys = ("name", "functions", "paused", "secrets", "instances", "in_flight", "waiting")
    rows = ((*(value(view, key) for key in keys), ago(view.get("updated_at"))) for view in views)
    table(("NAME", "FUNCTIONS", "PAUSED", "SECRETS", "INSTANCES", "RUNNING", "WAITING", "UPDATED"), rows)


@apps.command("show")
@click.argument("app")
@pass_state
def apps_show(state: State, app: str) -> None:
    """Show an app with its functions."""
    check_app(app)

    async def work() -> View:
        async with state.client() as client:
            return await client.app(app)

    _show(state, run(work()))


@apps.command("scale")
@click.argument("app")
@click.option("--min", "minimum", type=click.IntRange(0, 10_000), metavar="N", help="Instances kept without calls.")
@click.option("--max", "maximum", type=click.IntRange(1, 10_000), metavar="N", help="Most instances over all nodes.")
@click.option(
    "--by",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="N",
    help="Multiply both by N, rounded up: 2 doubles.",
)
@click.option("--reset", is_flag=True, help="Clear what was set by hand; the versions' own settings count again.")
@pass_state
def apps_scale(state: State, app: str, minimum: int | None, maximum: int | None, by: float | None, reset: bool) -> None:
    """Set the instances of every function of an app by hand; all change or none."""
    check_app(app)
    bounds = minimum is not None or maximum is not None
    if bounds + (by is not None) + reset != 1:
        raise Invalid("give one of --min and --max, --by, or --reset")

    async def work() -> View:
        async with state.client() as client:
            return await (client.unscale_app(app) if reset else client.scale_app(app, minimum, maximum, by))

    _show(state, run(work()))


@apps.command("rollback")
@click.argument("app")
@pass_state
def apps_rollback(state: State, app: str) -> None:
    """Put live again what was live before, for every function of an app: all move or none."""
    roll_back(state, check_app(app))


@apps.command("pause", params=[_REASON])
@click.argument("app")
@pass_state
def apps_pause(state: State, app: str, reason: str) -> None:
    """Refuse calls to every function of an app; queued work stays."""
    check_app(app)

    async def work() -> View:
        async with state.client() as client:
            return await client.pause_app(app, reason)

    _show(state, run(work()))


@apps.command("resume")
@click.argument("app")
@pass_state
def apps_resume(state: State, app: str) -> None:
    """Let every function of an app take calls again."""
    check_app(app)

    async def work() -> View:
        async with state.client() as client:
            return await client.resume_app(app)

    _show(state, run(work()))


@apps.command("quota")
@click.argument("app")
@click.option("--instances", type=click.IntRange(1), metavar="N", help="Instances on each node.")
@click.option("--memory", metavar="SIZE", help="Memory of its instances on each node, such as 4G.")
@click.option("--queue", type=click.IntRange(1), metavar="N", help="Unfinished background calls in the cluster.")
@click.option("--rps", type=click.FloatRange(0, min_open=True), metavar="N", help="Calls a second in the cluster.")
@click.option("--reset", is_flag=True, help="No limits.")
@pass_state
def apps_quota(
    state: State,
    app: str,
    instances: int | None,
    memory: str | None,
    queue: int | None,
    rps: float | None,
    reset: bool,
) -> None:
    """Limit what an app may use. Without flags: show its limits; a flag changes one limit and keeps the others."""
    check_app(app)
    size = None if memory is None else _size(memory)
    given = {"instances": instances, "memory": size, "queue": queue, "rps": rps}
    named = {key: limit for key, limit in given.items() if limit is not None}
    if reset and named:
        raise Invalid("--reset given with a limit", hint="Give one of them.")

    async def work() -> View:
        async with state.client() as client:
            if reset:
                return await client.reset_quota(app)
            now = await client.quota(app)
            # PUT replaces the whole quota: keep what is not named.
            return await client.set_quota(app, {key: now.get(key) for key in given} | named) if named else now

    view = run(work())
    if state.json:
        state.emit(view)
        return
    limits = [(key, float(view[key])) for key in given if view.get(key) is not None]
    if limits:
        facts((key, show_size(int(limit)) if key == "memory" else f"{limit:g}") for key, limit in limits)
    else:
        click.echo(f"{app} has no limits")


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise Invalid(f"--memory: {error}") from None


@apps.command("rm")
@click.argument("app")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_state
def apps_rm(state: State, app: str, yes: bool) -> None:
    """Remove an app: its functions with all versions, and its secrets."""
    check_app(app)
    confirm(f"Remove app {app} with all functions, versions and secrets?", yes=yes)

    async def work() -> None:
        async with state.client() as client:
            await client.remove_app(app)

    run(work())
    if state.json:
        state.emit({"removed": app})
    else:
        click.echo(f"removed app {app}")


@click.command("pause", cls=Command, params=[_REASON])
@click.argument("name")
@pass_state
def pause(state: State, name: str, reason: str) -> None:
    """Refuse calls to a function with 503 and a reason; queued work stays."""
    label = str(parse_function(name))

    async def work() -> View:
        async with state.client() as client:
            return await client.pause(label, reason)

    view = run(work())
    if state.json:
        state.emit({"name": label, "paused": view.get("paused")})
    else:
        facts([(f"{label} is paused:", view.get("paused"))])


@click.command("resume", cls=Command)
@click.argument("name")
@pass_state
def resume(state: State, name: str) -> None:
    """Let a function take calls again."""
    label = str(parse_function(name))

    async def work() -> None:
        async with state.client() as client:
            await client.resume(label)

    run(work())
    if state.json:
        state.emit({"name": label, "paused": ""})
    else:
        click.echo(f"{label} takes calls")


def roll_back(state: State, app: str) -> None:
    """Roll back every function of `app`; empty: of every app. Prints what moved."""

    async def work() -> View:
        async with state.client() as client:
            return await (client.rollback_app(app) if app else client.rollback_all())

    rolled = run(work())
    if state.json:
        state.emit(rolled)
        return
    moved: dict[str, View] = rolled.get("moved") or {}
    for name, move in moved.items():
        click.echo(f"{name}: live moved from @{value(move, 'from')} to @{value(move, 'to')}")
    if stayed := rolled.get("stayed"):
        click.echo(f"nothing was live before of: {', '.join(stayed)}")


def _show(state: State, view: View) -> None:
    if state.json:
        state.emit(view)
        return
    keys = ("name", "live", "state", "min", "max", "instances", "paused")
    rows = (tuple(value(function, key) for key in keys) for function in view.get("functions") or [])
    table(("NAME", "LIVE", "STATE", "MIN", "MAX", "INSTANCES", "PAUSED"), rows)
