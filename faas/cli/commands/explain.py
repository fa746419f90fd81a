"""`faas explain ID`: what became of a background call, whose fault it is, and what to do next."""

from __future__ import annotations

import time

import click

from faas.cli.output import clean, milliseconds, moment
from faas.cli.state import Command, State, pass_state, run
from faas.cli.story import Story, View, tell


@click.command("explain", cls=Command)
@click.argument("id")
@pass_state
def explain(state: State, id: str) -> None:
    """Tell what became of a background call: phases, attempts, whose fault, next step."""

    async def work() -> View:
        async with state.client() as client:
            return await client.invocation(id)

    story = tell(run(work()), time.time())
    if state.json:
        state.emit({**story._asdict(), "phases": [phase._asdict() for phase in story.phases]})
    else:
        _show(story)


def _show(story: Story) -> None:
    click.echo(f"{story.id} of {story.function}: {clean(story.summary)}")
    if story.fault:
        click.echo(f"fault: {story.fault}")
    click.echo()
    width = max((len(phase.what) for phase in story.phases), default=0)
    for phase in story.phases:
        line = f"  {moment(phase.at)}  {phase.what.ljust(width)}  {milliseconds(phase.ms):>8}  {clean(phase.detail)}"
        click.echo(line.rstrip())
    click.echo("\nnext:")
    for step in story.next:
        click.echo(f"  {clean(step)}")
