"""One line for each job that ends, with what it waited for and what came of it."""

from __future__ import annotations

import structlog

from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.job_times import times_of
from videoprocess_server.model.records import Job
from videoprocess_server.model.trace_context import parse_traceparent

log = structlog.get_logger(__name__)


def tell_end(job: Job) -> None:
    """Log a job's end, which is durable."""
    times = times_of(job, job.end_time_us or job.create_time_us)
    trace = parse_traceparent(job.traceparent)
    log.info(
        "job_ended",
        job_id=job.job_id,
        user_id=job.user_id,
        video_id=job.video_id,
        trace_id=trace.trace_id if trace is not None else "",
        state=job.state.value,
        reason=job.fault.reason if job.fault else "",
        waiting_seconds=times.waiting_us / MICROSECONDS_PER_SECOND,
        running_seconds=times.running_us / MICROSECONDS_PER_SECOND,
        paused_seconds=times.paused_us / MICROSECONDS_PER_SECOND,
    )
