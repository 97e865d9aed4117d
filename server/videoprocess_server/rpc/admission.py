"""Who comes in: calls at once and calls a second, of everybody, of a peer and of a user."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

from videoprocess_server.engine.authorisation import Caller, Policy
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.rpc.call_limits import MAX_HEADER_BYTES, NEVER_LIMITED, CallLimits
from videoprocess_server.rpc.rate_limits import RateLimit

#: who has one address of IPv6 has all of its network
IPV6_PREFIX_BITS = 64
RETRY_SECONDS = 1.0  # where nobody knows when a call ends


class FindOwner(Protocol):
    """Tells whose session it is; None: nobody's."""

    def __call__(self, session_id: str, /) -> Awaitable[int | None]:
        """Return the session's user."""
        ...


class Admission:
    """Counts calls and refuses what is too much. Everything happens on the event loop.

    Args:
        limits: how much is too much.
        policy: a user pays only for callers who may act for them.
        find_owner: of a session.
        clock: seconds that never go back.
    """

    def __init__(
        self, limits: CallLimits, policy: Policy, find_owner: FindOwner, clock: Callable[[], float]
    ) -> None:
        self.limits = limits
        self._policy = policy
        self._find_owner = find_owner
        self._peers = RateLimit(limits.peer_rate, clock)
        self._users = RateLimit(limits.user_rate, clock)
        self._running: Counter[Hashable] = Counter()

    @contextmanager
    def entered(
        self, method: str, peer: str, headers: Iterable[tuple[str, str | bytes]] = ()
    ) -> Iterator[Entry]:
        """Count a call while it runs.

        Raises:
            VideoProcessError: HEADERS_TOO_LARGE, CALL_LIMIT, RATE_LIMITED.
        """
        # gRPC's own limit holds only for a client that has acknowledged it
        if sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
            raise VideoProcessError("HEADERS_TOO_LARGE", f"over {MAX_HEADER_BYTES} bytes of headers")
        with Entry(self._running) as entry:
            if method not in NEVER_LIMITED:
                entry.count("", self.limits.max_calls, "the service")
                entry.count(method, self.limits.max_calls_of_method.get(method), "the service")
                _pass(self._peers.take(peer_key(peer)), "this address")
            yield entry

    async def admit(self, entry: Entry, method: str, caller: Caller, request: Any) -> None:  # noqa: ANN401 - any message
        """Charge the user whom the request names, itself or by its session; what names none is let through.

        Raises:
            VideoProcessError: CALL_LIMIT, RATE_LIMITED.
        """
        user_id = await self._user_of(request)
        if user_id is None or not self._policy.allows(caller, user_id):
            return
        who = f"user {user_id}"
        entry.count((method, user_id), self.limits.max_calls_of_user.get(method), who)
        _pass(self._users.take(user_id), who)

    async def _user_of(self, request: Any) -> int | None:  # noqa: ANN401 - any message
        named = getattr(request, "header", request)  # an Upload's first message names its user there
        fields = getattr(named, "DESCRIPTOR", None)
        if fields is None:
            return None
        if "user_id" in fields.fields_by_name:
            user_id: int = named.user_id
            return user_id
        if "session_id" in fields.fields_by_name and named.session_id:
            return await self._find_owner(named.session_id)
        return None


class Entry:
    """What one call is counted under; gives all of it back."""

    def __init__(self, running: Counter[Hashable]) -> None:
        self._running = running
        self._keys: list[Hashable] = []

    def count(self, key: Hashable, limit: int | None, who: str) -> None:
        """Count the call under a key, where that has a limit.

        Raises:
            VideoProcessError: CALL_LIMIT.
        """
        if limit is None:
            return
        if self._running[key] >= limit:
            raise VideoProcessError(
                "CALL_LIMIT", f"{who} has {limit} such calls at once", retry_after_seconds=RETRY_SECONDS
            )
        self._running[key] += 1
        self._keys.append(key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for key in self._keys:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]


def _pass(wait_seconds: float, who: str) -> None:
    if wait_seconds > 0:
        raise VideoProcessError(
            "RATE_LIMITED", f"too many calls a second of {who}", retry_after_seconds=wait_seconds
        )


def peer_key(peer: str) -> str:
    """Return who a peer is, whatever port it calls from: an address, an IPv6 network, or the Unix socket."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    host = rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return kind
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX_BITS), strict=False))
    return str(address)
