"""`faas push`: collect code, upload what the node lacks, and show the push as it happens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from faas.archive import Archive, pack
from faas.cli.options import given_settings, push_options
from faas.cli.output import milliseconds, note, size
from faas.cli.source import Source, Wishes, collect
from faas.cli.state import Command, State, pass_state, run
from faas.errors import FaasError, Invalid, PlatformError, Unavailable
from faas.model import FunctionPush, Push, PushEvent, Requires, to_builtins
from faas.names import LIVE, FunctionName, check_alias
from faas.requirements import check_index
from faas.sdk.problems import from_problem
from faas.settings import show_settings

if TYPE_CHECKING:
    from faas.sdk.client import Client

Apps = dict[str, list[Source]]
CANARY = "canary"
"""Alias of a version that is to take over step by step."""


_PARAMETERS: list[click.Parameter] = [
    click.Argument(["paths"], nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path)),
    click.Option(["--name"], default="", metavar="NAME", help="Name of the function; else the file's or folder's."),
    click.Option(["--app"], default="", metavar="APP", help="App of the functions.  [default: default]"),
    click.Option(["--alias"], default=LIVE, metavar="ALIAS", help="Alias to move; others than live are previews."),
    click.Option(["--canary"], is_flag=True, help="Give it the calls step by step: see faas rollout --help."),
    click.Option(
        ["--index"], default="", metavar="URL", help="Package index to ask first; ${NAME} is a secret of the app."
    ),
    click.Option(["--upgrade"], is_flag=True, help="Take the newest packages that fit, not those of the last push."),
    click.Option(["--dry-run"], is_flag=True, help="Only print what would be pushed."),
    *push_options(),
]


@click.command("push", cls=Command, params=_PARAMETERS)
@pass_state
def push(
    state: State,
    /,
    paths: tuple[Path, ...],
    name: str,
    app: str,
    alias: str,
    canary: bool,
    index: str,
    upgrade: bool,
    dry_run: bool,
    **flags: Any,
) -> None:
    """Put code live: a .py file, a folder, or a folder with a faas.toml.

    Functions of one app go live together or not at all. Settings that are not given have their defaults:
    write them into faas.toml, or into the `# /// script` header of a single file, to keep them.
    """
    check_alias(alias)
    if canary and alias != LIVE:
        raise Invalid(f"--canary given with --alias {alias}", hint="Give one of them.")
    if index:
        check_index(index)
    if name and len(paths) > 1:
        raise Invalid(f"--name given with {len(paths)} paths", hint="Push them one by one, or use a manifest.")
    wishes = Wishes(name, app, given_settings(flags))
    apps = _by_app([source for path in paths for source in collect(path, wishes, state.environ)])
    for remark in dict.fromkeys(r for sources in apps.values() for s in sources for r in s.notes):
        note(f"note: {remark}")
    archives = _pack(apps)
    if dry_run:
        _show_plan(state, apps, archives, CANARY if canary else alias)
    else:
        run(_push(state, apps, archives, _Terms(alias, index, upgrade, canary)))


def _by_app(sources: list[Source]) -> Apps:
    apps: Apps = {}
    for source in sources:
        mates = apps.setdefault(source.app, [])
        if any(mate.name == source.name for mate in mates):
            label = FunctionName(source.app, source.name)
            raise Invalid(f'two of the paths are the function "{label}"', hint="Rename one, or give it another app.")
        mates.append(source)
    return apps


def _pack(apps: Apps) -> dict[int, Archive]:
    """One archive for each set of files, by the identity of the set: functions of a folder share theirs."""
    sets = {id(source.files): source.files for sources in apps.values() for source in sources}
    return {key: pack(files) for key, files in sets.items()}


class _Terms(NamedTuple):
    """What is said about a push as a whole."""

    alias: str
    package_index: str
    upgrade: bool
    canary: bool


async def _push(state: State, apps: Apps, archives: Mapping[int, Archive], terms: _Terms) -> None:
    async with state.client() as client:
        for archive in {archive.digest: archive for archive in archives.values()}.values():
            await _upload(state, client, archive)
        for app, sources in apps.items():
            if not terms.canary:
                await _push_app(state, client, app, sources, archives, terms)
                continue
            old, new = await _by_life(client, app, sources)
            if new:  # nothing to compare with: live at once
                await _push_app(state, client, app, new, archives, terms)
            if old:
                await _push_app(state, client, app, old, archives, terms._replace(alias=CANARY))
                for source in old:
                    await _begin_rollout(state, client, str(FunctionName(app, source.name)))


async def _by_life(client: Client, app: str, sources: list[Source]) -> tuple[list[Source], list[Source]]:
    """Those with a live version, and those without."""
    live = {view.get("function") for view in await client.functions(app) if view.get("live")}
    return [one for one in sources if one.name in live], [one for one in sources if one.name not in live]


async def _begin_rollout(state: State, client: Client, label: str) -> None:
    view = await client.start_rollout(label, {})
    if state.json:
        state.emit(view)
    else:
        click.echo(
            f"{label}@{view.get('version')} gets {view.get('share')}% of calls; see: faas rollout status {label}"
        )


async def _push_app(
    state: State, client: Client, app: str, sources: list[Source], archives: Mapping[int, Archive], terms: _Terms
) -> None:
    functions = [
        FunctionPush(
            name=source.name,
            code=archives[id(source.files)].digest,
            settings=source.settings,
            requires=Requires(requirements=source.requirements, index=terms.package_index)
            if source.requirements
            else None,
        )
        for source in sources
    ]
    events = client.push(app, Push(functions=functions, alias=terms.alias, upgrade=terms.upgrade))
    async with aclosing(events):  # type: ignore[type-var]
        await _follow(state, events)


async def _upload(state: State, client: Client, archive: Archive) -> None:
    """Send the archive unless the node has it."""
    if await client.has_bundle(archive.digest):
        return
    began = time.monotonic()
    await client.put_bundle(archive.digest, archive.data)
    if not state.json:
        spent = milliseconds((time.monotonic() - began) * 1000)
        click.echo(f"uploaded {size(len(archive.data))} in {spent}")


async def _follow(state: State, events: AsyncIterator[PushEvent]) -> None:
    """Show events until the last. Raises the error of a push that failed."""
    async for event in events:
        if state.json:
            state.emit(to_builtins(event))
        elif line := _line(event):
            click.echo(line)
        if event.phase == "failed":
            raise _failure(event)
        if event.phase == "done":
            return
    raise Unavailable(
        "the node ended the push without saying how it went",
        hint="`faas versions NAME` tells what is live; pushing again is safe.",
    )


def _failure(event: PushEvent) -> FaasError:
    if event.error is None:
        return PlatformError(event.message or "the push failed and the node gave no reason")
    error = from_problem(event.error)
    if event.function:
        error.message = f"{event.function}: {error.message}"
    if not error.hint:
        error.hint = "Nothing was changed: what was live still is."
    return error


def _line(event: PushEvent) -> str:
    """One line for people; empty for events that say nothing to them."""
    if event.phase in ("done", "failed"):
        return ""
    named = f"{event.function}@{event.version}" if event.version else event.function
    if event.phase == "unchanged":
        return f"unchanged: {named} is already this"
    if event.phase in ("live", "preview"):
        return f"{click.style(event.phase, fg='green')} {named} {event.url}".rstrip()
    spent = f" {milliseconds(event.ms)}" if event.ms else ""
    remark = f" ({event.message})" if event.message else ""
    return f"{named} {event.phase}{spent}{remark}"


def _show_plan(state: State, apps: Apps, archives: Mapping[int, Archive], alias: str) -> None:
    """What a push would send, without asking the node."""
    for sources in apps.values():
        for source in sources:
            archive = archives[id(source.files)]
            plan = {
                "function": str(FunctionName(source.app, source.name)),
                "app": source.app,
                "alias": alias,
                "code": archive.digest,
                "bytes": len(archive.data),
                "files": sorted(source.files),
                "requirements": source.requirements.splitlines(),
                "settings": show_settings(source.settings),
            }
            if state.json:
                state.emit(plan)
                continue
            count = f"{len(source.files)} file" + ("s" if len(source.files) > 1 else "")
            click.echo(f"would push {plan['function']} to {alias}: {count}, {size(plan['bytes'])}")
            for path in sorted(source.files)[:50]:
                click.echo(f"  {path}")
            if len(source.files) > 50:
                click.echo(f"  and {len(source.files) - 50} more")
            for line in source.requirements.splitlines()[:50]:
                click.echo(f"  needs {line[:100]}")
            for key, shown in show_settings(source.settings).items():
                click.echo(f"  {key} = {shown}")
