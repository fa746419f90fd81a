"""The single entrance for every call, whoever makes it: HTTP, a trigger, the queue, another function.

resolve(target) -> (function, version)      registry in memory, weights drawn here
run(function, version, call) -> Reply       one attempt on this node; counted, and its failure logged
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import Any

from faas.control.catalog import Catalog
from faas.control.observer import Observer
from faas.control.quotas import Quotas
from faas.errors import DeadlineExceeded, FaasError, FunctionError, Paused
from faas.model import Function, LogLine, Version
from faas.names import Target, parse_target
from faas.node.call import Call, Reply
from faas.node.dispatcher import Dispatcher
from faas.telemetry.logstore import LogStore
from faas.telemetry.metrics import Metrics


class Invoker:
    """Runs calls on this node."""

    def __init__(
        self,
        catalog: Catalog,
        dispatcher: Dispatcher,
        logs: LogStore,
        metrics: Metrics,
        *,
        quotas: Quotas | None = None,
        observer: Observer | None = None,
    ) -> None:
        """
        Args:
            quotas: grants calls a second; None: no app has a quota.
            observer: counts calls of versions in rollout.
        """
        self._quotas = quotas
        self._observer = observer
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._logs = logs
        self._metrics = metrics

    def resolve_now(self, target: Target) -> tuple[Function, Version] | None:
        """Like `resolve`, without waiting; None for an old version that is not at hand."""
        return self._catalog.resolve(target, random.random())  # noqa: S311 (a draw, not a secret)

    async def resolve(self, target: Target) -> tuple[Function, Version]:
        """What a call to `target` runs now. Raises NotFound with close names."""
        return self.resolve_now(target) or await self._catalog.locate(target, 0.0)

    async def run(self, function: Function, version: Version, call: Call) -> Reply:
        """One attempt. Raises the FaasError to answer with; the attempt has begun unless it says otherwise."""
        if function.paused:
            raise Paused(f"{function.id} is paused: {function.paused}", hint=f"faas resume {function.id}")
        began = time.perf_counter()
        try:
            if self._quotas is not None and not call.background:  # those were counted when they were accepted
                self._quotas.admit(function.app)
            reply = await self._dispatcher.run(function, version, call)
        except FaasError as error:
            seconds = time.perf_counter() - began
            self._metrics.called(function.app, function.name, version.number, error.status, False, seconds)
            self._log_failure(function, version, call, error)
            if self._observer is not None and self._observer.watching and error.fault != "caller":
                self._observer.note(function, version.number, None, failed=True)
            raise
        seconds = time.perf_counter() - began
        self._metrics.called(function.app, function.name, version.number, reply.status, reply.cold, seconds)
        if self._observer is not None and self._observer.watching:
            alone_s = max(0.0, seconds - (reply.queue_ms + reply.start_ms) / 1000)
            failed = reply.status >= 500
            self._observer.note(function, version.number, None if failed or reply.cold else alone_s, failed=failed)
        if reply.stream is not None:
            reply.stream.on_error = partial(self._log_failure, function, version, call)
        if reply.queue_ms:
            self._metrics.waited(function.app, function.name, reply.queue_ms / 1000)
        if reply.cold:
            self._metrics.cold_start.observe(reply.start_ms / 1000)
        return reply

    def _log_failure(self, function: Function, version: Version, call: Call, error: FaasError) -> None:
        """A failed call leaves its cause in the function's log, traceback included, where it can be found by id."""
        if not isinstance(error, FunctionError):
            return
        fields: dict[str, Any] = {"code": error.code}
        if traceback := error.extra.get("traceback"):
            fields["traceback"] = traceback
        if request_id := call.extra.get("request_id"):
            fields["request_id"] = request_id
        line = LogLine(
            time_ms=int(time.time() * 1000),
            text=error.message,
            level="error",
            call=call.id,
            version=version.number,
            fields=fields,
        )
        self._logs.write(function.id, line)

    async def call_from_function(self, target: str, call: Call, *, timeout_s: float) -> Reply:
        """A call that a handler makes. Raises like `run`, and DeadlineExceeded after `timeout_s` seconds."""
        function, version = await self.resolve(parse_target(target))
        try:
            async with asyncio.timeout(timeout_s):
                return await self.run(function, version, call)
        except TimeoutError:
            raise DeadlineExceeded(
                f"{target} did not answer within the {timeout_s:g} s that its caller had left",
                hint="Give the caller a longer `timeout`, or spawn the call.",
            ) from None
