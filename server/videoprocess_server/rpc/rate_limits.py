"""How often somebody may call: token buckets in a bounded table."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

MAX_KEYS = 10_000


@dataclass(frozen=True)
class Rate:
    """A steady rate, and how far a burst may go beyond it."""

    #: 0: no limit
    calls_per_second: float
    burst_calls: int


@dataclass
class _Bucket:
    tokens: float
    filled_seconds: float


class RateLimit:
    """Gives each key its own bucket, and asks for one token a call.

    A bucket that is full again tells nothing, so the table forgets who called longest ago.

    Args:
        rate: of each key.
        clock: seconds that never go back.
        max_keys: buckets kept at most.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float], max_keys: int = MAX_KEYS) -> None:
        self._rate = rate
        self._clock = clock
        self._max_keys = max_keys
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable) -> float:
        """Take a token; return 0, or the seconds until there is one, and then none was taken."""
        per_second, burst = self._rate.calls_per_second, float(self._rate.burst_calls)
        if per_second <= 0:
            return 0.0
        now = self._clock()
        bucket = self._buckets.pop(key, None) or _Bucket(burst, now)
        bucket.tokens = min(burst, bucket.tokens + (now - bucket.filled_seconds) * per_second)
        bucket.filled_seconds = now
        self._buckets[key] = bucket
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / per_second
        bucket.tokens -= 1
        return 0.0
