"""`faas up`, `doctor`, `status` and `nodes`: the platform itself."""

from __future__ import annotations

from typing import Any

import click

from faas.cli.exits import OK, PLATFORM
from faas.cli.options import node_arguments, node_options
from faas.cli.output import ago, facts, size, table, value
from faas.cli.replace import become
from faas.cli.state import Command, Group, State, pass_state, run
from faas.errors import Invalid
from faas.units import parse_duration

View = dict[str, Any]


@click.command("up", params=node_options())
def up(**flags: Any) -> None:
    """Start a node and stay with it until Ctrl-C.

    Every flag also has a variable (`--data-dir` is FAAS_DATA_DIR) and a key in /etc/faas/faas.toml.
    """
    become("faas.serve", *node_arguments(flags))


@click.command("doctor", cls=Command)
@pass_state
def doctor(state: State) -> None:
    """Check this machine: engine, Redis, folders, limits. Says how to fix what is wrong."""
    become("faas.doctor", *(["--json"] if state.json else []))


@click.command("status", cls=Command)
@pass_state
def status(state: State) -> int:
    """Show whether the node is well. Ends with 3 when it is not reachable or its Redis does not answer."""

    async def work() -> tuple[str, View]:
        async with state.client() as client:
            return client.url, await client.status()

    url, view = run(work())
    redis: View = view.get("redis") or {}
    if state.json:
        state.emit(view)
    else:
        facts(_status(url, view, view.get("node") or {}, redis))
    return OK if redis.get("ok", True) else PLATFORM


def _status(url: str, view: View, node: View, redis: View) -> list[tuple[str, object]]:
    instances = view.get("instances") or {}
    states = ", ".join(f"{count} {name}" for name, count in instances.items() if count)
    health = "ok" if redis.get("ok") else "does not answer"
    durable = "" if redis.get("durable", True) else ", not durable"
    return [
        ("node", f"{value(node, 'name')} ({value(node, 'id')})"),
        ("url", url),
        ("version", view.get("version")),
        ("driver", node.get("driver")),
        ("draining", "yes" if node.get("draining") else ""),
        ("started", ago(node.get("started_at")) + " ago" if node.get("started_at") else ""),
        ("memory", f"{size(node.get('memory_used'))} of {size(node.get('memory'))}"),
        ("functions", view.get("functions")),
        ("instances", states or "none"),
        ("redis", f"{value(redis, 'url', 'embedded')} {health}{durable}"),
        ("finding", redis.get("finding")),
    ]


@click.group("nodes", cls=Group)
def nodes() -> None:
    """The nodes of the cluster, and taking them out of service."""


@nodes.command("ls")
@pass_state
def nodes_ls(state: State) -> None:
    """List nodes with their room."""

    async def work() -> list[View]:
        async with state.client() as client:
            return await client.nodes()

    views = run(work())
    if state.json:
        for view in views:
            state.emit(view)
        return
    heads = ("NAME", "URL", "VERSION", "DRIVER", "INSTANCES", "MEMORY", "SEEN", "STATE")
    table(heads, (_row(view) for view in views))


@nodes.command("drain")
@click.argument("node")
@click.option("--grace", default="10s", metavar="TIME", show_default=True, help="How long it still takes calls.")
@pass_state
def nodes_drain(state: State, node: str, grace: str) -> None:
    """Take a node out of service: it finishes what it has. It is so until `faas nodes undrain`, also after a restart.

    It says at once that it is not ready, and refuses calls after the grace: longer than a balancer needs to notice.
    """
    try:
        grace_s = parse_duration(grace)
    except ValueError as error:
        raise Invalid(f"--grace: {error}") from None

    async def work() -> View:
        async with state.client() as client:
            return await client.drain_node(node, grace_s)

    _changed(state, run(work()), "is being drained")


@nodes.command("undrain")
@click.argument("node")
@pass_state
def nodes_undrain(state: State, node: str) -> None:
    """Put a node back into service."""

    async def work() -> View:
        async with state.client() as client:
            return await client.undrain_node(node)

    _changed(state, run(work()), "takes calls again")


def _changed(state: State, view: View, text: str) -> None:
    if state.json:
        state.emit(view)
    else:
        click.echo(f"{value(view, 'name')} {text}")


def _row(view: View) -> tuple[object, ...]:
    return (
        value(view, "name"),
        value(view, "url"),
        value(view, "version"),
        value(view, "driver"),
        value(view, "instances", "0"),
        f"{size(view.get('memory_used'))}/{size(view.get('memory'))}",
        ago(view.get("seen_at")),
        "draining" if view.get("draining") else "ready",
    )
