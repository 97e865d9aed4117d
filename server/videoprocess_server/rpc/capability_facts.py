"""What the running service is, as far as GetCapabilities tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.parking import ParkingLimits
from videoprocess_server.engine.sources import SharedRoot
from videoprocess_server.model.plan import PlanSettings
from videoprocess_server.model.tasks import BuildInfo, MediaLimits
from videoprocess_server.rpc.call_limits import CallLimits


class AuthMode(Enum):
    """A way in which callers say who they are. Names are the contract's."""

    LOCAL_CALLERS = "local_callers"
    EVERY_CALLER = "every_caller"
    TOKEN = "token"  # noqa: S105 - a name
    WEB_TOKEN = "web_token"  # noqa: S105 - a name
    CLIENT_CERTIFICATE = "client_certificate"


@dataclass(frozen=True, kw_only=True)
class AccessFacts:
    """Who gets in."""

    modes: tuple[AuthMode, ...] = (AuthMode.LOCAL_CALLERS,)
    tls: bool = False
    needs_client_certificate: bool = False


@dataclass(frozen=True, kw_only=True)
class IsolationFacts:
    """What confines the workers."""

    layers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CapabilityFacts:
    """Filled by the composition root."""

    limits: Limits
    media_limits: MediaLimits
    call_limits: CallLimits
    plan_settings: PlanSettings
    parking_limits: ParkingLimits
    access: AccessFacts
    #: as of the last worker that became ready
    isolation: Callable[[], IsolationFacts]
    #: what FFmpeg can do here; called on a thread of the pool, may wait
    build_info: Callable[[], BuildInfo]
    #: workers that touch media at once
    worker_count: int
    #: the most bytes that a client sends again after a cut
    upload_commit_bytes: int
    #: roots that a user may name
    shared_roots: Callable[[int], Sequence[SharedRoot]]
    #: where callers on this machine pass open files; None while there is no such place
    fd_socket: Callable[[], Path | None]
    #: how long a file that was passed waits for Prepare
    fd_token_seconds: float
    #: name → version of what BuildInfo does not know: at least "videoprocess"
    versions: Mapping[str, str]
