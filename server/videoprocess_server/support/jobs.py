"""The last jobs, as numbers: how long each waited, ran and stood aside, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.job_times import times_of
from videoprocess_server.model.records import Job, Report
from videoprocess_server.support.redaction import pseudonym


def told_jobs(jobs: Sequence[Job], now_us: int) -> list[Mapping[str, Any]]:
    """Return jobs without names, paths and messages."""
    return [_told(job, now_us) for job in jobs]


def _told(job: Job, now_us: int) -> Mapping[str, Any]:
    times, progress = times_of(job, now_us), job.progress
    return {
        "job_id": job.job_id,
        "user_id": job.user_id,
        "video": pseudonym(job.video_id),
        "state": job.state.value,
        "priority": job.priority.value,
        "execution_mode": job.execution_mode.name,
        "accepted": _time(job.create_time_us),
        "started": _time(job.start_time_us),
        "ended": _time(job.end_time_us),
        "waiting_seconds": times.waiting_us / MICROSECONDS_PER_SECOND,
        "running_seconds": times.running_us / MICROSECONDS_PER_SECOND,
        "paused_seconds": times.paused_us / MICROSECONDS_PER_SECOND,
        "blocked_by": job.blocked_by.value,
        "blocked_since": _time(job.blocked_since_us),
        "stop_requested": job.stop_requested,
        "reason": job.fault.reason if job.fault else "",
        "error_code": job.fault.error_code.name if job.fault else "",
        "phase": progress.phase.value,
        "percent": round(progress.percent, 1),
        "segments": f"{progress.segments_done} of {progress.segments_total}",
        "result": _result(job.report) if job.report else None,
    }


def _result(report: Report) -> Mapping[str, Any]:
    return {
        "source_codec": report.source_codec,
        "source_bytes": report.source_size_bytes,
        "result_bytes": report.size_bytes,
        "frames": report.frame_count,
        "seconds": report.duration_us / MICROSECONDS_PER_SECOND,
        "segments": report.segment_count,
        "reused_segments": report.reused_segment_count,
        "filters": list(report.filters),
        "encodings": [
            f"{one.encoder} {one.width}x{one.height} {one.pixel_format}" for one in report.encodings
        ],
        "stages": {
            stage.phase.value: {
                "wall_seconds": round(stage.wall_seconds, 3),
                "cpu_seconds": round(stage.cpu_seconds, 3),
            }
            for stage in report.stages
        },
    }


def _time(time_us: int | None) -> str | None:
    if time_us is None:
        return None
    return datetime.fromtimestamp(time_us / MICROSECONDS_PER_SECOND, UTC).isoformat()
