"""The contract between a node and whatever starts its instances.

A driver starts, stops, resizes and lists *instances*: containers or processes in which a runtime's
supervisor runs. It knows no functions, no calls and no protocol. The node makes `spec.dir`, listens on
`spec.dir/sock`, then calls `start`; the supervisor connects from inside. A failing instance is a result
(`Exit`); a failing driver is an exception (`Unavailable` when the engine does not answer).

Every method may be called for many instances at once. `destroy` is idempotent and final: when it returns,
nothing of the instance runs, and nothing it mounted is left.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import msgspec

Network = Literal["egress", "none"]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What this driver can promise on this machine."""

    isolation: Literal["container", "sandbox", "none"]
    """container: own namespaces and limits; sandbox: bubblewrap; none: the node's own user and file system."""
    mounts: bool
    """A directory bound into `spec.dir` on the host after start shows up inside the instance."""
    resize: bool
    """Limits of a started instance can be changed."""
    networks: tuple[Network, ...]
    """Networks it can really give. Without isolation both behave like `egress`."""
    trusted_files: bool
    """True: an instance cannot write to files it is shown, so they may be hard links into the store."""


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to start. `dir` is the instance's own directory on the node's file system."""

    id: str
    runtime: str
    dir: Path
    network: Network = "egress"
    memory: int = 256 * 1024 * 1024
    """Bytes, RAM without swap."""
    cpu: float = 1.0
    pids: int = 256
    tmpfs: int = 64 * 1024 * 1024
    """Bytes of /tmp, taken out of `memory`."""
    deps: Path | None = None
    """Dependency bundle to bind at start, for drivers without `mounts`."""


class Inside(msgspec.Struct, frozen=True, kw_only=True):
    """How the instance sees its directory. Returned by `start`."""

    dir: str
    """Path of `spec.dir` inside: `/faas/instance` in a container, the host path in a process."""
    uid: int
    """User that must own the socket."""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """Why an instance ended."""

    code: int | None = None
    signal: int | None = None
    oom: bool = False
    detail: str = ""
    lost: bool = False
    """Not of its own doing: the engine was restarted, or the driver cannot say."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """An instance the driver sees on its engine, whoever started it."""

    id: str
    node: str
    """Id of the node that started it."""
    age_s: float


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    memory: int
    """Bytes in use, page cache that can be dropped not counted."""
    cpu_s: float
    """CPU seconds since start."""


class Driver(Protocol):
    """See the module's docstring. A driver is an async context manager: entering checks that it works."""

    name: str
    capabilities: Capabilities
    uid: int
    """User that instances run as: the node gives it the socket before `start`."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def runtimes(self) -> list[str]:
        """Names of runtimes it can start now, such as `python3.11`."""
        ...

    async def start(self, spec: InstanceSpec) -> Inside:
        """Start the runtime's supervisor; returns when it has been started, not when it has connected.

        Raises:
            NotFound: no such runtime here (the message says how to build it).
            Unavailable: the engine does not answer.
        """
        ...

    async def wait(self, instance: str) -> Exit:
        """Return when the instance has ended, for whatever reason. Cancelling is safe."""
        ...

    async def resize(self, instance: str, *, memory: int, cpu: float) -> None:
        """Change the limits of a started instance."""
        ...

    async def destroy(self, instance: str) -> None:
        """Kill and remove it. Unknown or ended instances are fine."""
        ...

    async def usage(self, instance: str) -> Usage | None:
        """What it uses now; None when it has ended or the driver cannot tell."""
        ...

    async def found(self) -> list[Found]:
        """Every instance of this platform on the engine, for the reaper and for the next start."""
        ...

    async def check(self) -> list[tuple[str, bool, str]]:
        """Health for `faas doctor`: (what, fine, finding and the fix)."""
        ...
