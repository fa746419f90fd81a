"""One instance: from an empty process that connected to a loaded function that takes calls, and to its end.

                 control+data          INIT           READY
    STARTING ------------> STEM ---------> LOADING ---------> READY --------> DRAINING
        |                   |                ^  |               |                 |
        |                   |       new data |  |               | child died      |
        |                   |                RESTARTING <-------+                 |
        |                   |                   |               |                 |
        +-----> DEAD <------+-------------------+---------------+-----------------+

The supervisor's control connection is the instance's life: when it closes, the instance is dead. The data
connection comes and goes with the child; each new child gets INIT again, for the same function.
"""

from __future__ import annotations

import asyncio
from typing import Any

from faas.drivers.api import InstanceSpec
from faas.errors import FaasError, InstanceDied, NotBegun, ProtocolError, Unavailable
from faas.model import VersionId
from faas.node.attempt import Attempt
from faas.node.call import Call, Reply
from faas.node.connection import close_listener
from faas.node.failures import error_from
from faas.node.health import Pulse
from faas.node.lifecycle import MOVES, Hooks, Owner, State
from faas.node.link import Link
from faas.wire import limits
from faas.wire import messages as m

RESTART_S = 60.0
"""Seconds a stem cell may take from the death of its child to the next one."""


class Instance:
    """State and calls of one instance. Synchronous inside: asyncio waits outside, on its futures."""

    def __init__(self, spec: InstanceSpec, hooks: Hooks) -> None:
        self.spec = spec
        self.id = spec.id
        self.hooks = hooks
        self.owner: Owner | None = None
        self.state = State.STARTING
        self.since = asyncio.get_running_loop().time()
        self.capacity = 1
        self.info: dict[str, Any] = {}
        self.calls: dict[int, Attempt] = {}
        self.retiring = False
        """Takes no more calls and is replaced when those it has end."""
        self.killed = False
        """We asked for the end of the present child."""
        self.listener: asyncio.Server | None = None
        self.inside_dir = ""
        self.link = Link(self)
        self.served = 0
        self.idle_since = asyncio.get_running_loop().time()
        self.version_id: VersionId | None = None
        """Whose code it has been given; None for a stem cell."""
        self._next_stream = 2
        self._init: dict[str, Any] | None = None
        self._up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loaded: asyncio.Future[dict[str, Any]] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._overdue: set[int] = set()
        """Streams of calls that should have ended."""
        self._load_s = RESTART_S
        self._reload_timer: asyncio.TimerHandle | None = None
        """Ends it when a new child is not ready in time."""
        self._in_order = False
        self._last_end = 0.0
        self._story: list[str] = []
        self.pulse = Pulse()
        self.hung = False
        """Its child does not answer: it takes no more calls, and another is started in its place."""

    # -- state ---------------------------------------------------------------------------------------------

    def _move(self, state: State) -> None:
        if state not in MOVES[self.state]:
            raise AssertionError(f"{self.id}: {self.state.value} -> {state.value}; before: {' '.join(self._story)}")
        self._story = [*self._story[-9:], f"{self.state.value}({asyncio.get_running_loop().time() - self.since:.3f}s)"]
        self.state = state
        self.since = asyncio.get_running_loop().time()

    @property
    def room(self) -> int:
        """Calls it can take now; below 0 when calls were sent ahead."""
        if not self.is_ready:
            return -1000
        return self.capacity - len(self.calls)

    @property
    def in_order(self) -> bool:
        """It runs calls one after the other, in the order in which they came, and is not being given up."""
        return self._in_order and not self.retiring

    @property
    def is_ready(self) -> bool:
        return self.state is State.READY and self.link.alive and not self.retiring and not self.killed

    @property
    def is_loading(self) -> bool:
        """Its child is being replaced: it will be ready without a start."""
        if self.state is State.READY:
            return self.killed or not self.link.alive
        return self.state in (State.RESTARTING, State.LOADING)

    @property
    def is_idle(self) -> bool:
        return self.is_ready and not self.calls

    # -- what the link reports -----------------------------------------------------------------------------

    def on_connected(self) -> None:
        """Part of `Listener`."""
        if self.state is State.DRAINING:
            return  # the supervisor replaces every child that ends, also one that was asked to
        if self._init is None:
            self._move(State.STEM)
            self._stop_timer()
            if not self._up.done():
                self._up.set_result(None)
            return
        self._send_init()

    def on_control(self, message: m.Message) -> None:
        """Part of `Listener`."""
        kind = message[0]
        if kind == m.LOG:
            self._on_log(message)
        elif kind == m.PONG:
            self.pulse.control = None
        else:
            raise ProtocolError(f"{m.NAMES[kind]} on the control connection")

    def on_data(self, message: m.Message) -> None:
        """Part of `Listener`."""
        kind = message[0]
        if m.REPLY <= kind <= m.CREDIT or kind == m.INVOKE:
            stream = message[1]
            if not isinstance(stream, int):
                raise ProtocolError(f"{m.NAMES[kind]} whose stream is not a number")
            attempt = self.calls.get(stream)
            if attempt is not None:
                attempt.on_frame(message)
            elif stream % 2 == 1:
                self.hooks.outgoing(self, message)
            elif kind != m.CREDIT:  # credit may cross the end of its stream
                raise ProtocolError(f"{m.NAMES[kind]} for a call that is not open")
        elif kind == m.LOG:
            self._on_log(message)
        elif kind == m.CANCEL:
            self.hooks.outgoing(self, message)
        elif kind == m.READY:
            self._on_ready(message[1])
        elif kind == m.INIT_FAILED:
            self._on_init_failed(message[1])
        elif kind == m.DRAINED:
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)
        elif kind == m.PONG:
            self.pulse.data = None
        else:
            raise ProtocolError(f"{m.NAMES[kind]} on the data connection")

    def _on_log(self, message: m.Message) -> None:
        _kind, call, level, time_ms, text, fields = message[:6]
        if not (isinstance(call, str) and isinstance(level, str) and isinstance(time_ms, int)):
            raise ProtocolError("LOG with fields of wrong types")
        self.hooks.log(self, call[:64], level[:16], time_ms, str(text), fields if isinstance(fields, dict) else {})

    def on_lost(self, reason: str) -> None:
        """Part of `Listener`."""
        if self.state is State.DRAINING or not self._up.done():
            self.die(InstanceDied(f"the instance ended: {reason}"))
            return
        self.retiring = True
        self.hooks.lost(self, reason)

    # -- loading -------------------------------------------------------------------------------------------

    async def wait_up(self, timeout_s: float) -> None:
        """Until both connections stand. Raises InstanceDied, or Unavailable after `timeout_s`."""
        try:
            await asyncio.wait_for(asyncio.shield(self._up), timeout_s)
        except TimeoutError:
            raise Unavailable(
                f"the {self.spec.runtime} runtime did not connect within {timeout_s:g} s",
                hint="Look at the runtime's image with `faas doctor`.",
            ) from None

    async def load(self, version: VersionId, init: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Give it its function and wait until it is ready. Returns READY's info.

        Raises:
            StartFailed: the code did not load, or not within `timeout_s`.
            InstanceDied: the process ended while loading.
        """
        self.version_id = version
        self._stop_timer()
        self._load_s = timeout_s
        self._init = init
        self._loaded = asyncio.get_running_loop().create_future()
        if self.state is State.STEM:  # else its child has just died, and the next one gets INIT when it comes
            self._send_init()
        try:
            return await asyncio.wait_for(asyncio.shield(self._loaded), timeout_s)
        except TimeoutError:
            raise error_from(
                {
                    "kind": "start",
                    "message": f"the function was not ready within start_timeout ({timeout_s:g} s)",
                    "hint": "Do less at import, or raise start_timeout.",
                }
            ) from None

    def _send_init(self) -> None:
        assert self._init is not None
        self._move(State.LOADING)
        self.link.send(m.init(self._init))

    def _on_ready(self, info: object) -> None:
        if self.state is not State.LOADING or not isinstance(info, dict):
            raise ProtocolError("READY that was not asked for")
        capacity = info.get("concurrency")
        if not isinstance(capacity, int) or not 1 <= capacity <= 1000:
            raise ProtocolError("READY with a concurrency that is not 1 to 1000")
        self.capacity = capacity
        self.info = info
        self._in_order = info.get("mode") == "sync"
        self.idle_since = asyncio.get_running_loop().time()
        self.killed = False
        self._stop_timer()
        self._move(State.READY)
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_result(info)
        elif self.owner is not None:
            self.owner.reloaded(self)

    def _on_init_failed(self, detail: object) -> None:
        if self.state is not State.LOADING:
            raise ProtocolError("INIT_FAILED that was not asked for")
        error = error_from(detail)
        self.die(error)

    # -- calls ---------------------------------------------------------------------------------------------

    def begin(self, call: Call, future: asyncio.Future[Reply], now: float, timeout_ms: int) -> Attempt:
        """Start `call`. The caller has checked `room`. now: the loop's time."""
        stream = self._next_stream
        self._next_stream = stream + 2
        attempt = Attempt(self, stream, self.link.send, now, future)
        self.calls[stream] = attempt
        attempt.begin(call, timeout_ms)
        return attempt

    def ended(self, attempt: Attempt) -> None:
        del self.calls[attempt.stream]
        self._overdue.discard(attempt.stream)
        self.served += 1
        if self._overdue and self.state is State.READY:
            self._end_overdue()
            return
        if self.state is not State.READY or self.owner is None:
            return
        now = asyncio.get_running_loop().time()
        if not self.calls:
            self.idle_since = now
            if self.retiring:
                self.owner.retired(self)
                return
        if self._in_order:  # it stood behind the one before it
            attempt.began = max(attempt.began, self._last_end)
            self._last_end = now
        # What the handler took by the instance's own clock: on a busy machine the rest is waiting for a core, which
        # more instances would only make longer.
        self.owner.slot_free(self, attempt.run_s or now - attempt.began)

    def cancel(self, attempt: Attempt, reason: str) -> None:
        """Ask the handler to stop; kill what does not within the grace."""
        if attempt.ended:
            return
        message = m.cancel(attempt.stream, reason)
        self.link.send(message)
        if self._in_order:
            self.link.send_control(message)
        asyncio.get_running_loop().call_later(limits.CANCEL_GRACE_MS / 1000, self.overdue, attempt)

    def overdue(self, attempt: Attempt) -> None:
        """The attempt should have ended. Alone: kill the child. Among others: take no more, die when they end."""
        if attempt.ended or self.state is State.DEAD:
            return
        self._overdue.add(attempt.stream)
        self._end_overdue()

    def _end_overdue(self) -> None:
        if self._overdue.issuperset(self.calls):
            self.kill("a call did not end in time")
        else:
            self.retiring = True

    def kill(self, reason: str) -> None:
        """Have the supervisor kill the child; a new child is loaded in its place."""
        self.killed = True
        self.link.send_control(m.kill(reason))

    # -- health and end ------------------------------------------------------------------------------------

    def give_up(self, error: FaasError) -> None:
        """Its child does not answer: end it, or with calls in flight let these have their deadlines first."""
        if not self.calls:
            self.die(error)
            return
        self.hung = self.retiring = True

    async def drain(self, grace_s: float) -> None:
        """Let it finish and run its stop hooks, at most `grace_s`. It is still to be destroyed."""
        if self.state is not State.READY or not self.link.alive:
            return
        self._move(State.DRAINING)
        self._drained = asyncio.get_running_loop().create_future()
        self.link.send(m.drain(int(grace_s * 1000)))
        try:
            await asyncio.wait_for(asyncio.shield(self._drained), grace_s + 0.5)
        except (TimeoutError, FaasError):
            return

    def on_child_ended(self, error: InstanceDied) -> None:
        """Part of `Listener`."""
        if self.state in (State.DEAD, State.DRAINING):
            self._fail_all(error)
            return
        if self.state is State.LOADING:
            self.die(error)
            return
        if self.state in (State.STARTING, State.RESTARTING):
            return  # it died before it had said hello: the supervisor forks another
        was_ready = self.state is State.READY
        self._move(State.RESTARTING)
        if self.retiring:
            self.die(error)
            return
        self._reload_timer = asyncio.get_running_loop().call_later(self._load_s, self._reload_is_late)
        if was_ready and self.owner is not None:
            self.owner.unready(self, error)
        self._fail_all(error)

    def _reload_is_late(self) -> None:
        if self.state in (State.RESTARTING, State.LOADING):
            self.die(InstanceDied(f"after a death it was not ready again within {self._load_s:g} s"))

    def _stop_timer(self) -> None:
        if self._reload_timer is not None:
            self._reload_timer.cancel()
            self._reload_timer = None

    def _fail_all(self, error: FaasError) -> None:
        self.hooks.child_gone(self)
        attempts = list(self.calls.values())
        for attempt in attempts[:1] if self._in_order else attempts:
            attempt.fail(error)
        for attempt in attempts[1:] if self._in_order else ():
            attempt.fail(NotBegun("its turn had not come when the instance ended"))

    def die(self, error: FaasError) -> None:
        """End it: connections closed, every waiter told `error`. Idempotent."""
        if self.state is State.DEAD:
            return
        self._move(State.DEAD)
        self._stop_timer()
        self.link.close()
        close_listener(self.listener)
        for future in (self._up, self._loaded, self._drained):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.dead(self, error)
        self._fail_all(error)
