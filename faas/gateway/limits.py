"""What a function or a route of it lets one client do: calls in a time, and bytes in a body.

Counted on each node and for each client address by itself, without Redis: the limit keeps one caller from crowding out
the others, and is no quota. A route with limits of its own is counted by itself.
"""

from __future__ import annotations

from aiohttp import web

from faas.errors import TooManyRequests
from faas.gateway.proxies import neighbourhood
from faas.model import Function, Settings
from faas.policy.buckets import Buckets
from faas.policy.routing import Match
from faas.reach import parse_rate


class Limits:
    """Counts the calls of one listener."""

    def __init__(self) -> None:
        self._buckets = Buckets()

    def count(
        self, request: web.BaseRequest, function: Function, settings: Settings, route: Match | None, now: float
    ) -> None:
        """One more call. `now`: monotonic seconds. Raises TooManyRequests."""
        rate, counted = None, ""
        if route is not None and route.pattern.rate is not None:
            rate, counted = route.pattern.rate, route.pattern.text
        elif settings.rate:
            rate = parse_rate(settings.rate)
        if rate is None:
            return
        client = neighbourhood(request.remote or "")
        # The rate is part of the key: a push that changes it begins with full buckets.
        wait_s = self._buckets.take((function.id, counted, rate, client), rate.burst, rate.per_s, now)
        if wait_s:
            raise TooManyRequests(
                f"{function.id} takes {rate} from one address",
                hint="Call it less often; Retry-After says when the next call is taken.",
                retry_after_s=wait_s,
            )


def body_limit(settings: Settings, route: Match | None) -> int:
    """Bytes of the largest request body."""
    own = route.pattern.body if route is not None else None
    return settings.body if own is None else own
