"""`faas dlq`: background calls whose attempts are used up, with what they were called with."""

from __future__ import annotations

from typing import Any

import click

from faas.cli.commands.functions import confirm
from faas.cli.commands.invocations import show_list, show_one
from faas.cli.output import clean, facts, note
from faas.cli.state import Group, State, pass_state, run
from faas.errors import Invalid
from faas.names import parse_function

View = dict[str, Any]
PAGE = 200


@click.group("dlq", cls=Group)
def dlq() -> None:
    """List, show, redrive and purge dead letters."""


@dlq.command("ls")
@click.argument("function")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=50, help="At most so many.  [default: 50]")
@pass_state
def dlq_ls(state: State, function: str, limit: int) -> None:
    """List a function's dead letters, newest first."""
    name = str(parse_function(function))

    async def work() -> list[View]:
        found: list[View] = []
        cursor = ""
        async with state.client() as client:
            while len(found) < limit:
                page = await client.dead(name, limit=min(PAGE, limit - len(found)), cursor=cursor)
                found += page["invocations"]
                cursor = page["cursor"]
                if not cursor:
                    break
        return found

    show_list(state, run(work()))


@dlq.command("show")
@click.argument("function")
@click.argument("id")
@pass_state
def dlq_show(state: State, function: str, id: str) -> None:
    """Show a dead letter: its input and all its attempts."""
    name = str(parse_function(function))

    async def work() -> View:
        async with state.client() as client:
            return await client.dead_letter(name, id)

    view = run(work())
    show_one(state, view)
    if not state.json and (given := view.get("input")):
        facts([("request", f"{given['method']} {given['target']} {given['path']}?{given['query']}".rstrip("?"))])
        facts([(f"  {key}", text) for key, text in given["headers"]])
        body = given["body"] if given["body"] is not None else f"base64: {given['base64']}"
        click.echo("\n".join(clean(line) for line in body.splitlines()))


@dlq.command("redrive")
@click.argument("function")
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--all", "every", is_flag=True, help="All of them.")
@pass_state
def dlq_redrive(state: State, function: str, ids: tuple[str, ...], every: bool) -> None:
    """Run dead letters again, with all their attempts before them."""
    name = _checked(function, ids, every)

    async def work() -> View:
        async with state.client() as client:
            return await client.redrive(name, None if every else list(ids))

    _done(state, run(work()), "run again")


@dlq.command("purge")
@click.argument("function")
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_state
def dlq_purge(state: State, function: str, ids: tuple[str, ...], every: bool, yes: bool) -> None:
    """Forget dead letters for good."""
    name = _checked(function, ids, every)
    confirm(f"forget {'all dead letters' if every else f'{len(ids)} dead letters'} of {name}?", yes=yes)

    async def work() -> View:
        async with state.client() as client:
            if every:
                return await client.purge(name)
            total: View = {"done": 0, "left": {}}
            for id in ids:
                one = await client.purge(name, id)
                total = {"done": total["done"] + one["done"], "left": {**total["left"], **one["left"]}}
            return total

    _done(state, run(work()), "forgotten")


def _checked(function: str, ids: tuple[str, ...], every: bool) -> str:
    if bool(ids) == every:
        raise Invalid("name dead letters by id, or give --all", hint=f"faas dlq ls {function} lists them")
    return str(parse_function(function))


def _done(state: State, swept: View, what: str) -> None:
    if state.json:
        state.emit(swept)
        return
    click.echo(f"{swept['done']} {what}")
    for id, why in swept["left"].items():
        note(f"{id}: {why}")
