"""How long and how often a call that cannot reach the service is made again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom

from videoprocess_client.errors import Busy, ConnectionFailed, VideoProcessError

_RANDOM = SystemRandom()
#: limits that have room again in a moment
_PASSING_LIMITS = frozenset({"RATE_LIMITED", "CALL_LIMIT", "TRANSFER_TOO_SLOW"})


@dataclass(frozen=True)
class RetryPolicy:
    """How patient a client is. All in seconds."""

    #: how long the service may be away, counted from the first failure after the last success
    patience_seconds: float = 60.0
    #: the same before the service has answered at all, counted from the call: a wrong address is told soon
    first_contact_seconds: float = 2.0
    #: the first pause; each one after it is twice as long
    initial_pause_seconds: float = 0.1
    #: the longest pause of our own; the service may ask for a longer one
    max_pause_seconds: float = 5.0


class Patience:
    """The patience for one operation: pauses after failures, until it is used up."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        first_contact: bool,
        on_retry: Callable[[VideoProcessError], None] | None = None,
    ) -> None:
        self._policy = policy
        self._limit_seconds = policy.patience_seconds
        self._failing_since: float | None = None
        self._on_retry = None if first_contact else on_retry
        if first_contact:
            self._limit_seconds = min(policy.patience_seconds, policy.first_contact_seconds)
            self._failing_since = asyncio.get_running_loop().time()
        self._pause_seconds = policy.initial_pause_seconds

    def renew(self) -> None:
        """There was progress: the next failure is the first one again."""
        self._failing_since = None
        self._pause_seconds = self._policy.initial_pause_seconds
        self._limit_seconds = self._policy.patience_seconds

    async def pause_or_raise(self, error: VideoProcessError) -> None:
        """Wait before the next try, or raise `error` when that cannot help or takes too long."""
        if not may_pass(error):
            raise error
        await self.pause(error)

    async def pause(self, error: VideoProcessError) -> None:
        """Wait before the next try, whatever the error is; raise it when the patience is used up."""
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        left_seconds = self._failing_since + self._limit_seconds - now
        if left_seconds <= 0:
            raise error
        if self._on_retry is not None:
            self._on_retry(error)
        # The jitter keeps many clients from coming back to a restarted server at the same instant.
        pause_seconds = self._pause_seconds * _RANDOM.uniform(0.5, 1.0)
        self._pause_seconds = min(2 * self._pause_seconds, self._policy.max_pause_seconds)
        await asyncio.sleep(min(max(pause_seconds, error.retry_after or 0.0), left_seconds))


def may_pass(error: VideoProcessError) -> bool:
    """Whether the same call may succeed a little later without being changed."""
    return isinstance(error, Busy | ConnectionFailed) or error.reason in _PASSING_LIMITS
