"""What a node tells about its pools: plain data for the control room and its API."""

from __future__ import annotations

import msgspec


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A version that has answered READY in one instance on this node."""

    handler: str
    """What the runtime found, such as `main:handler`."""
    start_ms: float
    """From the request for an instance to READY."""
    import_ms: float
    """Of that, loading the user's code."""


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """The instances of one version on one node, counted."""

    version: int
    states: dict[str, int] = {}
    """Instances by state."""
    free: int = 0
    """Slots that can take a call now."""
    waiting: int = 0
    """Calls waiting for a slot."""
    in_flight: int = 0
    failures: int = 0
    """Starts that failed in a row."""
    last_error: str = ""
    """Why the last start failed; empty after a good one."""
