"""How often somebody may ask."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["RateLimit"]

_REMEMBERED = 10_000


class RateLimit:
    """Token buckets: each caller may spend a second's worth at once, and earns them back evenly.

    Args:
        clock: Seconds from any beginning.

    Example:
        >>> limit = RateLimit(clock=lambda: 0.0)
        >>> [limit.wait("somebody", 2) for _ in range(3)]
        [0.0, 0.0, 0.5]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, caller: str, rate: float) -> float:
        """Take a token; returns the seconds until there is one, 0 if it was taken.

        Args:
            caller: Who asks.
            rate: Requests per second; 0 for any number.
        """
        if rate <= 0:
            return 0.0
        now, most = self._clock(), max(rate, 1.0)
        left, then = self._buckets.pop(caller, (most, now))
        left = min(most, left + (now - then) * rate)
        taken = left >= 1
        self._buckets[caller] = (left - taken, now)
        while len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - left) / rate
