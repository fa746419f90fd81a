"""The nouns of the platform as frozen data. JSON on the outside, the same structs inside.

Durations end in `_s` and are seconds; sizes are bytes. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from faas.names import LIVE, FunctionName

MIB = 1024 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a version runs. Part of the version: immutable. `faas/settings.py` is its manual."""

    runtime: str = "python3.11"
    handler: str = ""
    """`module:attribute`; empty: found by the runtime's rules."""
    style: str = ""
    """Calling convention of the handler; empty: the runtime's own."""
    memory: int = 256 * MIB
    cpu: float = 1.0
    timeout_s: float = 30.0
    start_timeout_s: float = 60.0
    max_age_s: float = 6 * 3600.0
    concurrency: int = 0
    """Calls at once in one instance; 0: 1 for sync handlers, 16 for async ones."""
    min: int = 0
    max: int = 20
    idle_s: float = 300.0
    body: int = 16 * MIB
    waiting: int = 1_000
    retries: int = 2
    """Further attempts of a background call after the first one failed."""
    retry_wait_s: float = 1.0
    retry_factor: float = 2.0
    retry_cap_s: float = 300.0
    max_in_flight: int = 0
    """Background calls running at once over all nodes; 0: as `max` and `concurrency` allow."""
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    network: Literal["egress", "none"] = "egress"
    public: bool = False
    routes: tuple[str, ...] = ()
    """As `faas.reach.parse_route` reads them; served while this version has the largest share of `live`."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may call it from a browser."""
    rate: str = ""
    """Most calls from one client address on one node, such as `100/s`; empty: no limit."""
    cron: tuple[str, ...] = ()


class Version(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One immutable push of a function."""

    number: int
    code: str
    """sha256 of the code bundle, hex."""
    settings: Settings
    deps: str = ""
    """sha256 of the dependency bundle, or of the recipe it is installed from, hex; empty: none."""
    requires: str = ""
    """sha256 of what was declared, hex: a later push that declares the same has the same `deps`. Empty: nothing."""
    created_at: float = 0.0
    """Unix seconds."""
    created_by: str = ""

    def same_content(self, other: Version) -> bool:
        """True when a push of `other` would change nothing."""
        return (self.code, self.deps, self.settings) == (other.code, other.deps, other.settings)


class Scale(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Scale set by hand. It overrides a version's own and survives pushes and rollbacks. None: not set."""

    min: int | None = None
    max: int | None = None


class Function(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function's record in the registry: what plain calls need, in one value.

    `aliases` maps a name to weights over version numbers (percent, summing to 100). `versions` holds every
    version an alias points to; the others are in the version history.
    """

    app: str
    name: str
    aliases: dict[str, dict[int, int]] = {}
    versions: dict[int, Version] = {}
    latest: int = 0
    """Highest version number given out."""
    scale: Scale = Scale()
    was_live: tuple[int, ...] = ()
    """Versions that got every plain call before, the latest last, each once: the way back."""
    paused: str = ""
    """Reason the function does not take calls; empty: it does."""
    rev: int = 0
    """Revision of this record, raised by one at each change: the guard of compare-and-set."""
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def id(self) -> FunctionName:
        return FunctionName(self.app, self.name)

    def live(self) -> Version | None:
        """The version with the largest share of `live`, or None before the first successful push."""
        weights = self.aliases.get(LIVE)
        if not weights:
            return None
        return self.versions[max(weights, key=lambda number: (weights[number], number))]


class VersionId(msgspec.Struct, frozen=True):
    """Names a version everywhere: pools, instances, logs."""

    app: str
    name: str
    number: int

    def __str__(self) -> str:
        return f"{FunctionName(self.app, self.name)}@{self.number}"

    @property
    def function(self) -> FunctionName:
        return FunctionName(self.app, self.name)


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a node publishes of itself."""

    id: str
    name: str
    url: str
    version: str
    driver: str
    started_at: float
    seen_at: float
    memory: int
    """Bytes its instances may use together."""
    memory_used: int
    instances: int
    draining: bool = False


class LogLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a function's log."""

    time_ms: int
    """Unix milliseconds, on the instance's clock."""
    text: str
    level: str = "info"
    call: str = ""
    version: int = 0
    instance: str = ""
    fields: dict[str, Any] = {}


class PushEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a push's progress stream; the last has phase `done` or `failed`."""

    phase: Literal[
        "resolving", "installing", "unchanged", "stored", "starting", "ready", "live", "preview", "done", "failed"
    ]
    function: str = ""
    version: int = 0
    ms: float = 0.0
    """Milliseconds since the push began on the node."""
    url: str = ""
    message: str = ""
    error: dict[str, Any] | None = None
    """Problem document when phase is `failed`."""


class Requires(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Packages a function needs, as its author declared them. `faas/requirements.py` has the rules."""

    requirements: str
    """One requirement a line; with a hash on every line it is a lock and taken as it is."""
    index: str = ""
    """URL of a package index that is asked first; `${NAME}` in it stands for a secret of the app. Empty: none."""


class FunctionPush(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One function of a push: its name, its settings, and the hash of a code bundle already uploaded.

    At most one of `deps` (a dependency bundle already uploaded) and `requires` (resolved by the node) is given.
    """

    name: str
    code: str
    settings: Settings
    deps: str = ""
    requires: Requires | None = None


class Push(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/apps/APP/push`: functions that go live together or not at all."""

    functions: list[FunctionPush]
    alias: str = LIVE
    upgrade: bool = False
    """Resolve dependencies anew, even where the same were declared before."""


def to_builtins(value: Any) -> Any:
    """JSON-ready form of a struct."""
    return msgspec.to_builtins(value, str_keys=True)
