"""Background calls and dead letters as async Python: the part of the client for what runs later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from faas.errors import DeadlineExceeded
from faas.sdk.http import ANSWER_S, View, ViewHttp

BATCH = "application/vnd.faas.batch+json"
BATCH_S = 300.0
"""Longest wait for the answer to a batch, in seconds."""
LOOK_S = 30.0
"""Seconds that one question waits for an end."""
RESULT_IDLE_S = 60.0


class BackgroundHttp(ViewHttp):
    """Every method raises FaasError."""

    async def enqueue(
        self,
        target: str,
        *,
        path: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> View:
        """Store a call that runs later; answers `id` and `status` (`waiting` or, for a known key, `duplicate`).

        Args:
            target: `NAME[.APP][@VERSION|@ALIAS]`.
            headers: may have X-Faas-Delay, X-Faas-At, X-Faas-Priority and Idempotency-Key.
        """
        return await self._post(target, path, headers, body, ANSWER_S)

    async def enqueue_many(self, target: str, events: bytes, headers: Mapping[str, str] | None = None) -> View:
        """Store a call an event; `events` is a JSON array. Answers `accepted`, `refused` and `invocations`."""
        return await self._post(target, "", {**(headers or {}), "Content-Type": BATCH}, events, BATCH_S)

    async def _post(
        self, target: str, path: str, headers: Mapping[str, str] | None, body: bytes | None, total_s: float
    ) -> View:
        address = "/async-function/" + quote(target, safe="@.") + path
        async with self.open("POST", address, headers=headers, body=body, total_s=total_s) as response:
            await self.check(response)
            view: View = self.decode(await response.read(), View)
            return view

    async def invocations(
        self,
        *,
        function: str = "",
        app: str = "",
        states: Sequence[str] = (),
        since_ms: int = 0,
        limit: int = 100,
        cursor: str = "",
    ) -> View:
        """A page of background calls, newest first: `invocations`, and `cursor` for the next one, empty at the end."""
        given = {
            "function": function,
            "app": app,
            "state": ",".join(states),
            "since_ms": since_ms or "",
            "limit": limit,
            "cursor": cursor,
        }
        return await self.view("GET", "/v1/invocations?" + _query(given))

    async def invocation(self, id: str, wait_s: float = 0.0) -> View:
        """One background call (`invocation`, `tries`, `error`), once it has ended or `wait_s` (at most 60) are over."""
        return await self.view("GET", _one(id) + "?" + _query({"wait": f"{wait_s:g}"}), total_s=wait_s + ANSWER_S)

    async def ended(self, id: str, timeout_s: float) -> View:
        """The call once it has ended. Raises DeadlineExceeded after `timeout_s` seconds; the call goes on."""
        left = timeout_s
        while True:
            view = await self.invocation(id, min(left, LOOK_S))
            if view.get("invocation", {}).get("ended_at"):
                return view
            left -= LOOK_S
            if left <= 0:
                raise DeadlineExceeded(
                    f"{id} has not ended within {timeout_s:g} s", hint=f"It goes on: faas invocations wait {id}"
                )

    async def result(self, id: str) -> AsyncIterator[bytes]:
        """The reply of an ended call as its function gave it, in chunks."""
        async with self.open("GET", _one(id) + "/result", total_s=None, idle_s=RESULT_IDLE_S) as response:
            if response.content_type == "application/problem+json":
                raise await self.error_of(response)
            async for chunk in response.content.iter_any():
                yield chunk

    async def cancel(self, id: str) -> View:
        """End a call that waits or runs; `status` is `cancelled` or, when it runs, `asked`."""
        return await self.view("POST", _one(id) + "/cancel")

    async def retry(self, id: str) -> View:
        """Run a dead, failed or cancelled call again."""
        return await self.view("POST", _one(id) + "/retry")

    async def dead(self, function: str, *, limit: int = 100, cursor: str = "") -> View:
        """A page of a function's dead letters, newest first."""
        return await self.view("GET", _dlq(function) + "?" + _query({"limit": limit, "cursor": cursor}))

    async def dead_letter(self, function: str, id: str) -> View:
        """One dead letter with `input` and `tries`."""
        return await self.view("GET", _dlq(function, id))

    async def redrive(self, function: str, ids: Sequence[str] | None = None) -> View:
        """Run dead letters again, all when `ids` is None; answers `done` and `left`."""
        return await self.view("POST", _dlq(function, "redrive"), {"ids": None if ids is None else list(ids)})

    async def purge(self, function: str, id: str = "") -> View:
        """Forget one dead letter, or all of them; answers `done` and `left`."""
        return await self.view("DELETE", _dlq(function, id) if id else _dlq(function))


def _one(id: str) -> str:
    return "/v1/invocations/" + quote(id, safe="")


def _dlq(function: str, *rest: str) -> str:
    return "/".join(["/v1/functions", quote(function, safe=""), "dlq", *(quote(part, safe="") for part in rest)])


def _query(given: Mapping[str, Any]) -> str:
    return urlencode({key: value for key, value in given.items() if value != ""})
