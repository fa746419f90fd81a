"""`faas schema` and `faas completion`: help for editors and shells."""

from __future__ import annotations

import json

import click

from faas.cli.state import Command


@click.command("schema", cls=Command)
def schema() -> None:
    """Print the JSON Schema of faas.toml, for editors."""
    from faas.settings import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell's completion script.

    bash: add `eval "$(faas completion bash)"` to ~/.bashrc; zsh: the same in ~/.zshrc; fish:
    `faas completion fish > ~/.config/fish/completions/faas.fish`.
    """
    from click.shell_completion import get_completion_class

    from faas.cli.root import root

    kind = get_completion_class(shell)
    assert kind is not None, "click completes these three shells"
    click.echo(kind(root, {}, "faas", "_FAAS_COMPLETE").source())
