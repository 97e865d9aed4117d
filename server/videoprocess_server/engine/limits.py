"""How much of everything there may be."""

from __future__ import annotations

from dataclasses import dataclass, field

from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND

_HOUR_US = 3600 * MICROSECONDS_PER_SECOND
_DAY_US = 24 * _HOUR_US


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long things are kept, in microseconds, contract §2. GetCapabilities tells it."""

    #: results, from their publication
    results_us: int = 7 * _DAY_US
    #: results of a video that was removed for good, from its removal
    removed_results_us: int = _HOUR_US
    #: videos in the trash, from their removal
    trash_us: int = 30 * _DAY_US
    #: plans and segments of a video that nobody works on, from its last change
    checkpoints_us: int = 14 * _DAY_US
    #: events and request ids from their creation, jobs from their end, sessions from their closing
    events_us: int = 7 * _DAY_US
    #: from the last message
    unfinished_uploads_us: int = _DAY_US
    #: finished uploads that no video refers to, from then on
    unused_uploads_us: int = _DAY_US
    #: how long the clock must have run steadily, after a start or a jump, before anything expires by it
    steady_clock_seconds: float = 600.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds the engine holds. GetCapabilities tells them."""

    max_sessions: int = 4096
    max_sessions_per_user: int = 64
    max_streams_per_session: int = 16
    max_active_jobs: int = 10_000
    max_active_jobs_per_user: int = 10_000
    max_setting_bytes: int = 256 * 1024
    max_video_id_bytes: int = 256
    max_upload_bytes: int = 1 << 40
    #: a whole message of an upload comes within, or its stream ends
    transfer_stall_seconds: float = 60.0
    max_concurrent_probes: int = 64
    session_idle_timeout_us: int = 30 * 60 * 1_000_000
    #: a worker silent for longer while it runs is killed, contract §5 TIMEOUT
    stall_seconds: float = 20 * 60.0
    probe_stall_seconds: float = 30.0
    #: a Prepare waits for its probe no longer
    prepare_seconds: float = 120.0
    #: of how many times the longest segment so far the stall time is at least
    stall_segments: int = 20
    #: pause before a failed try is repeated; four times as long each time
    retry_backoff_seconds: float = 1.0
    #: how long open segments may go on to their end when others are to have the workers
    checkpoint_seconds: float = 30.0
    #: a job blocked for longer ends; None: never
    max_blocked_seconds: float | None = None
    #: jobs that run at once; their segments share the workers
    max_running_jobs: int = 2
    #: a reader further behind than this many events is ended
    max_subscriber_backlog: int = 10_000
    max_subscribers_per_user: int = 256
    #: bytes of a user's uploads, segments and results together; 0: no quota
    user_quota_bytes: int = 0
    retention: Retention = field(default_factory=Retention)
