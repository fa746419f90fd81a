"""A rollout as it is kept: a new version takes over `live` step by step. Pure: records in, records out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from faas.errors import Invalid
from faas.policy.rollout import Gates

State = Literal["running", "paused", "passed", "reverted", "aborted"]
OPEN: tuple[State, ...] = ("running", "paused")
"""States in which it is not over."""
STEPS = (5, 25, 100)
EVERY_S = 30.0
STEPS_MAX = 20
EVERY_MAX_S = 7 * 86400.0
SAMPLE_MAX = 1_000_000
HISTORY_MAX = 100
_NOTE_MAX = 500


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a rollout's history. `at`: Unix seconds."""

    at: float
    what: str
    """`started`, `step`, `resumed` or the state it changed to."""
    share: int
    """Percent of plain calls the new version gets from then on."""
    reason: str = ""


class Rollout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rollout of a function, the present one or the last one."""

    id: str
    version: int
    """The one that comes in."""
    live: int
    """The one that it is measured against and goes back to."""
    steps: tuple[int, ...] = STEPS
    """Percent of plain calls for `version`, one after the other; the last is 100."""
    every_s: float = EVERY_S
    gates: Gates = Gates()
    state: State = "running"
    step: int = 0
    turn: int = 0
    """Raised whenever counting begins anew: at each step, and after a pause."""
    reason: str = ""
    by: str = ""
    started_at: float = 0.0
    changed_at: float = 0.0
    history: tuple[Event, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def tag(self) -> str:
        """Names what is counted now: what nodes saw under another tag is of the past."""
        return f"{self.id}.{self.turn}"

    @property
    def share(self) -> int:
        """Percent of plain calls that the new version gets."""
        if self.is_open:
            return self.steps[self.step]
        return 100 if self.state == "passed" else 0

    def weights(self) -> dict[int, int]:
        """What `live` points to while this holds."""
        both = {self.live: 100 - self.share, self.version: self.share}
        return {number: share for number, share in sorted(both.items()) if share}


class Terms(NamedTuple):
    """How a rollout is to go, as somebody asked."""

    steps: Sequence[int] = STEPS
    every_s: float = EVERY_S
    gates: Gates = Gates()


def begin(id: str, version: int, live: int, terms: Terms, by: str, now: float) -> Rollout:
    """A rollout at its first step; one whose first step is everything is over at once."""
    first = Rollout(
        id=id,
        version=version,
        live=live,
        steps=tuple(terms.steps),
        every_s=terms.every_s,
        gates=terms.gates,
        by=by,
        started_at=now,
    )
    if first.share == 100:
        return _noted(replace(first, state="passed"), "passed", "its first step is all calls", now)
    return _noted(first, "started", f"by {by}", now)


def advance(rollout: Rollout, reason: str, now: float) -> Rollout:
    """The next step; the last one ends it."""
    further = replace(rollout, step=rollout.step + 1, turn=rollout.turn + 1)
    if further.share == 100:
        return _noted(replace(further, state="passed"), "passed", reason, now)
    return _noted(further, "step", reason, now)


def change(rollout: Rollout, state: State, reason: str, now: float) -> Rollout:
    """Another state; counting begins anew when it runs again."""
    if state == "running":
        return _noted(replace(rollout, state=state, turn=rollout.turn + 1), "resumed", reason, now)
    return _noted(replace(rollout, state=state), state, reason, now)


def check_terms(terms: Terms) -> Terms:
    """`terms` itself. Raises Invalid naming the rule."""
    steps = list(terms.steps)
    if not steps or len(steps) > STEPS_MAX or steps != sorted(set(steps)) or steps[0] < 1 or steps[-1] != 100:
        shown = ",".join(map(str, steps[: STEPS_MAX + 1]))
        raise Invalid(
            f"steps = {shown or 'none'}: steps are 1 to {STEPS_MAX} rising percentages, the last one 100",
            hint="such as 5,25,100",
        )
    gates = terms.gates
    if not 1 <= terms.every_s <= EVERY_MAX_S:
        raise Invalid(f"every = {terms.every_s:g} s: a step lasts from 1 s to 7 days")
    if gates.max_errors is not None and not 0 <= gates.max_errors <= 1:
        raise Invalid(f"max_errors = {gates.max_errors:g}: it is a share of all calls, from 0 to 1")
    if gates.max_p95 is not None and not 0 <= gates.max_p95 <= 100:
        raise Invalid(f"max_p95 = {gates.max_p95:g}: it is a share of the live version's p95, from 0 to 100")
    if not 0 <= gates.min_sample <= SAMPLE_MAX:
        raise Invalid(f"min_sample = {gates.min_sample}: it is from 0 to {SAMPLE_MAX} calls")
    return terms


def _noted(rollout: Rollout, what: str, reason: str, now: float) -> Rollout:
    event = Event(at=now, what=what, share=rollout.share, reason=reason[:_NOTE_MAX])
    history = (*rollout.history, event)
    if len(history) > HISTORY_MAX:  # how it began stays
        history = (history[0], *history[-HISTORY_MAX + 1 :])
    return replace(rollout, reason=event.reason, changed_at=now, history=history)
