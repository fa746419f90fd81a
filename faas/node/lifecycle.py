"""States of an instance, the moves between them, and who is told: see the picture in `instance.py`."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Protocol

from faas.errors import FaasError
from faas.wire import messages as m

if TYPE_CHECKING:
    from faas.node.instance import Instance


class State(enum.Enum):
    STARTING = "starting"
    STEM = "stem"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    DRAINING = "draining"
    DEAD = "dead"


MOVES = {
    State.STARTING: {State.STEM, State.DEAD},
    State.STEM: {State.LOADING, State.RESTARTING, State.DEAD},
    State.LOADING: {State.READY, State.DEAD},
    State.READY: {State.RESTARTING, State.DRAINING, State.DEAD},
    State.RESTARTING: {State.STEM, State.LOADING, State.DEAD},
    State.DRAINING: {State.DEAD},
    State.DEAD: set(),
}


class Owner(Protocol):
    """Who an instance reports to: the pool it works for, or the stem cells."""

    def slot_free(self, instance: Instance, seconds: float) -> None:
        """A call ended after `seconds` and the instance can take another."""

    def retired(self, instance: Instance) -> None:
        """It was to take no more calls, and its last one has ended."""

    def unready(self, instance: Instance, error: FaasError) -> None:
        """Its child died; it takes no calls until `reloaded`. May end the instance."""

    def reloaded(self, instance: Instance) -> None:
        """A new child has loaded the function."""

    def dead(self, instance: Instance, error: FaasError) -> None:
        """It is gone for good and has to be destroyed."""


class Hooks(Protocol):
    """What an instance needs from the node besides its owner."""

    def log(self, instance: Instance, call: str, level: str, time_ms: int, text: str, fields: dict[str, Any]) -> None:
        """The instance printed or logged a line."""

    def lost(self, instance: Instance, reason: str) -> None:
        """The supervisor is gone: find out why, then call `die`."""

    def outgoing(self, instance: Instance, message: m.Message) -> None:
        """A frame of a call that the instance opened (odd stream)."""

    def child_gone(self, instance: Instance) -> None:
        """The child is gone, and with it whoever waits for the calls it opened."""
