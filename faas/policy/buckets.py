"""Token buckets by key, in a table that cannot grow. Time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

KEYS_MAX = 16_384
"""Keys remembered; the one unheard of for longest is forgotten first, and begins anew with a full bucket."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Buckets:
    """`take` one token per call. A clock that goes back neither fills a bucket nor keeps it from filling later."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()
        self._keys_max = keys_max

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, burst: float, per_s: float, now: float) -> float:
        """Take one token from the bucket of `key`.

        Args:
            burst: tokens in a full bucket; per_s: tokens it gets back each second; now: monotonic seconds.

        Returns:
            0.0 when there was one, else the seconds until there will be.
        """
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(burst, now)
            if len(self._buckets) > self._keys_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        bucket.left = min(burst, bucket.left + max(0.0, now - bucket.at) * per_s)
        bucket.at = now
        if bucket.left >= 1:
            bucket.left -= 1
            return 0.0
        return (1 - bucket.left) / per_s
