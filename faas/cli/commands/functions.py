"""`faas ls`, `show`, `rm` and `scale`: functions as they are, and their size by hand."""

from __future__ import annotations

import sys
from typing import Any

import click

from faas.cli.output import ago, clean, facts, moment, note, size, table, value
from faas.cli.state import Command, State, pass_state, run
from faas.errors import Invalid
from faas.names import parse_function

View = dict[str, Any]


@click.command("ls", cls=Command)
@click.option("--app", default="", metavar="APP", help="Only functions of this app.")
@pass_state
def ls(state: State, app: str) -> None:
    """List functions with their state and load."""

    async def work() -> list[View]:
        async with state.client() as client:
            return await client.functions(app)

    views = run(work())
    if state.json:
        for view in views:
            state.emit(view)
        return
    if not views:
        click.echo("no functions yet: faas push hello.py")
        return
    heads = ("NAME", "LIVE", "STATE", "INSTANCES", "RUNNING", "WAITING", "SCALE", "MEMORY", "UPDATED")
    table(heads, (_row(view) for view in views))


@click.command("show", cls=Command)
@click.argument("name")
@click.option("--lock", "lock", is_flag=True, help="Print its packages with versions and hashes instead.")
@click.option("--version", "version", type=click.IntRange(min=1), metavar="N", help="With --lock: of this version.")
@pass_state
def show(state: State, name: str, lock: bool, version: int | None) -> None:
    """Show one function: settings, scale, pools and aliases."""
    label = str(parse_function(name))
    if lock:
        _show_lock(state, label, version or 0)
        return
    if version is not None:
        raise Invalid("--version goes with --lock", hint="faas versions lists what each version is.")

    async def work() -> View:
        async with state.client() as client:
            return await client.function(label)

    view = run(work())
    if state.json:
        state.emit(view)
        return
    facts(_facts(view))
    settings = view.get("settings") or {}
    if settings:
        click.echo("\nsettings")
        facts((f"  {key}", content) for key, content in settings.items())
    pools = view.get("pools") or []
    if pools:
        click.echo()
        heads = ("VERSION", "STATES", "FREE", "WAITING", "RUNNING", "LAST ERROR")
        table(heads, (_pool(pool) for pool in pools))


def _show_lock(state: State, label: str, version: int) -> None:
    async def work() -> View:
        async with state.client() as client:
            return await client.lock(label, version)

    view = run(work())
    if state.json:
        state.emit(view)
    elif lock := str(view.get("lock") or ""):
        for line in lock.splitlines():
            click.echo(clean(line))
    else:
        note(f"{label}@{view.get('version')} needs no packages")


@click.command("rm", cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_state
def rm(state: State, names: tuple[str, ...], yes: bool) -> None:
    """Remove functions with all their versions and aliases."""
    labels = list(dict.fromkeys(str(parse_function(name)) for name in names))
    confirm(f"Remove {', '.join(labels)} with all versions?", yes=yes)

    async def work() -> None:
        async with state.client() as client:
            for label in labels:
                await client.remove(label)
                if state.json:
                    state.emit({"removed": label})
                else:
                    click.echo(f"removed {label}")

    run(work())


@click.command("scale", cls=Command)
@click.argument("name")
@click.option("--min", "minimum", type=click.IntRange(0, 10_000), metavar="N", help="Instances kept without calls.")
@click.option("--max", "maximum", type=click.IntRange(1, 10_000), metavar="N", help="Most instances over all nodes.")
@click.option("--reset", is_flag=True, help="Clear what was set by hand; the version's own settings count again.")
@pass_state
def scale(state: State, name: str, minimum: int | None, maximum: int | None, reset: bool) -> None:
    """Set a function's instances by hand; pushes and rollbacks keep it. Without flags: show the scale."""
    label = str(parse_function(name))
    given = minimum is not None or maximum is not None
    if reset and given:
        raise Invalid("--reset given with --min or --max", hint="Give one of them.")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise Invalid(f"--min {minimum} is more than --max {maximum}", hint="Raise --max or lower --min.")

    async def work() -> View:
        async with state.client() as client:
            if reset:
                await client.unscale(label)
            elif given:
                # PUT replaces the whole scale: keep the bound that is not named.
                now = (await client.function(label)).get("scale") or {}
                low = now.get("min") if minimum is None else minimum
                high = now.get("max") if maximum is None else maximum
                await client.scale(label, low, high)
            return await client.function(label)

    view = run(work())
    by_hand = view.get("scale") or {}
    if state.json:
        state.emit({"name": label, "min": view.get("min"), "max": view.get("max"), "by_hand": by_hand})
        return
    source = "by hand" if any(bound is not None for bound in by_hand.values()) else "from the version"
    click.echo(f"{label}: min {value(view, 'min')}, max {value(view, 'max')} ({source})")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone.

    Raises:
        Invalid: nobody is there to answer. click.Abort: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Invalid("this needs a yes, and nobody is at the terminal to give it", hint="Repeat it with --yes.")
    click.confirm(question, abort=True, err=True)


def _row(view: View) -> tuple[object, ...]:
    live = value(view, "live")
    return (
        value(view, "name"),
        f"@{live}" if live != "-" else "-",
        value(view, "state"),
        value(view, "instances", "0"),
        value(view, "in_flight", "0"),
        value(view, "waiting", "0"),
        f"{value(view, 'min')}..{value(view, 'max')}",
        size(view.get("memory")),
        ago(view.get("updated_at")),
    )


def _facts(view: View) -> list[tuple[str, object]]:
    scale_by_hand = view.get("scale") or {}
    by_hand = ", ".join(f"{key} {bound}" for key, bound in scale_by_hand.items() if bound is not None)
    return [
        ("name", view.get("name")),
        ("url", view.get("url")),
        ("state", view.get("state")),
        ("paused", view.get("paused")),
        ("live", f"@{view['live']}" if view.get("live") else "nothing yet"),
        ("aliases", _aliases(view.get("aliases") or {})),
        ("runtime", view.get("runtime")),
        ("public", "yes" if view.get("public") else "no"),
        ("scale", f"{value(view, 'min')}..{value(view, 'max')}" + (f" (by hand: {by_hand})" if by_hand else "")),
        ("instances", view.get("instances")),
        ("running", view.get("in_flight")),
        ("waiting", view.get("waiting")),
        ("code", str(view.get("code") or "")[:12]),
        ("created", moment(view.get("created_at"))),
        ("updated", f"{moment(view.get('updated_at'))} {_by(view.get('created_by'))}".rstrip()),
    ]


def _aliases(aliases: dict[str, dict[str, int]]) -> str:
    shown = []
    for name, weights in aliases.items():
        parts = [f"@{number}" + (f" {percent}%" if len(weights) > 1 else "") for number, percent in weights.items()]
        shown.append(f"{name} -> {' + '.join(parts)}")
    return ", ".join(shown)


def _pool(pool: View) -> tuple[object, ...]:
    states = " ".join(f"{name}:{count}" for name, count in (pool.get("states") or {}).items())
    keys = ("free", "waiting", "in_flight")
    counts = (value(pool, key, "0") for key in keys)
    return (f"@{value(pool, 'version')}", states or "-", *counts, value(pool, "last_error"))


def _by(who: object) -> str:
    return f"by {who}" if who else ""
