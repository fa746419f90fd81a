"""Which instances still answer. Counted in beats, the reaper's seconds, so that a node that was held up blames itself.

Two questions, because one cannot stand for the other:

    control   the supervisor, always: it never runs user code
    data      the process that runs user code, whenever it reads: in modes `async` and `threads` always, in mode
              `sync` between calls (a call that hangs there is ended by its deadline). With a `healthz` it runs that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from faas.node.lifecycle import State
from faas.wire import messages as m

if TYPE_CHECKING:
    from faas.node.instance import Instance

PING_BEATS = 3
"""Beats between pings."""
LIMIT_BEATS = 7
"""Beats without an answer after which an instance counts as hung."""


class Pulse:
    """Beats since the unanswered PING on each connection; None: none is on its way."""

    __slots__ = ("control", "data")

    def __init__(self) -> None:
        self.control: int | None = None
        self.data: int | None = None


def supervisor_answers(instance: Instance, beats: int) -> bool:
    """One beat of the control connection. False: it counts as hung."""
    pulse = instance.pulse
    if pulse.control is not None:
        pulse.control += 1
        return pulse.control < LIMIT_BEATS
    if beats % PING_BEATS == 0:
        pulse.control = 0
        instance.link.send_control(m.ping(beats))
    return True


def child_answers(instance: Instance, beats: int) -> bool:
    """One beat of the data connection. False: it counts as hung."""
    pulse = instance.pulse
    reads = instance.state is State.READY and instance.link.alive and not instance.killed
    if not reads or instance.hung:
        pulse.data = None
    elif instance.info.get("mode") == "sync" and instance.calls:
        pass  # it reads again when the call has ended
    elif pulse.data is not None:
        pulse.data += 1
        return pulse.data < LIMIT_BEATS
    elif beats % PING_BEATS == 0:
        pulse.data = 0
        instance.link.send(m.ping(beats))
    return True
