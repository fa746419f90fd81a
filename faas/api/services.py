"""What the control API is given: built once in faas/serve.py, scripted in tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from faas.api.schemas import RedisStatus
from faas.control.access import Access
from faas.control.apps import Apps
from faas.control.audit import Audit
from faas.control.catalog import Catalog
from faas.control.code import Code
from faas.control.dependencies import Dependencies
from faas.control.functions import Functions
from faas.control.guesses import Guesses
from faas.control.jobs import Jobs
from faas.control.ports import Runner
from faas.control.push import Pushes
from faas.control.releases import Releases
from faas.control.secrets import Secrets
from faas.control.tokens import Tokens
from faas.model import NodeInfo
from faas.telemetry.logstore import LogStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Probes:
    """Questions to other parts of the node. Each may be asked often and must not raise for bad news."""

    redis: Callable[[], Awaitable[RedisStatus]]
    driver: Callable[[], Awaitable[str]]
    """What is wrong with the driver; empty when it works."""
    runtimes: Callable[[], Awaitable[Sequence[str]]]
    nodes: Callable[[], Awaitable[Sequence[NodeInfo]]]
    """Every node of the cluster, this one included."""
    disk: Callable[[], str] = lambda: ""
    """What is wrong with the disk of the data directory; empty while it has room."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """Everything a handler may use."""

    catalog: Catalog
    code: Code
    functions: Functions
    pushes: Pushes
    dependencies: Dependencies
    secrets: Secrets
    logs: LogStore
    runner: Runner
    tokens: Tokens
    metrics: CollectorRegistry
    probes: Probes
    version: str
    apps: Apps
    jobs: Jobs
    access: Access
    audit: Audit
    releases: Releases
    guesses: Guesses = field(default_factory=Guesses)
    """Shared with the data plane, so that an address has one allowance."""
