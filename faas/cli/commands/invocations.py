"""`faas invocations`: background calls that were accepted, and what becomes of them."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from faas.cli.exits import FUNCTION, OK
from faas.cli.options import KindType
from faas.cli.output import ago, facts, milliseconds, moment, note, size, table, value
from faas.cli.state import Group, State, pass_state, run
from faas.errors import FaasError
from faas.kinds import duration
from faas.names import parse_function
from faas.sdk.problems import from_problem

View = dict[str, Any]
WAIT_S = 600.0
PAGE = 200
STATES = ("waiting", "delayed", "running", "succeeded", "failed", "dead", "cancelled")
HEADS = ("ID", "FUNCTION", "STATE", "ATTEMPT", "AGE", "TOOK", "CAUSE")
WAIT = click.Option(
    ["--timeout"],
    type=KindType(duration(0.001, 86_400)),
    default=WAIT_S,
    metavar="DURATION",
    help="Wait at most this long.  [default: 10m]",
)


@click.group("invocations", cls=Group)
def invocations() -> None:
    """List, show, await, cancel and repeat background calls."""


@invocations.command("ls")
@click.argument("function", required=False, default="")
@click.option("--app", default="", metavar="APP", help="Only calls of this app's functions.")
@click.option(
    "--state", "states", type=click.Choice(STATES), multiple=True, help="Only in this state. May be repeated."
)
@click.option(
    "--since", type=KindType(duration(0, 366 * 86_400)), metavar="DURATION", help="Only of the last DURATION."
)
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=50, help="At most so many.  [default: 50]")
@pass_state
def invocations_ls(
    state: State, function: str, app: str, states: tuple[str, ...], since: float | None, limit: int
) -> None:
    """List background calls, newest first."""
    name = str(parse_function(function)) if function else ""
    since_ms = int((time.time() - since) * 1000) if since is not None else 0

    async def work() -> list[View]:
        found: list[View] = []
        cursor = ""
        async with state.client() as client:
            while len(found) < limit:
                page = await client.invocations(
                    function=name,
                    app=app,
                    states=states,
                    since_ms=since_ms,
                    limit=min(PAGE, limit - len(found)),
                    cursor=cursor,
                )
                found += page["invocations"]
                cursor = page["cursor"]
                if not cursor:
                    break
        return found

    show_list(state, run(work()))


@invocations.command("show")
@click.argument("id")
@pass_state
def invocations_show(state: State, id: str) -> None:
    """Show a background call with its failed attempts."""

    async def work() -> View:
        async with state.client() as client:
            return await client.invocation(id)

    show_one(state, run(work()))


@invocations.command("wait", params=[WAIT])
@click.argument("id")
@pass_state
def invocations_wait(state: State, id: str, timeout: float) -> int:
    """Wait for the end of a background call, and print its reply.

    Ends with 0 when it succeeded, with 1 when its function failed, with 124 when it has not ended in time.
    """
    return run(await_and_print(state, id, timeout))


@invocations.command("result")
@click.argument("id")
@pass_state
def invocations_result(state: State, id: str) -> int:
    """Print the reply of a background call that has ended."""
    return run(await_and_print(state, id, 0.0))


@invocations.command("cancel")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@pass_state
def invocations_cancel(state: State, ids: tuple[str, ...]) -> None:
    """Cancel background calls: those that wait at once; those that run are told, then killed."""

    async def work() -> None:
        async with state.client() as client:
            for id in ids:
                done = await client.cancel(id)
                if state.json:
                    state.emit(done)
                else:
                    click.echo(f"{id}: {'cancelled' if done['status'] == 'cancelled' else 'its handler is told'}")

    run(work())


@invocations.command("retry")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@pass_state
def invocations_retry(state: State, ids: tuple[str, ...]) -> None:
    """Run dead, failed or cancelled calls again, with all their attempts before them."""

    async def work() -> None:
        async with state.client() as client:
            for id in ids:
                view = await client.retry(id)
                if state.json:
                    state.emit(view)
                else:
                    click.echo(f"{id}: {view['state']}")

    run(work())


async def await_and_print(state: State, id: str, timeout_s: float) -> int:
    """Wait for an end and print the reply to standard output. Raises the error the call ended with."""
    async with state.client() as client:
        view = await client.ended(id, timeout_s)
        one = view["invocation"]
        if state.json:
            state.emit(view)
            return OK if one["state"] == "succeeded" else FUNCTION
        if view.get("error") and one["state"] != "succeeded":
            raise _failed(view)
        last = b"\n"
        async for chunk in client.result(id):
            sys.stdout.buffer.write(chunk)
            last = chunk[-1:]
        if last != b"\n" and sys.stdout.isatty():
            sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
    if one["state"] == "succeeded":
        return OK
    note(f"error: {id} is {one['state']}: {one['cause']}")
    return FUNCTION


def _failed(view: View) -> FaasError:
    return from_problem(view["error"])


def show_list(state: State, views: list[View]) -> None:
    """Background calls as a table, or one JSON document each."""
    if state.json:
        for view in views:
            state.emit(view)
        return
    table(HEADS, (_row(view) for view in views))


def _row(one: View) -> tuple[object, ...]:
    took = milliseconds((one["ended_at"] - one["began_at"]) * 1000) if one["ended_at"] and one["began_at"] else "-"
    tried = f"{one['attempt']}/{one['attempts']}"
    return (one["id"], one["function"], one["state"], tried, ago(one["accepted_at"]), took, value(one, "cause"))


def show_one(state: State, view: View) -> None:
    """One background call: facts, then its failed attempts."""
    if state.json:
        state.emit(view)
        return
    one = view["invocation"]
    facts(
        [
            ("id", one["id"]),
            ("function", one["function"]),
            ("state", one["state"]),
            ("cause", one["cause"]),
            ("priority", one["priority"]),
            ("accepted", moment(one["accepted_at"])),
            ("due", moment(one["due_at"]) if one["due_at"] else ""),
            ("began", moment(one["began_at"]) if one["began_at"] else ""),
            ("ended", moment(one["ended_at"]) if one["ended_at"] else ""),
            ("attempts", f"{one['attempt']} of {one['attempts']}"),
            ("node", one["node"]),
            ("input", size(one["bytes"])),
        ]
    )
    for one_try in view.get("tries") or []:
        detail = (one_try.get("error") or {}).get("detail") or one_try["cause"]
        took = milliseconds((one_try["ended_at"] - one_try["started_at"]) * 1000)
        facts([(f"attempt {one_try['number']}", f"{one_try['cause']} after {took} on {one_try['node']}: {detail}")])
