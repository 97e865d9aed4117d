"""Who may act for whom. Every path goes through `authorise`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from videoprocess_server.errors import VideoProcessError


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls, as the transport knows it."""

    #: gRPC's peer, e.g. "ipv4:127.0.0.1:51234" or "unix:"
    peer: str

    @property
    def is_local(self) -> bool:
        """Whether the call came over loopback or a Unix socket."""
        return self.peer.startswith(("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:"))


class Policy(Protocol):
    """Decides whether a caller may act for a user."""

    def allows(self, caller: Caller, user_id: int) -> bool:
        """Return whether the caller may act for the user."""
        ...


class TrustLocalCallers:
    """Callers on this machine may act for every user, others for none."""

    def allows(self, caller: Caller, user_id: int) -> bool:  # noqa: ARG002 - a policy's shape
        """Return whether the caller is local."""
        return caller.is_local


class TrustEveryCaller:
    """Whoever reaches the port may act for every user: the operator said so."""

    def allows(self, caller: Caller, user_id: int) -> bool:  # noqa: ARG002 - a policy's shape
        """Return True."""
        return True


def authorise(policy: Policy, caller: Caller, user_id: int) -> None:
    """Return if the caller may act for the user.

    Raises:
        VideoProcessError: USER_NOT_ALLOWED.
    """
    if not policy.allows(caller, user_id):
        raise VideoProcessError("USER_NOT_ALLOWED", f"you may not act for user {user_id}")
