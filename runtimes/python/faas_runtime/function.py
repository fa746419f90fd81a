"""A function that has been loaded: what both ways of serving, blocking and asyncio, share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from faas._app import hooks
from faas._context import Identity

from faas import Context
from faas_runtime import faults, replies
from faas_runtime.link import Link
from faas_runtime.loader import load
from faas_runtime.output import Output
from faas_runtime.page import Page
from faas_runtime.protocol import DRAINED, ERROR, INLINE_MAX, READY, REPLY, Message
from faas_runtime.signature import arguments, is_async
from faas_runtime.streams import Call

ASYNC_CONCURRENCY = 16


class Function:
    """The user's handler, and what its version says of it. Making one imports the code; raises whatever that does."""

    def __init__(self, spec: dict[str, Any], began: float) -> None:
        if spec["style"]:
            raise faults.LoadError(
                f'this runtime has no handler style "{spec["style"]}"', "Leave the setting `style` out."
            )
        found = load(spec["code"], spec["handler"], spec["function"])
        self.target = found.target
        self.label = found.label
        self.arguments = arguments(found.target, found.label)
        self.healthz: Callable[[], Any] | None = getattr(found.module, "healthz", None)
        self.identity = Identity(spec["app"], spec["function"], spec["version"], spec["instance"])
        self.network: str = spec["network"]
        wanted = spec["concurrency"]
        if is_async(found.target):
            self.mode, self.concurrency = "async", wanted or ASYNC_CONCURRENCY
        else:
            self.mode, self.concurrency = ("threads", wanted) if wanted > 1 else ("sync", 1)
        self.import_ms = (time.perf_counter() - began) * 1000

    def ready(self) -> Message:
        info = {
            "concurrency": self.concurrency,
            "mode": self.mode,
            "handler": self.label,
            "healthz": callable(self.healthz),
            "import_ms": self.import_ms,
        }
        return [READY, info]

    def begin(self, call: Call) -> Context:
        """The context of a call that starts now."""
        head = call.head
        context = Context(self.identity, head[0], time.time() + head[6] / 1000, head[7])
        context.cancelled = call.cancelled
        call.context = context
        return context

    def positional(self, call: Call, context: Context) -> list[Any]:
        """Arguments for the handler. Raises BadBody."""
        return self.arguments(call.head, call.body, context)

    def failure(self, call: Call, error: BaseException, cancelled: bool = False) -> Message:
        """The frame that ends a call with `error`."""
        return [ERROR, call.stream, faults.describe(error, network=self.network, cancelled=cancelled)]


class Serving:
    """What a way of serving is given."""

    def __init__(self, link: Link, page: Page, output: Output, function: Function) -> None:
        self.link = link
        self.page = page
        self.output = output
        self.function = function


def start_hooks() -> list[Callable[[], Any]]:
    return hooks("start")


def stop_hooks() -> list[Callable[[], Any]]:
    return hooks("stop")


def log_hook_error(output: Output, error: BaseException) -> None:
    """A stop hook that raises must not keep the others from running."""
    detail = faults.describe(error)
    text = detail["traceback"] or f"{detail['type']}: {detail['message']}"
    output.line("", "error", f"a stop hook failed: {text}".encode("utf-8", "backslashreplace"), {})


def say_goodbye(link: Link) -> None:
    link.send([DRAINED])


def whole(call: Call, reply: replies.Reply, began: float) -> Message | None:
    """The REPLY frame for what fits into one, else None."""
    if len(reply.body) > INLINE_MAX or reply.source is not None:
        return None
    return [REPLY, call.stream, reply.status, reply.headers, reply.body, run_info(began)]


def run_info(began: float) -> dict[str, int]:
    """`info` of REPLY and END: `began` is on the performance counter."""
    return {"run_us": int((time.perf_counter() - began) * 1_000_000)}


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
