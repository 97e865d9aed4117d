"""How many calls there may be at once, how often they may come and how long they may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from videoprocess_server.rpc.rate_limits import Rate

PREPARE = "/videoprocess.v1.VideoProcessSessionService/Prepare"
COMMIT_STREAMS = "/videoprocess.v1.VideoProcessSessionService/CommitStreams"
UPLOAD = "/videoprocess.v1.FileTransferService/Upload"
DOWNLOAD = "/videoprocess.v1.FileTransferService/Download"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

#: what connects beyond it is hung up on
MAX_CONNECTIONS = 8192
#: names and values together, of one call
MAX_HEADER_BYTES = 16 * 1024
#: what gRPC holds of a message that is not whole, and of one that is not taken
MAX_HELD_BYTES = 4 << 20
#: calls and streams at once; every one holds at most one message
MAX_CALLS = 4096
#: a method → so many of it at once: what has a message in its hands, and what takes no credentials. A client of several replicas
#: watches each of them
MAX_CALLS_OF_METHOD: Mapping[str, int] = {UPLOAD: 1024, DOWNLOAD: 1024, HEALTH_WATCH: 1024, REFLECTION: 64}
#: the same of one user, so that one leaves room for others
MAX_CALLS_OF_USER: Mapping[str, int] = {UPLOAD: 256, DOWNLOAD: 256}

PEER_RATE = Rate(1000.0, 5000)
USER_RATE = Rate(200.0, 2000)

#: a probe asks rarely, and costs less than its refusal
NEVER_LIMITED = frozenset({HEALTH_CHECK})


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """Bounds of calls, whatever they are about. A table says where a method differs."""

    max_connections: int = MAX_CONNECTIONS
    max_calls: int = MAX_CALLS
    max_calls_of_method: Mapping[str, int] = field(default_factory=lambda: MAX_CALLS_OF_METHOD)
    max_calls_of_user: Mapping[str, int] = field(default_factory=lambda: MAX_CALLS_OF_USER)
    #: before anything of a call is read
    peer_rate: Rate = PEER_RATE
    #: once the user is known, and the caller may act for them
    user_rate: Rate = USER_RATE
    #: the first message is there after so long, or the call ends
    request_seconds: float = 30.0
    #: a call with one answer ends after so long; clients wait 30 s for most
    call_seconds: float = 60.0
    #: those that wait for a worker (300 s in clients), and what nobody needs for longer
    seconds_of_method: Mapping[str, float] = field(
        default_factory=lambda: {PREPARE: 310.0, COMMIT_STREAMS: 310.0, REFLECTION: 60.0}
    )
    #: a reader that takes no byte of a message for so long is dropped
    write_seconds: float = 60.0

    def seconds_of(self, method: str, *, streams: bool) -> float | None:
        """Return how long a call may take; None: as long as it likes."""
        return self.seconds_of_method.get(method, None if streams else self.call_seconds)


def limits_within(
    open_files: int,
    memory_bytes: int,
    max_connections: int = 0,
    *,
    peer_rate: Rate = PEER_RATE,
    user_rate: Rate = USER_RATE,
) -> CallLimits:
    """Return limits that keep a process within its open files and memory.

    Half of the files are for connections, half for the rest. Uploads that send half messages and wait take at most a
    quarter of the memory, downloads that are not read as much.

    Args:
        open_files: that the process may have.
        memory_bytes: that the machine or cgroup has for it.
        max_connections: what the operator wants; 0: as many as fit, up to 8192.
        peer_rate: of each address.
        user_rate: of each user.
    """
    transfers = max(1, min(open_files // 8, memory_bytes // 4 // MAX_HELD_BYTES))
    return CallLimits(
        max_connections=min(max_connections or MAX_CONNECTIONS, max(1, open_files // 2)),
        max_calls_of_method={
            method: min(most, transfers) if method in (UPLOAD, DOWNLOAD) else most
            for method, most in MAX_CALLS_OF_METHOD.items()
        },
        peer_rate=peer_rate,
        user_rate=user_rate,
    )
