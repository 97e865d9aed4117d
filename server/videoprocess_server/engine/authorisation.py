"""Who may act for whom. Every path goes through `authorise`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from videoprocess_server.errors import VideoProcessError

EVERYBODY = "*"
MIN_USER_ID, MAX_USER_ID = -(2**31), 2**31 - 1


@dataclass(frozen=True)
class UserSet:
    """Users that somebody may act for."""

    ids: frozenset[int] = frozenset()
    has_everybody: bool = False

    @classmethod
    def parse(cls, value: object) -> UserSet:
        """Read a list of user ids, or "*" for all.

        Raises:
            ValueError: it is neither.
        """
        if value == EVERYBODY:
            return cls(has_everybody=True)
        if not isinstance(value, list) or not all(_is_user_id(entry) for entry in value):
            raise ValueError(f'must be a list of user ids (32-bit integers), or "{EVERYBODY}" for all')
        return cls(frozenset(value))

    def __contains__(self, user_id: int) -> bool:
        return self.has_everybody or user_id in self.ids


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls, as the transport and the credentials tell."""

    #: gRPC's peer, e.g. "ipv4:127.0.0.1:51234" or "unix:"
    peer: str
    #: whom the credentials name; empty: there were none, or nobody asked for any
    identity: str = ""
    #: users whom the credentials give into this identity's hands
    users: UserSet = field(default_factory=UserSet)
    #: when the credentials end, in seconds since the epoch; None: not by themselves
    expire_time: float | None = None

    @property
    def is_local(self) -> bool:
        """Whether the call came over loopback or a Unix socket."""
        return self.peer.startswith(("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:"))


class Policy(Protocol):
    """Decides whether a caller may act for a user."""

    def allows(self, caller: Caller, user_id: int) -> bool:
        """Return whether the caller may act for the user."""
        ...


class TrustCredentials:
    """Callers may act for the users whom their credentials name, wherever they call from."""

    def allows(self, caller: Caller, user_id: int) -> bool:
        """Return whether the credentials name the user."""
        return user_id in caller.users


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


def _is_user_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and MIN_USER_ID <= value <= MAX_USER_ID
