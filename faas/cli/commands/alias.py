"""`faas alias`: names for versions, and shares of calls over several."""

from __future__ import annotations

import re
from typing import Any

import click

from faas.cli.commands.functions import confirm
from faas.cli.output import table
from faas.cli.state import Group, State, pass_state, run
from faas.errors import Invalid
from faas.names import check_alias, parse_function

_SHARE = re.compile(r"@?(\d{1,9})(?:=(\d{1,3})%?)?", re.ASCII)


@click.group("alias", cls=Group)
def alias() -> None:
    """Point names at versions. `live` is what plain calls use; call others as NAME@ALIAS."""


@alias.command("ls")
@click.argument("name")
@pass_state
def alias_ls(state: State, name: str) -> None:
    """List a function's aliases."""
    label = str(parse_function(name))

    async def work() -> dict[str, Any]:
        async with state.client() as client:
            return await client.function(label)

    aliases: dict[str, dict[str, int]] = run(work()).get("aliases") or {}
    if state.json:
        for known, weights in aliases.items():
            state.emit({"name": label, "alias": known, "weights": weights})
        return
    table(("ALIAS", "VERSIONS"), ((known, _shown(weights)) for known, weights in sorted(aliases.items())))


@alias.command("set")
@click.argument("name")
@click.argument("alias")
@click.argument("shares", nargs=-1, required=True, metavar="VERSION | VERSION=PERCENT...")
@pass_state
def alias_set(state: State, name: str, alias: str, shares: tuple[str, ...]) -> None:
    """Point an alias at a version, or at several by percent.

    \b
    faas alias set hello stable 3
    faas alias set hello live 3=90 4=10
    """
    label, weights = str(parse_function(name)), parse_shares(shares)
    check_alias(alias)

    async def work() -> None:
        async with state.client() as client:
            await client.set_alias(label, alias, weights)

    run(work())
    shown = {str(number): percent for number, percent in weights.items()}
    if state.json:
        state.emit({"name": label, "alias": alias, "weights": shown})
    else:
        click.echo(f"{label}: {alias} -> {_shown(shown)}")


@alias.command("rm")
@click.argument("name")
@click.argument("aliases", nargs=-1, required=True, metavar="ALIAS...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_state
def alias_rm(state: State, name: str, aliases: tuple[str, ...], yes: bool) -> None:
    """Remove aliases; the versions stay."""
    label = str(parse_function(name))
    for known in aliases:
        check_alias(known)
    confirm(f"Remove {', '.join(f'{label}@{known}' for known in aliases)}?", yes=yes)

    async def work() -> None:
        async with state.client() as client:
            for known in aliases:
                await client.delete_alias(label, known)
                if state.json:
                    state.emit({"name": label, "removed": known})
                else:
                    click.echo(f"removed {label}@{known}")

    run(work())


def parse_shares(texts: tuple[str, ...]) -> dict[int, int]:
    """`3` is all of version 3; `3=90 4=10` are percent that sum to 100. Raises Invalid naming the rule."""
    weights: dict[int, int] = {}
    for text in texts:
        found = _SHARE.fullmatch(text)
        if found is None or (found[2] is None and len(texts) > 1):
            raise Invalid(
                f'"{text[:80]}" is not a share', hint="Write one version, such as 3, or several, such as 3=90 4=10."
            )
        if int(found[1]) in weights:
            raise Invalid(f"version {found[1]} is given twice", hint="Give each version once.")
        weights[int(found[1])] = 100 if found[2] is None else int(found[2])
    if (total := sum(weights.values())) != 100:
        raise Invalid(f"the shares sum to {total}; they must sum to 100", hint="Such as: 3=90 4=10.")
    return weights


def _shown(weights: dict[str, int]) -> str:
    if len(weights) == 1:
        return f"@{next(iter(weights))}"
    return " + ".join(f"@{number} {percent}%" for number, percent in weights.items())
