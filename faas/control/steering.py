"""Drives rollouts: the leader's duty. All that must outlive its node is in the registry and in what nodes report.

A step lasts from when this node first saw it, by its monotonic clock: no wall clock matters, and after a change of
leader the present step is watched for its whole time again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from faas.control.catalog import Catalog
from faas.control.rollout import Rollout, advance, change
from faas.control.rollouts import Rollouts
from faas.errors import FaasError
from faas.names import LIVE, FunctionName
from faas.policy.rollout import Action, Decision, decide

_log = structlog.get_logger("faas.rollout")


class Steering:
    """Call `drive` about once a second, on the node that leads."""

    def __init__(
        self,
        catalog: Catalog,
        rollouts: Rollouts,
        *,
        tick: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            tick: seconds that steps are measured by; clock: Unix seconds, for the history.
        """
        self._catalog = catalog
        self._rollouts = rollouts
        self._tick = tick
        self._clock = clock
        self._since: dict[str, float] = {}

    async def drive(self) -> None:
        """Look at every rollout that is going on. One that fails does not hold up the others."""
        going = self._rollouts.going()
        now = self._tick()
        self._since = {one.tag: self._since.get(one.tag, now) for one in going.values()}
        for name, rollout in going.items():
            try:
                await self._look(name, rollout, now - self._since[rollout.tag])
            except FaasError as error:
                _log.debug("a rollout waits", function=str(name), error=error.message)
            except Exception:
                _log.exception("a rollout cannot be judged; it stands still", function=str(name))

    async def _look(self, name: FunctionName, rollout: Rollout, waited_s: float) -> None:
        function = self._catalog.peek(name)
        if function is None:
            return
        if function.aliases.get(LIVE) != rollout.weights():
            moved = change(rollout, "aborted", "live was moved by somebody else", self._clock())
            await self._move(name, rollout, moved)
            return
        decision = await self.judge(name, rollout, waited_s)
        new = _after(rollout, decision, self._clock())
        if new is not None:
            await self._move(name, rollout, new)

    async def judge(self, name: FunctionName, rollout: Rollout, waited_s: float) -> Decision:
        """What the gates say after `waited_s` seconds of this step. Raises Unavailable."""
        live, new = await self._rollouts.seen(name, rollout)
        paused = rollout.state == "paused"
        return decide(rollout.gates, rollout.every_s, waited_s, live, new, paused=paused)

    async def _move(self, name: FunctionName, old: Rollout, new: Rollout) -> None:
        await self._rollouts.move(name, old, new)
        _log.info(
            "rollout", function=str(name), version=new.version, state=new.state, share=new.share, reason=new.reason
        )


def _after(rollout: Rollout, decision: Decision, now: float) -> Rollout | None:
    match decision.action:
        case Action.ADVANCE:
            return advance(rollout, decision.reason, now)
        case Action.PAUSE:
            return change(rollout, "paused", decision.reason, now)
        case Action.REVERT:
            return change(rollout, "reverted", decision.reason, now)
    return None
