"""The map of the house: which floor and which room each module of `faas` is on."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A floor, counted from 0, and a room on it."""

    floor: int
    room: str


# Rooms by floor. A room is a package or a module directly in `faas`; it may import lower floors and itself.
ROOMS: dict[int, tuple[str, ...]] = {
    0: (
        "errors",
        "ids",
        "names",
        "units",
        "kinds",
        "model",
        "settings",
        "config",
        "manifest",
        "reach",
        "requirements",
        "archive",
        "wire",
    ),
    1: ("policy",),
    2: ("store", "drivers", "bundles", "deps", "telemetry"),
    3: ("node",),
    4: ("control",),
    5: ("triggers",),
    6: ("gateway", "api", "dashboard", "sdk", "cli"),
    7: ("serve", "assembly", "worker", "workers", "parts", "doctor"),
}
_FLOOR_OF = {room: floor for floor, rooms in ROOMS.items() for room in rooms}

# Floor 0 is one room (words use each other), and so is the keystone.
_SHARED = {0: "words", 7: "keystone"}

# The client side: floor 0 only, never the server. The command line sits on the SDK.
CLIENT = {"sdk": frozenset({"sdk"}), "cli": frozenset({"cli", "sdk"}), "": frozenset({"sdk"})}

# Tools of tests that production code must not be able to reach.
ONLY_FOR_TESTS = ("tests", "faas.drivers.fake", "faas.drivers.script", "faas.drivers.scripted")


def room(module: str) -> str:
    """`faas.node.pool` is in `node`; `faas` itself, which fetches its public names from the SDK, in no room ("")."""
    return module.split(".")[1] if "." in module else ""


def place(module: str) -> Place:
    """Where a module of `faas` is. Raises KeyError for a room that is not on the map."""
    name = room(module)
    floor = _FLOOR_OF[name]
    return Place(floor, _SHARED.get(floor, name))


def breach(module: str, imported: str) -> str:
    """Why `module` must not import `imported`, both modules of `faas`; empty when it may."""
    source, target = room(module), room(imported)
    if imported.startswith("tests.") or (imported in ONLY_FOR_TESTS and module not in ONLY_FOR_TESTS):
        return "it is for tests only"
    if not target:
        return ""
    there = place(imported)
    if source in CLIENT:
        allowed = target in CLIENT[source] or there.floor == 0
        return "" if allowed else "the client side uses floor 0 only, never the server"
    here = place(module)
    if here == there or (there.floor < here.floor and target not in CLIENT):
        return ""
    return (
        f"floor {here.floor} ({here.room}) uses lower floors and its own room, not floor {there.floor} ({there.room})"
    )
