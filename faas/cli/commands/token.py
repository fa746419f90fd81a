"""`faas token`: make, list and revoke tokens. A new one is printed once, alone on standard output."""

from __future__ import annotations

import time
from typing import Any

import click

from faas.cli.commands.functions import confirm
from faas.cli.options import KindType
from faas.cli.output import ago, moment, note, table, value
from faas.cli.state import Group, State, pass_state, run
from faas.kinds import duration
from faas.names import check_app, check_name

ROLES = ("admin", "deploy", "invoke", "read")
_TEN_YEARS = 10 * 366 * 86_400


@click.group("token", cls=Group)
def token() -> None:
    """Make, list and revoke tokens: who may call the API, for which apps, until when."""


@token.command("create")
@click.argument("name")
@click.option(
    "--role",
    "roles",
    type=click.Choice(ROLES),
    multiple=True,
    required=True,
    help="What it may do; several times for several. deploy includes invoke and read, admin includes all.",
)
@click.option("--app", "apps", multiple=True, metavar="APP", help="Only in this app; several times for several.")
@click.option(
    "--expires",
    type=KindType(duration(1, _TEN_YEARS)),
    metavar="DURATION",
    help="Time until it is refused, as 90d.  [default: as long as the token in use]",
)
@pass_state
def token_create(state: State, name: str, roles: tuple[str, ...], apps: tuple[str, ...], expires: float | None) -> None:
    """Make a token, no mightier than the one in use. It cannot be shown again."""
    check_name(name, "token name")
    for app in apps:
        check_app(app)

    async def work() -> dict[str, Any]:
        async with state.client() as client:
            return await client.create_token(name, list(dict.fromkeys(roles)), list(apps) or None, expires)

    made = run(work())
    if state.json:
        state.emit(made)
        return
    click.echo(value(made, "token"))
    note(f"{name}: {_roles(made)} in {_apps(made)}, {_expiry(made)}. Keep it: it cannot be shown again.")


@token.command("ls")
@pass_state
def token_ls(state: State) -> None:
    """List tokens without showing them."""

    async def work() -> list[dict[str, Any]]:
        async with state.client() as client:
            return await client.tokens()

    views = run(work())
    if state.json:
        for view in views:
            state.emit(view)
        return
    rows = (
        (
            value(view, "name"),
            value(view, "id"),
            _roles(view),
            _apps(view),
            _expiry(view),
            ago(view.get("created_at")),
            value(view, "created_by"),
        )
        for view in views
    )
    table(("NAME", "ID", "ROLES", "APPS", "EXPIRES", "CREATED", "BY"), rows)


@token.command("revoke")
@click.argument("names", nargs=-1, required=True, metavar="NAME|ID...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_state
def token_revoke(state: State, names: tuple[str, ...], yes: bool) -> None:
    """End tokens: they are refused from now on."""
    for name in names:
        check_name(name, "token")
    confirm(f"Revoke {', '.join(names)}?", yes=yes)

    async def work() -> None:
        async with state.client() as client:
            for name in names:
                view = await client.revoke_token(name)
                if state.json:
                    state.emit(view)
                else:
                    click.echo(f"revoked {value(view, 'name')} ({value(view, 'id')})")

    run(work())


def _roles(view: dict[str, Any]) -> str:
    return ",".join(view.get("roles") or []) or "-"


def _apps(view: dict[str, Any]) -> str:
    apps = view.get("apps")
    return "all apps" if apps is None else ",".join(apps)


def _expiry(view: dict[str, Any]) -> str:
    until = view.get("expires_at")
    if not isinstance(until, int | float):
        return "never expires"
    return f"until {moment(until)}" if until > time.time() else "expired"
