"""`faas invoke --async`: the call is stored and runs later; one, or many from a file of events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import click

from faas.cli.commands.invocations import await_and_print
from faas.cli.exits import OK, PLATFORM
from faas.cli.options import KindType
from faas.cli.output import note
from faas.cli.state import State, run
from faas.errors import Invalid
from faas.kinds import duration

PIECE = 10_000
"""Events in one request, the most a node takes."""


class Later(NamedTuple):
    """The flags of a call that runs later. Durations in seconds; empty or None: not given."""

    later: bool
    wait: float | None
    delay: float | None
    at: str
    priority: str | None
    batch: bool

    @property
    def asked(self) -> bool:
        """Any of them asks for a background call."""
        return self.later or self.batch or self.wait is not None

    def headers(self) -> dict[str, str]:
        """As the node takes them. Raises Invalid when they need --async."""
        given = {
            "X-Faas-Delay": f"{self.delay:g}" if self.delay is not None else "",
            "X-Faas-At": self.at,
            "X-Faas-Priority": self.priority or "",
        }
        headers = {name: value for name, value in given.items() if value}
        if headers and not self.asked:
            raise Invalid("--delay, --at and --priority are for background calls", hint="Add --async.")
        return headers


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags to `faas invoke`."""
    span = KindType(duration(0, 366 * 86_400))
    for option in reversed(
        (
            click.option("--async", "later", is_flag=True, help="Store the call, print its id; it runs later."),
            click.option("--wait", type=span, metavar="DURATION", help="With --async: wait for the reply, print it."),
            click.option("--delay", type=span, metavar="DURATION", help="With --async: not before this has passed."),
            click.option(
                "--at", default="", metavar="TIME", help="With --async: not before; Unix seconds or RFC 3339."
            ),
            click.option("--priority", type=click.Choice(("high", "normal", "low")), help="With --async."),
            click.option(
                "--batch", is_flag=True, help="The body is many events, a JSON array or one a line: each a call."
            ),
            click.option(
                "--key", default="", metavar="TEXT", help="Idempotency key: repeats get the first one's reply."
            ),
        )
    ):
        command = option(command)
    return command


def send(state: State, target: str, request: dict[str, Any], flags: Later) -> int:
    """Store the call, or the calls. Prints ids, or the reply with --wait. Raises FaasError."""
    if request["method"] != "POST":
        request = {**request, "method": "POST"}
    if flags.batch:
        if flags.wait is not None:
            raise Invalid("--wait is for one call", hint="Leave it out, or leave out --batch.")
        return run(_send_many(state, target, request))
    return run(_send_one(state, target, request, flags.wait))


async def _send_one(state: State, target: str, request: dict[str, Any], wait: float | None) -> int:
    async with state.client() as client:
        stored = await client.enqueue(
            target, path=request["path"], headers=request["headers"], body=request["body"] or b""
        )
    id = stored["id"]
    if wait is not None:
        if not state.json:
            note(f"* {id}")
        return await await_and_print(state, id, wait)
    if state.json:
        state.emit(stored)
    else:
        click.echo(id)
    return OK


async def _send_many(state: State, target: str, request: dict[str, Any]) -> int:
    events = _events(request["body"] or b"")
    refused = 0
    async with state.client() as client:
        for start in range(0, len(events), PIECE):
            body = json.dumps(events[start : start + PIECE], separators=(",", ":")).encode()
            headers = dict(request["headers"])
            if key := headers.get("Idempotency-Key"):
                headers["Idempotency-Key"] = f"{key}/{start}"
            answer = await client.enqueue_many(target, body, headers)
            refused += answer["refused"]
            for one in answer["invocations"]:
                if state.json:
                    state.emit(one)
                elif one["status"] == "refused":
                    note(f"refused: {one['error'].get('detail', one['error'].get('code'))}")
                else:
                    click.echo(one["id"])
    if refused:
        note(f"error: {refused} of {len(events)} were refused")
    return PLATFORM if refused else OK


def _events(body: bytes) -> list[Any]:
    """A JSON array, or JSON values one a line. Raises Invalid naming the line."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Invalid("the events are not UTF-8 text", hint="Give a JSON array, or one JSON value a line.") from error
    if text.lstrip().startswith("["):
        try:
            whole = json.loads(text)
        except ValueError:
            pass  # lines of arrays, perhaps
        else:
            return _some(whole)
    events = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            events.append(json.loads(line))
        except ValueError as error:
            raise Invalid(f"line {number} of the events is not JSON: {error}") from error
    return _some(events)


def _some(events: list[Any]) -> list[Any]:
    if not events:
        raise Invalid("there are no events", hint="Give a JSON array, or one JSON value a line.")
    return events
