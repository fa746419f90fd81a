"""The root of the command line: a table of commands whose modules are imported on use."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import click

from faas.cli.state import Group, global_options


class Entry(NamedTuple):
    """A command: module under `faas.cli.commands`, the command's name in it, and its line in the help."""

    module: str
    attribute: str
    help: str


COMMANDS: dict[str, Entry] = {
    "up": Entry("node", "up", "Start a node on this machine."),
    "status": Entry("node", "status", "Show whether the node is well."),
    "doctor": Entry("node", "doctor", "Check this machine and say how to fix what is wrong."),
    "push": Entry("push", "push", "Put a file or folder live as a function."),
    "invoke": Entry("invoke", "invoke", "Call a function and print its reply."),
    "ls": Entry("functions", "ls", "List functions."),
    "show": Entry("functions", "show", "Show one function."),
    "invocations": Entry("invocations", "invocations", "List, await, cancel and repeat background calls."),
    "dlq": Entry("dlq", "dlq", "Look at dead letters, run them again, or forget them."),
    "explain": Entry("explain", "explain", "Tell what became of a background call, and what to do."),
    "logs": Entry("logs", "logs", "Print or follow a function's log."),
    "rm": Entry("functions", "rm", "Remove functions."),
    "scale": Entry("functions", "scale", "Set a function's instances by hand."),
    "versions": Entry("versions", "versions", "List a function's versions."),
    "diff": Entry("diff", "diff", "Compare two versions of a function."),
    "rollback": Entry("versions", "rollback", "Put an earlier version live again."),
    "rollout": Entry("rollout", "rollout", "Move calls to a new version step by step."),
    "alias": Entry("alias", "alias", "Point names at versions."),
    "pause": Entry("apps", "pause", "Refuse calls to a function."),
    "resume": Entry("apps", "resume", "Let a function take calls again."),
    "apps": Entry("apps", "apps", "List apps and change their functions together."),
    "secrets": Entry("secrets", "secrets", "Set, list and remove secrets."),
    "token": Entry("token", "token", "Make, list and revoke tokens."),
    "audit": Entry("audit", "audit", "Show who changed what."),
    "runtimes": Entry("runtimes", "runtimes", "List and build runtimes."),
    "nodes": Entry("node", "nodes", "List the nodes of the cluster."),
    "login": Entry("login", "login", "Save a node's address and token."),
    "contexts": Entry("login", "contexts", "List, choose and remove saved nodes."),
    "schema": Entry("misc", "schema", "Print the JSON Schema of faas.toml."),
    "completion": Entry("misc", "completion", "Print the shell's completion script."),
}
ALIASES = {"deploy": "push", "list": "ls", "describe": "show", "remove": "rm"}


class Root(Group):
    """`faas`. Help needs only the table; a command's module is imported when it is named."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Names in the order of the table: the way a day goes."""
        return list(COMMANDS)

    def known_names(self, context: click.Context) -> list[str]:
        """Commands and aliases."""
        return [*COMMANDS, *ALIASES]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import the command's module; None when there is no such command."""
        entry = COMMANDS.get(ALIASES.get(name, name))
        if entry is None:
            return None
        command: click.Command = getattr(import_module(f"faas.cli.commands.{entry.module}"), entry.attribute)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])
        names = ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items())
        with formatter.section("Also understood"):
            formatter.write_text(names)


def _version(context: click.Context, _: click.Parameter, value: Any) -> None:
    if value and not context.resilient_parsing:
        from faas import __version__

        click.echo(f"faas {__version__}")
        context.exit()


root = Root(
    "faas",
    help="Functions as a service on your own machines.\n\nStart a node with `faas up`, then `faas push hello.py`.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        *global_options(),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Print the version.",
        ),
    ],
)
