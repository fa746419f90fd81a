"""How many background calls this node may take now, by function.

Free slots, what one more instance would have, and a little ahead; nothing of what is paused, cannot be started here,
or was refused a moment ago. What is said here is a wish: the queue gives at most that much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from faas.model import Function
from faas.node.dispatcher import Dispatcher
from faas.node.pool import Pool
from faas.store.queue.model import Want
from faas.store.queue.queue import MOST

LEASE_S = 10.0
AHEAD_S = 0.020
"""Seconds of work taken beyond the free slots."""
AHEAD_MAX = 64
COLD_ROOM = 1
"""Jobs taken for a function that has no instance here: enough to start one."""
HELD_MAX = 2_048
"""Background calls a node holds at most, over all functions."""
HELD_BYTES = 256 * 1024 * 1024
"""Bytes of their inputs at which no more are taken."""
TAKE_BYTES = 8 * 1024 * 1024
_OFF_S = (0.05, 2.0)
"""First and longest time that a function is left alone after a refusal."""


class Rooms:
    """Watches pools and refusals. Plain and synchronous."""

    def __init__(
        self,
        node_id: str,
        dispatcher: Dispatcher,
        functions: Callable[[], Mapping[str, Function]],
        clock: Callable[[], float],
    ) -> None:
        """
        Args:
            functions: the registry's present ones by APP/NAME; a new mapping at each change.
            clock: seconds, such as the loop's time.
        """
        self._node_id = node_id
        self._dispatcher = dispatcher
        self._functions = functions
        self._clock = clock
        self._seen: Mapping[str, Function] | None = None
        self._shut: dict[str, int] = {}
        self._limits: dict[str, int] = {}
        self._off: dict[str, tuple[float, float]] = {}
        """Function -> until when it is left alone, and for how long."""

    def want(self, held: int, held_bytes: int) -> Want | None:
        """What to ask the queue for; None when nothing fits."""
        most = min(MOST, HELD_MAX - held)
        if most <= 0 or held_bytes >= HELD_BYTES or self._dispatcher.closing or self._dispatcher.leaving:
            return None
        self._follow()
        rooms: dict[str, int] = {}
        for pool in self._dispatcher.pools.values():
            if pool.retired_at is None:
                key = pool.id.function.key
                rooms[key] = rooms.get(key, 0) + room_of(pool)
        rooms.update(self._shut)
        rooms.update(dict.fromkeys(self._left_alone(), 0))
        return Want(
            node=self._node_id,
            most=most,
            lease_s=LEASE_S,
            most_bytes=TAKE_BYTES,
            each=COLD_ROOM,
            rooms=rooms,
            limits=self._limits,
        )

    def refused(self, function: str) -> float:
        """Its job could not begin here: leave the function alone for the seconds returned, longer at each time."""
        _, before_s = self._off.get(function, (0.0, 0.0))
        off_s = min(_OFF_S[1], max(_OFF_S[0], before_s * 2))
        self._off[function] = (self._clock() + off_s, off_s)
        return off_s

    def began(self, function: str) -> None:
        """A job of it ran: refusals of before are forgotten."""
        if self._off:
            self._off.pop(function, None)

    def _left_alone(self) -> list[str]:
        if not self._off:
            return []
        now = self._clock()
        # Kept a while after its end, so that the next refusal knows how long the last one was.
        self._off = {fn: off for fn, off in self._off.items() if now < off[0] + _OFF_S[1]}
        return [fn for fn, (until, _) in self._off.items() if now < until]

    def _follow(self) -> None:
        """What follows from the registry alone, computed once a change."""
        functions = self._functions()
        if functions is self._seen:
            return
        self._seen = functions
        self._shut = {key: 0 for key, function in functions.items() if function.paused}
        self._limits = {
            key: live.settings.max_in_flight
            for key, function in functions.items()
            if (live := function.live()) is not None and live.settings.max_in_flight
        }


def room_of(pool: Pool) -> int:
    """Jobs that one pool could begin now or within AHEAD_S."""
    if pool.backing_off:
        return 0
    room = pool.free + ahead(pool.service_s, pool.slots, len(pool.instances))
    if len(pool.instances) + pool.starting < pool.max:
        room += pool.slots
    return max(0, min(room - pool.waiting, AHEAD_MAX + pool.free))


def ahead(service_s: float | None, slots: int, instances: int) -> int:
    """Jobs that take AHEAD_S together. service_s: of one, smoothed; None: not known."""
    if not service_s or not instances:
        return 0
    return min(AHEAD_MAX, int(AHEAD_S / service_s * slots * instances))
