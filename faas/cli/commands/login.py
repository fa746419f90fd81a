"""`faas login` and `faas contexts`: nodes this user works with."""

from __future__ import annotations

import re
import sys
from urllib.parse import urlsplit

import click

from faas.cli.output import note, table
from faas.cli.state import Command, Group, State, pass_state, run
from faas.errors import Invalid
from faas.names import check_name
from faas.sdk.credentials import Context, Contexts, find, load, save


@click.command("login", cls=Command)
@click.argument("address", metavar="URL")
@click.option("--name", default="", metavar="NAME", help="Name to save it under.  [default: made of the host]")
@pass_state
def login(state: State, address: str, name: str) -> None:
    """Save a node's address and token, and use it from now on.

    The token is asked for, or read from standard input (also with --token -). It is tried before it is saved.
    """
    from faas.sdk.client import Client
    from faas.sdk.http import check_url

    url = check_url(address)
    label = check_name(name or _name(url), "context name")
    token = _token(state)

    async def work() -> str:
        async with Client(url, token) as client:
            return str((await client.status()).get("version", ""))

    version = run(work())
    path = save(state.environ, load(state.environ).add(label, Context(url, token)))
    if state.json:
        state.emit({"context": label, "url": url, "version": version})
        return
    click.echo(f"{label}: {url} (version {version}) is used from now on; saved in {path}")
    if state.environ.get("FAAS_URL") or state.environ.get("FAAS_TOKEN"):
        note("note: FAAS_URL or FAAS_TOKEN is set and is stronger than a saved context")


@click.group("contexts", cls=Group)
def contexts() -> None:
    """List, choose and remove saved nodes."""


@contexts.command("ls")
@pass_state
def contexts_ls(state: State) -> None:
    """List saved nodes; * marks the one in use. Tokens are not shown."""
    found: Contexts = load(state.environ)
    if state.json:
        for name, context in sorted(found.saved.items()):
            state.emit({"name": name, "url": context.url, "current": name == found.current})
        return
    rows = (("*" if name == found.current else "", name, context.url) for name, context in sorted(found.saved.items()))
    table(("", "NAME", "URL"), rows)
    used = find(state.environ, url=state.url, token=state.token, context=state.context)
    note(f"commands go to {used.url}; token: {used.source}")


@contexts.command("use")
@click.argument("name")
@pass_state
def contexts_use(state: State, name: str) -> None:
    """Use a saved node from now on."""
    chosen = load(state.environ).use(name)
    save(state.environ, chosen)
    _done(state, "current", name, f"{name}: {chosen.get(name).url} is used from now on")


@contexts.command("rm")
@click.argument("name")
@pass_state
def contexts_rm(state: State, name: str) -> None:
    """Forget a saved node and its token. The token itself stays valid on the node."""
    save(state.environ, load(state.environ).remove(name))
    _done(state, "removed", name, f"forgot {name}")


def _done(state: State, key: str, name: str, text: str) -> None:
    if state.json:
        state.emit({key: name})
    else:
        click.echo(text)


def _name(url: str) -> str:
    """A context's name made of the host: `https://faas.example.org` becomes `faas-example-org`."""
    return re.sub(r"[^a-z0-9]+", "-", (urlsplit(url).hostname or "").lower()).strip("-")[:63].rstrip("-")


def _token(state: State) -> str:
    """From --token, from standard input, or typed."""
    if state.token and state.token != "-":  # noqa: S105
        return state.token
    if sys.stdin.isatty() and not state.token:
        token = str(click.prompt("Token", hide_input=True, err=True)).strip()
    else:
        token = sys.stdin.readline(4096).strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Invalid("no token was given", hint="Type it, or: faas login URL < FILE-WITH-TOKEN.")
    return token
