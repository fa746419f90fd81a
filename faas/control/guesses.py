"""A limit on wrong tokens per client address: a token bucket each, in a table that cannot grow."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from faas.control.tokens import Principal, Tokens, digest_of
from faas.errors import TooManyRequests

BURST = 10
"""Different wrong tokens an address may try at once."""
PER_SECOND = 0.5
"""Wrong tokens it gets back each second."""
ADDRESSES = 4096
"""Addresses remembered; the one unheard of for longest is forgotten first."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float
    last: bytes = b""


class Guesses:
    """Ask `check` before a token is looked at, tell `wrong` after it was not accepted. Time is an argument."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def check(self, address: str, now: float) -> None:
        """Raises TooManyRequests while `address` has no guess left. `now`: monotonic seconds."""
        bucket = self._buckets.get(address)
        if bucket is None:
            return
        left = self._refill(bucket, now)
        if left < 1:
            raise TooManyRequests(
                "too many wrong tokens from this address",
                hint="check FAAS_TOKEN, or run: faas login URL",
                retry_after_s=(1 - left) / PER_SECOND,
            )

    def wrong(self, address: str, digest: bytes, now: float) -> None:
        """Count one. The same wrong token again is not a new guess: a stale script must not lock others out."""
        bucket = self._buckets.setdefault(address, _Bucket(float(BURST), now))
        self._buckets.move_to_end(address)
        self._refill(bucket, now)
        if bucket.last != digest:
            bucket.last = digest
            bucket.left -= 1
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)

    def identify(self, tokens: Tokens, presented: str, address: str, now: float) -> Principal | None:
        """Whose token `presented` is; None, and one guess less, when it is nobody's.

        For both planes. On the data plane only where a token is needed: elsewhere the header may be meant for
        the function, and is not ours to count.

        Args:
            address: the client's; now: monotonic seconds.

        Raises:
            TooManyRequests: no guess left; the token was not looked at.
        """
        self.check(address, now)
        who = tokens.check(presented) if presented else None
        if presented and who is None:
            self.wrong(address, digest_of(presented), now)
        return who

    @staticmethod
    def _refill(bucket: _Bucket, now: float) -> float:
        bucket.left = min(float(BURST), bucket.left + max(0.0, now - bucket.at) * PER_SECOND)
        bucket.at = now
        return bucket.left
