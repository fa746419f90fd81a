"""What became of a background call, told as a story: phases, attempts, whose fault it is, what to do next. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

View = dict[str, Any]

_WHOSE = {
    "caller": "the caller: the request was wrong, and a repeat would fail the same way",
    "function": "the function: its code, or the limits set for it",
    "platform": "the platform or its operator",
}
_FAULTS = {"node_lost": "platform"}


class Phase(NamedTuple):
    """A stretch of a call's life. Times in Unix seconds, milliseconds."""

    what: str
    at: float
    ms: float
    detail: str = ""


class Story(NamedTuple):
    """The whole. `fault` is empty for a call that went well or still goes."""

    id: str
    function: str
    state: str
    summary: str
    fault: str
    phases: list[Phase]
    next: list[str]


def tell(view: View, now: float) -> Story:
    """From the API's answer about one invocation. now: Unix seconds."""
    one: View = view["invocation"]
    tries: list[View] = view.get("tries") or []
    error: View = view.get("error") or {}
    fault = "" if one["state"] == "succeeded" else str(error.get("fault") or _fault_of(one["cause"]))
    return Story(
        id=one["id"],
        function=one["function"],
        state=one["state"],
        summary=_summary(one, error),
        fault=_WHOSE.get(fault, ""),
        phases=_phases(one, tries, now),
        next=_next(one, error),
    )


def _fault_of(cause: str) -> str:
    if cause.startswith("status 4"):
        return "caller"
    if cause.startswith("status"):
        return "function"
    return next((fault for word, fault in _FAULTS.items() if cause.startswith(word)), "")


def _summary(one: View, error: View) -> str:
    tried = f"{one['attempt']} of {one['attempts']} attempts"
    why = str(error.get("detail") or one["cause"])
    match one["state"]:
        case "waiting":
            return "it waits for room: an instance, or its turn" + (f" (after {tried})" if one["attempt"] else "")
        case "delayed":
            return f"it is to run later ({tried} so far)"
        case "running":
            asked = "; somebody asked to cancel it" if one["cancel_asked"] else ""
            return f"it runs: attempt {one['attempt']} of {one['attempts']}, on node {one['node']}{asked}"
        case "succeeded":
            return f"it succeeded in attempt {one['attempt']}"
        case "dead":
            return f"it is a dead letter after {tried}: {why}"
        case "failed":
            return f"it failed and is not tried again: {why}"
    return f"it was cancelled: {one['cause']}"


def _phases(one: View, tries: list[View], now: float) -> list[Phase]:
    phases: list[Phase] = []
    since = one["accepted_at"]

    def waited(until: float) -> None:
        phases.append(Phase("waited" if not phases else "waited again", since, max(0.0, until - since) * 1000))

    for one_try in tries:
        waited(one_try["started_at"])
        detail = str((one_try.get("error") or {}).get("detail") or one_try["cause"])
        ms = max(0.0, one_try["ended_at"] - one_try["started_at"]) * 1000
        phases.append(Phase(f"attempt {one_try['number']}", one_try["started_at"], ms, detail))
        since = one_try["ended_at"]
    # The last attempt is among the failed ones, unless it runs or went well.
    if one["state"] in ("running", "succeeded"):
        waited(one["began_at"])
        until = one["ended_at"] or now
        detail = "succeeded" if one["ended_at"] else "still running"
        phases.append(Phase(f"attempt {one['attempt']}", one["began_at"], (until - one["began_at"]) * 1000, detail))
    elif not one["ended_at"]:
        waited(now)
    elif not tries:
        waited(one["ended_at"])
    return phases


def _next(one: View, error: View) -> list[str]:
    id, name = one["id"], one["function"]
    logs = f"faas logs {name} --call {id}"
    steps = [str(error["hint"])] if error.get("hint") else []
    match one["state"]:
        case "waiting" | "delayed":
            return [*steps, f"faas show {name}", f"faas invocations cancel {id}"]
        case "running":
            return [logs, f"faas invocations cancel {id}"]
        case "succeeded":
            return [f"faas invocations result {id}", logs]
        case "dead":
            return [*steps, logs, f"faas dlq show {name} {id}", f"faas dlq redrive {name} {id}"]
    return [*steps, logs, f"faas invocations retry {id}"]
