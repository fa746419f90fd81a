"""What every command shares: the global flags, where output goes, and a client for the chosen node."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from faas.sdk.client import Client
    from faas.sdk.credentials import Credentials

T = TypeVar("T")


@dataclass(slots=True)
class State:
    """The global flags of one run, filled while the command line is parsed."""

    json: bool = False
    url: str = ""
    token: str = ""
    context: str = ""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def credentials(self) -> Credentials:
        """The node and token in use. `--token -` reads the token from standard input once. Raises FaasError."""
        from faas.sdk.credentials import find

        if self.token == "-":  # noqa: S105
            self.token = sys.stdin.readline().strip()
        return find(self.environ, url=self.url, token=self.token, context=self.context)

    def client(self) -> Client:
        """A client for that node; an async context manager."""
        from faas.sdk.client import Client

        found = self.credentials()
        return Client(found.url, found.token)

    def emit(self, document: Any) -> None:
        """One JSON document on a line of standard output."""
        click.echo(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end; Ctrl-C cancels it and surfaces as KeyboardInterrupt."""
    import asyncio

    return asyncio.run(work)


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.ensure_object(State), name, value)

    return callback


def global_options() -> list[click.Option]:
    """The flags that every command takes, before or after its name."""
    shared: dict[str, Any] = {"expose_value": False}
    return [
        click.Option(
            ["--json"], is_flag=True, help="Print JSON, one document a line.", callback=_keep("json"), **shared
        ),
        click.Option(["--url"], metavar="URL", help="Address of the node.", callback=_keep("url"), **shared),
        click.Option(
            ["--token"], help="Token to send; - reads it from standard input.", callback=_keep("token"), **shared
        ),
        click.Option(["--context"], metavar="NAME", help="Saved node to use.", callback=_keep("context"), **shared),
    ]


class Command(click.Command):
    """A command that also takes the global flags."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(global_options())


class Group(click.Group):
    """A family of commands; a wrong name gets the closest one."""

    command_class = Command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command named first. Raises UsageError naming the closest."""
        name = args[0]
        if not name.startswith("-") and self.get_command(context, name) is None:
            from faas.errors import did_you_mean

            known = self.list_commands(context)
            hint = did_you_mean(name, self.known_names(context)) or f"Commands: {', '.join(known)}."
            raise click.UsageError(f'there is no command "{name}". {hint}', context)
        return super().resolve_command(context, args)

    def known_names(self, context: click.Context) -> list[str]:
        """What a wrong name is compared with."""
        return self.list_commands(context)


pass_state = click.make_pass_decorator(State, ensure=True)
