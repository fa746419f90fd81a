"""`faas secrets`: values go in, and never come out again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from faas.cli.commands.functions import confirm
from faas.cli.output import ago, table, value
from faas.cli.state import Group, State, pass_state, run
from faas.errors import Invalid, TooLarge
from faas.kinds import variable_name
from faas.names import DEFAULT_APP, check_app
from faas.units import show_size

VALUE_MAX = 64 * 1024
"""Most bytes of a value."""

_APP = click.Option(
    ["--app"], default=DEFAULT_APP, show_default=True, metavar="APP", help="App whose functions may use it."
)


@click.group("secrets", cls=Group)
def secrets() -> None:
    """Set, list and remove secrets. A function gets those it names with --secret."""


@secrets.command("set", params=[_APP])
@click.argument("name")
@click.argument("source", required=False, metavar="[@FILE|-]")
@pass_state
def secrets_set(state: State, name: str, source: str | None, app: str) -> None:
    """Store a secret.

    The value is asked for, or read from standard input (without its last line end) or from a file (as it is).
    """
    _check(app, name)
    content = _value(name, source)

    async def work() -> None:
        async with state.client() as client:
            await client.set_secret(app, name, content)

    run(work())
    if state.json:
        state.emit({"app": app, "name": name})
    else:
        click.echo(f"set {name} in app {app}; instances started from now on get it")


@secrets.command("ls")
@click.option("--app", default="", metavar="APP", help="Only secrets of this app.")
@pass_state
def secrets_ls(state: State, app: str) -> None:
    """List names of secrets, never values."""

    async def work() -> list[dict[str, Any]]:
        async with state.client() as client:
            return await client.secrets(app)

    views = run(work())
    if state.json:
        for view in views:
            state.emit(view)
        return
    rows = ((value(view, "name"), value(view, "app"), ago(view.get("updated_at"))) for view in views)
    table(("NAME", "APP", "UPDATED"), rows)


@secrets.command("rm", params=[_APP])
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_state
def secrets_rm(state: State, names: tuple[str, ...], app: str, yes: bool) -> None:
    """Remove secrets. Versions that name them cannot start afterwards."""
    for name in names:
        _check(app, name)
    confirm(f"Remove {', '.join(names)} from app {app}?", yes=yes)

    async def work() -> None:
        async with state.client() as client:
            for name in names:
                await client.delete_secret(app, name)
                if state.json:
                    state.emit({"app": app, "removed": name})
                else:
                    click.echo(f"removed {name}")

    run(work())


def _check(app: str, name: str) -> None:
    check_app(app)
    try:
        variable_name(name)
    except ValueError as error:
        raise Invalid(f"{error}", hint="A secret becomes an environment variable of that name.") from error


def _value(name: str, source: str | None) -> str:
    """The value from where it was said to be; never from the command line itself."""
    if source not in (None, "-") and not str(source).startswith("@"):
        raise Invalid(
            "a value on the command line ends up in the shell's history and in the list of processes",
            hint=f"Write: faas secrets set {name} (and type it), or - for standard input, or @FILE.",
        )
    if source is None and sys.stdin.isatty():
        return str(click.prompt(f"Value of {name}", hide_input=True, err=True))
    content = _file(Path(source[1:])) if source and source != "-" else _stdin()
    if len(content) > VALUE_MAX:
        raise TooLarge(f"the value of {name} is larger than {show_size(VALUE_MAX)}")
    if not content:
        raise Invalid(f"the value of {name} is empty", hint="Use `faas secrets rm` to remove a secret.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Invalid(f"the value of {name} is not UTF-8 text", hint="Encode it, for example with base64.") from None
    if "\0" in text:
        raise Invalid(f"the value of {name} holds a NUL character", hint="Encode it, for example with base64.")
    return text


def _stdin() -> bytes:
    content = sys.stdin.buffer.read(VALUE_MAX + 2)
    return content.removesuffix(b"\n").removesuffix(b"\r")


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(VALUE_MAX + 1)
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", hint="Give @FILE with a file's path.") from error
