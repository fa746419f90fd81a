"""`POST /async-function/NAME` and `Prefer: respond-async`: the call is stored and answered with 202.

Also many calls in one request, and synchronous calls that may be repeated (`Idempotency-Key`).
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import NamedTuple

import msgspec
from aiohttp import web

from faas.control.jobs import MANY_MAX, Jobs, Terms, at_from
from faas.control.once import Replay
from faas.errors import BadRequest, FaasError, Invalid, MethodNotAllowed, NotFound, TooLarge, problem
from faas.gateway.replies import headers_of
from faas.ids import new_id
from faas.model import MIB, Function, Version
from faas.names import Target
from faas.node.call import Call
from faas.store.queue.model import LANES, Info, Result
from faas.units import parse_duration, show_size
from faas.wire.messages import Pairs

PREFIX = "/async-function/"
BATCH = "application/vnd.faas.batch+json"
"""Content-Type of a JSON array whose elements are events, each a call of its own."""
BATCH_MAX = 64 * MIB
KEY = "Idempotency-Key"
_JSON = (b"content-type", b"application/json")
_WAIT = re.compile(r"wait\s*=\s*(\d{1,4})")


class Order(NamedTuple):
    """A background call as the handler passes it on. caller: who asks; keys of different callers do not meet."""

    target: Target
    function: Function
    version: Version
    call: Call
    caller: str


def preference(request: web.BaseRequest) -> tuple[bool, float]:
    """(asynchronous, seconds to wait first) from the `Prefer` header of RFC 7240."""
    value = request.headers.get("Prefer", "").lower()
    if "respond-async" not in value:
        return False, 0.0
    wait = _WAIT.search(value)
    return True, float(wait[1]) if wait else 0.0


def is_batch(request: web.BaseRequest) -> bool:
    """The body is many events."""
    return request.content_type == BATCH


def key_of(request: web.BaseRequest) -> str:
    """The idempotency key: a structured-field string (RFC 9651) or, as many clients send it, the bare key.

    Raises:
        Invalid: the header is there but empty.
    """
    given = request.headers.get(KEY)
    if given is None:
        return ""
    key = given.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not key:
        raise Invalid(f"{KEY} is empty", hint="Send a value that is new for each request, such as a UUID.")
    return key


def terms(request: web.BaseRequest, caller: str) -> Terms:
    """How the call is to be run, from its headers. Raises Invalid naming the header."""
    headers = request.headers
    given = headers.get("X-Faas-Priority", "normal").lower()
    if given not in LANES:
        raise Invalid(f'X-Faas-Priority is "{given[:20]}"; it can be {", ".join(LANES)}')
    try:
        delay_s = parse_duration(headers.get("X-Faas-Delay", "0"))
    except ValueError as error:
        raise Invalid(f"X-Faas-Delay: {error}") from error
    at = headers.get("X-Faas-At")
    return Terms(
        key=key_of(request),
        caller=caller,
        delay_s=delay_s,
        at=at_from(at) if at is not None else None,
        priority=given,
    )


async def accept(jobs: Jobs, request: web.BaseRequest, order: Order, wait_s: float) -> web.Response:
    """Store the call: 202, or the result itself if it is there within `wait_s`."""
    if request.method != "POST" and request.path.startswith(PREFIX):
        raise MethodNotAllowed(f"{PREFIX}NAME takes POST", extra={"allow": ["POST"]})
    asked = terms(request, order.caller)
    if is_batch(request):
        return await _accept_batch(jobs, order, asked)
    stored = await jobs.accept(order.target, order.function, order.version, order.call, asked)
    if wait_s > 0:
        with suppress(NotFound):  # a plain call that still runs has this key: there is nothing to ask about yet
            info = await jobs.info(stored.id, wait_s)
            if info.ended_ms:
                return await result_response(jobs, info)
    headers = {"Location": f"/v1/invocations/{stored.id}", "X-Call-Id": stored.id}
    if "Prefer" in request.headers:
        headers["Preference-Applied"] = "respond-async"
    return _accepted({"id": stored.id, "status": "duplicate" if stored.duplicate else "waiting"}, headers)


async def _accept_batch(jobs: Jobs, order: Order, asked: Terms) -> web.Response:
    """One answer an event, in their order. 202 when at least one was stored, else the first one's error."""
    calls = [_event(order.call, body, order.version.settings.body) for body in _events(order.call.body)]
    answers = await jobs.accept_many(order.target, order.function, order.version, calls, asked)
    shown: list[dict[str, object]] = []
    refused = [answer for answer in answers if isinstance(answer, FaasError)]
    if refused and len(refused) == len(answers):
        raise refused[0]
    for call, answer in zip(calls, answers, strict=True):
        if isinstance(answer, FaasError):
            shown.append({"id": call.id, "status": "refused", "error": problem(answer)})
        else:
            shown.append({"id": answer.id, "status": "duplicate" if answer.duplicate else "waiting"})
    document = {"accepted": len(answers) - len(refused), "refused": len(refused), "invocations": shown}
    return _accepted(document, {"X-Call-Id": order.call.id})


def _events(body: bytes) -> list[msgspec.Raw]:
    try:
        events = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"the batch is not a JSON array: {error}", hint='Send [{"n": 1}, {"n": 2}].') from error
    if not 1 <= len(events) <= MANY_MAX:
        raise Invalid(f"the batch has {len(events)} events; it can have 1 to {MANY_MAX}", hint="Split it.")
    return events


def _event(whole: Call, event: msgspec.Raw, limit: int) -> Call:
    body = bytes(event)
    if len(body) > limit:
        raise TooLarge(f"an event of the batch has {show_size(len(body))}; the limit is {show_size(limit)}")
    headers = [pair for pair in whole.headers if pair[0].lower() not in (b"content-type", b"content-length")]
    return Call(
        new_id("c"),
        method=whole.method,
        path=whole.path,
        query=whole.query,
        headers=[*headers, _JSON],
        body=body,
        extra=whole.extra,
    )


def _accepted(document: dict[str, object], headers: dict[str, str]) -> web.Response:
    body = msgspec.json.encode(document)
    return web.Response(status=202, body=body, headers=headers, content_type="application/json")


async def result_response(jobs: Jobs, info: Info) -> web.Response:
    """What the last attempt answered, as if it had been called synchronously."""
    result = await jobs.result(info.id)
    headers: dict[str, str] = {"X-Faas-State": info.state}
    if result is None:
        return web.Response(status=204, headers={**headers, "X-Call-Id": info.id})
    return kept_response(info.id, result, headers)


def replayed(replay: Replay) -> web.Response:
    """The answer that an earlier call with the same key had."""
    return kept_response(replay.id, replay.result, {"Idempotent-Replayed": "true"})


def kept_response(id: str, result: Result, ours: dict[str, str]) -> web.Response:
    """A kept result as a response. Raises BadReply for headers that would break it."""
    ours = {**ours, "X-Call-Id": id}
    if result.error is not None:
        return web.Response(
            status=result.status,
            body=msgspec.json.encode(result.error),
            headers={**ours, "Proxy-Status": "faas; error=proxy_internal_error"},
            content_type="application/problem+json",
        )
    pairs: Pairs = list(result.headers)
    headers = headers_of(pairs)
    headers.update(ours)
    return web.Response(status=result.status, body=result.body, headers=headers)
