"""Memory that instances on this node may use together: counted by their limits, not by their use.

Counting limits means the node never runs out, whatever the functions do. Stem cells count too, but give way.
"""

from __future__ import annotations


class Capacity:
    """A plain counter. All sizes in bytes."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    @property
    def free(self) -> int:
        return self.total - self.used

    def take(self, size: int) -> bool:
        """Claim `size`; False when it does not fit."""
        if size > self.free:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        """Return a claim."""
        self.used -= size
        assert self.used >= 0, "more memory returned than claimed"
