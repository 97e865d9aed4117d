"""How much of everything there may be."""

from __future__ import annotations

from dataclasses import dataclass


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
    max_concurrent_probes: int = 64
    session_idle_timeout_us: int = 30 * 60 * 1_000_000
    #: a worker silent for longer while it runs is killed, contract §5 TIMEOUT
    stall_seconds: float = 20 * 60.0
    probe_stall_seconds: float = 30.0
    #: a Prepare waits for its probe no longer
    prepare_seconds: float = 120.0
    #: attempts on one task that end in a crash of its own
    max_crashes: int = 3
    #: jobs that run at once; their segments share the workers
    max_running_jobs: int = 2
    #: a reader further behind than this many events is ended
    max_subscriber_backlog: int = 10_000
    max_subscribers_per_user: int = 256
