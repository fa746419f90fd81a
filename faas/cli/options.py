"""Flags made from the settings tables, so that a new row is a new flag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from faas.config import CONFIG
from faas.kinds import Kind
from faas.settings import SETTINGS


class KindType(click.ParamType):  # type: ignore[type-arg]  # generic only in new versions
    """A kind of value as click knows it."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = kind.name

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """The parsed value; a usage error naming value and rule."""
        try:
            return self.kind.parse(value)
        except (ValueError, OverflowError) as error:
            self.fail(str(error), parameter, context)

    def shell_complete(
        self, context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The choices, where there are some."""
        return [CompletionItem(name) for name in self.kind.choices if name.startswith(incomplete)]


def push_options() -> list[click.Parameter]:
    """One flag a function setting."""
    return [_option(row.option, row.key, row.kind, row.doc, _shown(row.kind.show(row.default))) for row in SETTINGS]


def node_options() -> list[click.Parameter]:
    """One flag a node setting."""
    return [_option(row.option, row.key, row.kind, row.doc, _shown(row.default)) for row in CONFIG if row.flag]


def given_settings(values: Mapping[str, Any]) -> dict[str, object]:
    """The settings that were given as flags, by key, as `faas.settings.build_settings` takes them."""
    given: dict[str, object] = {}
    for row in SETTINGS:
        value = values.get(row.key)
        if value is None or value == ():
            continue
        given[row.key] = dict(value) if row.kind.shape == "map" else value
    return given


def node_arguments(values: Mapping[str, Any]) -> list[str]:
    """The flags that were given to `faas up`, for the node's own command line."""
    arguments: list[str] = []
    for row in CONFIG:
        value = values.get(row.key)
        if value is None:
            continue
        if row.kind.shape == "switch":
            arguments.append(row.option if value else row.option.replace("--", "--no-", 1))
        else:
            arguments += [row.option, str(row.kind.show(value))]
    return arguments


def _option(flag: str, key: str, kind: Kind, doc: str, default: str) -> click.Option:
    text = f"{doc}  [default: {default}]" if default else doc
    if kind.shape == "switch":
        return click.Option([f"{flag}/{flag.replace('--', '--no-', 1)}", key], default=None, help=text)
    if kind.shape == "list":
        return click.Option([flag, key], multiple=True, metavar=kind.name, help=f"{doc} May be repeated.")
    if kind.shape == "map":
        return click.Option(
            [flag, key], multiple=True, metavar="NAME=VALUE", callback=_pairs, help=f"{doc} May be repeated."
        )
    return click.Option([flag, key], type=KindType(kind), metavar=kind.name.upper(), help=text)


def _pairs(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """NAME=VALUE, split; a usage error for one without `=`."""
    pairs = []
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f'"{text[:80]}" has no =; write NAME=VALUE', context, parameter)
        pairs.append((name, value))
    return tuple(pairs)


def _shown(default: object) -> str:
    return "" if default in ("", (), [], {}, None) or isinstance(default, bool) else str(default)
