"""What a row of the API's table is. The rows are in `faas/api/routes.py`; server and OpenAPI both read them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from faas.api.services import Services
from faas.control.code import check_sha
from faas.control.secrets import check_secret
from faas.control.tokens import Principal, Role
from faas.errors import FaasError, Invalid
from faas.ids import is_id
from faas.names import FunctionName, check_alias, check_app, check_name, parse_function

_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
JSON_MAX = 256 * 1024
"""Largest JSON body of most routes, in bytes."""


@dataclass(slots=True)
class Notes:
    """What a handler that changes something says about it for the audit trail."""

    touched: dict[FunctionName, tuple[int, int]] = field(default_factory=dict)
    """Functions, and the versions they moved between; 0: none."""
    detail: str = ""
    outcome: str = "ok"
    """For handlers that report an error in their stream: its code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to a handler: checked, authorised and decoded."""

    services: Services
    request: web.Request
    who: Principal
    path: Mapping[str, Any]
    """Path parameters as their parsers gave them."""
    query: Any = None
    body: Any = None
    ending: asyncio.Event
    """Set when the node stops: streams end."""
    notes: Notes = field(default_factory=Notes)

    @property
    def function(self) -> FunctionName:
        """The function in the path."""
        name: FunctionName = self.path["name"]
        return name

    @property
    def app(self) -> str:
        """The app in the path."""
        app: str = self.path["app"]
        return app


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A path parameter: how it is read, and what documentation says."""

    parse: Callable[[str], Any]
    doc: str


def _invocation(text: str) -> str:
    if not is_id(text):
        raise Invalid(f'"{text[:80]}" is not the id of an invocation', hint="Ids are c- and 28 hex digits.")
    return text


def _node(text: str) -> str:
    if _NODE.fullmatch(text) is None:
        raise Invalid(f'"{text[:80]}" is not the name or id of a node', hint="See: faas nodes ls.")
    return text


PARAMETERS: Mapping[str, Parameter] = {
    "name": Parameter(parse=parse_function, doc="Function as NAME or NAME.APP."),
    "app": Parameter(parse=check_app, doc="App; functions without one are in `default`."),
    "alias": Parameter(parse=check_alias, doc="Alias, such as `live` or `canary`."),
    "token": Parameter(parse=lambda text: check_name(text, "token"), doc="A token's name, or its id."),
    "secret": Parameter(parse=check_secret, doc="Name of a secret, written like an environment variable."),
    "invocation": Parameter(parse=_invocation, doc="Id of a background call, such as `c-` and 28 hex digits."),
    "node": Parameter(parse=_node, doc="A node's name, or its id."),
    "sha": Parameter(parse=check_sha, doc="sha256 of a bundle's content, in hex."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row: a method and a path, who may use it, what goes in and out.

    `handler` returns a struct, None (204) or a whole response. `reply` is what documentation promises;
    with `stream` it is one line of NDJSON.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    role: Role | None
    """None: open to everyone."""
    also: Role | None = None
    """Another role that is enough."""
    open_on_loopback: bool = False
    """No token needed on a listener only this machine can reach."""
    whole: bool = False
    """It is about all apps at once: a token limited to some gets 403."""
    query: type | None = None
    body: type | None = None
    body_max: int = JSON_MAX
    raw: bool = False
    """The body is bytes of at most `body_max`, which the handler reads."""
    reply: type | None = None
    text: str = ""
    """Media type of a reply that is not JSON."""
    stream: bool = False
    errors: tuple[type[FaasError], ...] = ()
    """Besides those that every route may give."""

    @property
    def verb(self) -> str:
        """What it does, as the audit trail calls it."""
        return self.handler.__name__

    @property
    def changes(self) -> bool:
        """True when the audit trail keeps its calls."""
        return self.method not in ("GET", "HEAD")

    @property
    def id(self) -> str:
        """Unique name of the operation, such as `set_alias`."""
        return self.verb + ("_head" if self.method == "HEAD" else "")
