"""The control API and the data plane as async Python: one method an endpoint.

async with Client("http://127.0.0.1:8080", token) as client:
    await client.function("hello")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from faas.errors import FaasError, Unavailable
from faas.model import LogLine, Push, PushEvent
from faas.sdk.background import BackgroundHttp
from faas.sdk.http import VERSION_HINT, View

PUSH_IDLE_S = 3700.0
"""Longest silence in a push: an instance may take `start_timeout`, at most an hour, to start."""
FOLLOW_IDLE_S = 60.0
"""Longest silence in followed logs; the node sends an empty line every 15 seconds."""
UPLOAD_S = 600.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a function answered. `problem` is set when the platform answered in its place."""

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: AsyncIterator[bytes]
    problem: FaasError | None

    def header(self, name: str) -> str:
        """The first header of that name, whatever its case; empty when there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class Client(BackgroundHttp):
    """Every method raises FaasError: what the node said, or Unavailable when it cannot be reached."""

    async def status(self) -> View:
        """The node: `node`, `redis`, `functions`, `instances`, `version`."""
        return await self.view("GET", "/v1/status")

    async def nodes(self) -> list[View]:
        """Every node of the cluster."""
        return await self._list("/v1/nodes", "nodes")

    async def runtimes(self) -> list[View]:
        """The runtimes this node can start."""
        return await self._list("/v1/runtimes", "runtimes")

    async def functions(self, app: str = "") -> list[View]:
        """All functions, or those of `app`."""
        return await self._list("/v1/functions" + _query(app=app), "functions")

    async def function(self, name: str) -> View:
        """One function with settings, scale and pools."""
        return await self.view("GET", _function(name))

    async def remove(self, name: str) -> None:
        """Delete a function with all its versions and aliases."""
        await self.json("DELETE", _function(name))

    async def scale(self, name: str, minimum: int | None, maximum: int | None) -> Any:
        """Set the scale by hand; None leaves that bound to the version."""
        return await self.json("PUT", _function(name, "scale"), {"min": minimum, "max": maximum})

    async def unscale(self, name: str) -> Any:
        """Clear the scale set by hand."""
        return await self.json("DELETE", _function(name, "scale"))

    async def versions(self, name: str) -> list[View]:
        """Every version kept, with the aliases that point to it."""
        return await self._list(_function(name, "versions"), "versions")

    async def rollback(self, name: str, to: int | None = None) -> View:
        """Move `live` back to version `to`, or to the one before; answers `from` and `to`."""
        return await self.view("POST", _function(name, "rollback"), {"to": to})

    async def set_alias(self, name: str, alias: str, weights: Mapping[int, int]) -> Any:
        """Point an alias at versions by percent."""
        document = {"weights": {str(number): percent for number, percent in weights.items()}}
        return await self.json("PUT", _function(name, "aliases", alias), document)

    async def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias other than `live`."""
        await self.json("DELETE", _function(name, "aliases", alias))

    async def diff(self, name: str, old: int = 0, new: int = 0) -> View:
        """Compare two versions; 0: the one that was live before, and the live one."""
        return await self.view("GET", _function(name, "diff") + _query(**{"from": old, "to": new}))

    async def lock(self, name: str, version: int = 0) -> View:
        """The packages of a version with their hashes; 0: the live one."""
        return await self.view("GET", _function(name, "lock") + _query(version=version))

    async def pause(self, name: str, reason: str = "") -> View:
        """Refuse calls to a function; the reason is told to callers."""
        return await self.view("POST", _function(name, "pause"), {"reason": reason})

    async def resume(self, name: str) -> View:
        """Let a function take calls again."""
        return await self.view("POST", _function(name, "resume"))

    async def rollback_all(self) -> View:
        """Put live again what was live before, everywhere; answers `moved` and `stayed`."""
        return await self.view("POST", "/v1/rollback")

    async def rollout(self, name: str) -> View | None:
        """The present or last rollout of a function."""
        found = (await self.view("GET", _function(name, "rollout"))).get("rollout")
        return found if isinstance(found, dict) else None

    async def start_rollout(self, name: str, terms: Mapping[str, Any]) -> View:
        """Begin a rollout; `terms` as in the API's RolloutBody, what is left out has its default."""
        return await self.view("POST", _function(name, "rollout"), terms)

    async def change_rollout(self, name: str, verb: str) -> View:
        """`pause`, `resume` or `abort` a rollout."""
        return await self.view("POST", _function(name, "rollout", verb))

    async def quota(self, app: str) -> View:
        """Limits of an app; None: no limit."""
        return await self.view("GET", _app(app, "quota"))

    async def set_quota(self, app: str, limits: Mapping[str, int | float | None]) -> View:
        """Replace the limits of an app: `instances`, `memory` in bytes, `queue`, `rps`."""
        return await self.view("PUT", _app(app, "quota"), limits)

    async def reset_quota(self, app: str) -> View:
        """Clear the limits of an app."""
        return await self.view("DELETE", _app(app, "quota"))

    async def drain_node(self, node: str, grace_s: float) -> View:
        """Take a node, by name or id, out of service; it takes calls for `grace_s` seconds more."""
        return await self.view("POST", f"/v1/nodes/{quote(node, safe='')}/drain", {"grace_s": grace_s})

    async def undrain_node(self, node: str) -> View:
        """Put a node back into service."""
        return await self.view("POST", f"/v1/nodes/{quote(node, safe='')}/undrain")

    async def apps(self) -> list[View]:
        """Apps with counts."""
        return await self._list("/v1/apps", "apps")

    async def app(self, app: str) -> View:
        """One app (`app`) with its `functions`; so do all changes of an app answer."""
        return await self.view("GET", _app(app))

    async def scale_app(
        self, app: str, minimum: int | None = None, maximum: int | None = None, by: float | None = None
    ) -> View:
        """Scale every function by hand: bounds, of which None ones stay, or a factor."""
        return await self.view("PUT", _app(app, "scale"), {"min": minimum, "max": maximum, "by": by})

    async def unscale_app(self, app: str) -> View:
        """Clear the scale set by hand."""
        return await self.view("DELETE", _app(app, "scale"))

    async def pause_app(self, app: str, reason: str = "") -> View:
        """Refuse calls to every function."""
        return await self.view("POST", _app(app, "pause"), {"reason": reason})

    async def resume_app(self, app: str) -> View:
        """Let every function take calls again."""
        return await self.view("POST", _app(app, "resume"))

    async def rollback_app(self, app: str) -> View:
        """Put live again what was live before, of every function; answers `moved` and `stayed`."""
        return await self.view("POST", _app(app, "rollback"))

    async def remove_app(self, app: str) -> None:
        """Delete its functions with all versions, and its secrets."""
        await self.json("DELETE", _app(app))

    async def tokens(self) -> list[View]:
        """Tokens, never what they are."""
        return await self._list("/v1/tokens", "tokens")

    async def create_token(
        self, name: str, roles: list[str], apps: list[str] | None = None, expires_s: float | None = None
    ) -> View:
        """Make a token; `token` in the answer is the only place where it can be read."""
        document = {"name": name, "roles": roles, "apps": apps, "expires_s": expires_s}
        return await self.view("POST", "/v1/tokens", document)

    async def revoke_token(self, name: str) -> View:
        """End a token, by name or id."""
        return await self.view("DELETE", "/v1/tokens/" + quote(name, safe=""))

    async def audit(
        self, *, function: str = "", app: str = "", limit: int = 100, follow: bool = False
    ) -> AsyncIterator[View]:
        """Who changed what, oldest first; with `follow` without end."""
        query = _query(function=function, app=app, limit=limit, follow="1" if follow else "")
        async for line in self.lines("GET", "/v1/audit" + query, idle_s=FOLLOW_IDLE_S):
            yield self.decode(line, View)

    async def logs(
        self,
        name: str,
        *,
        call: str = "",
        since_ms: int = 0,
        limit: int = 1000,
        level: str = "",
        grep: str = "",
        follow: bool = False,
    ) -> AsyncIterator[LogLine]:
        """Lines of a function's log, oldest first; with `follow` without end.

        Args:
            since_ms: Unix milliseconds; earlier lines are left out.
            limit: most lines of the past.
            level: least level; grep: text the line holds.
        """
        query = _query(
            call=call, since_ms=since_ms or "", limit=limit, level=level, grep=grep, follow="1" if follow else ""
        )
        async for line in self.lines("GET", _function(name, "logs") + query, idle_s=FOLLOW_IDLE_S):
            yield self.decode(line, LogLine)

    async def has_bundle(self, digest: str) -> bool:
        """Whether the node's cluster has this bundle. False too when it cannot tell: storing it then says why."""
        async with self.open("HEAD", "/v1/bundles/" + quote(digest, safe="")) as response:
            if response.status == 404 or response.status >= 500:
                return False
            await self.check(response)
            return True

    async def put_bundle(self, digest: str, data: bytes) -> None:
        """Store an archive made by `faas.archive.pack` under its digest."""
        path, headers = "/v1/bundles/" + quote(digest, safe=""), {"Content-Type": "application/octet-stream"}
        async with self.open("PUT", path, headers=headers, body=data, total_s=UPLOAD_S) as response:
            await self.check(response)

    async def push(self, app: str, push: Push) -> AsyncIterator[PushEvent]:
        """Push functions to `app`; events as they happen. The last one is `done` or `failed`."""
        path = f"/v1/apps/{quote(app, safe='')}/push"
        async for line in self.lines("POST", path, push, idle_s=PUSH_IDLE_S):
            yield self.decode(line, PushEvent)

    async def secrets(self, app: str = "") -> list[View]:
        """Names of secrets, never values."""
        return await self._list("/v1/secrets" + _query(app=app), "secrets")

    async def set_secret(self, app: str, name: str, value: str) -> None:
        """Store a secret."""
        await self.json("PUT", f"/v1/secrets/{quote(app, safe='')}/{quote(name, safe='')}", {"value": value})

    async def delete_secret(self, app: str, name: str) -> None:
        """Remove a secret."""
        await self.json("DELETE", f"/v1/secrets/{quote(app, safe='')}/{quote(name, safe='')}")

    @asynccontextmanager
    async def invoke(
        self,
        target: str,
        *,
        method: str = "POST",
        path: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> AsyncIterator[Reply]:
        """Call a function and stream its reply; the node bounds the time by the function's `timeout`.

        Args:
            target: `NAME[.APP][@VERSION|@ALIAS]`.
            path: what follows the name, percent-encoded, with a query if any; starts with `/` or `?`.
        """
        address = "/function/" + quote(target, safe="@.") + path
        async with self.open(method, address, headers=headers, body=body, total_s=None) as response:
            ours = "Proxy-Status" in response.headers and response.content_type == "application/problem+json"
            yield Reply(
                response.status,
                tuple(response.headers.items()),
                response.content.iter_any(),
                await self.error_of(response) if ours else None,
            )

    async def _list(self, path: str, key: str) -> list[View]:
        """The list under `key` of an answer."""
        found = (await self.view("GET", path)).get(key)
        if not isinstance(found, list):
            raise Unavailable(f'{self.url}{path} answered without "{key}"', hint=VERSION_HINT)
        return found


def _function(name: str, *rest: str) -> str:
    return "/v1/functions/" + "/".join(quote(part, safe="") for part in (name, *rest))


def _app(app: str, *rest: str) -> str:
    return "/v1/apps/" + "/".join(quote(part, safe="") for part in (app, *rest))


def _query(**values: object) -> str:
    """`?a=1&b=2` of the values that are not empty."""
    given = {key: value for key, value in values.items() if value != ""}
    return "?" + urlencode(given) if given else ""
