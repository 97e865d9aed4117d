"""How long a job waited for its first turn, ran, and stood aside after that."""

from __future__ import annotations

from dataclasses import dataclass, replace

from videoprocess_server.model.records import Job


@dataclass(frozen=True, kw_only=True)
class JobTimes:
    """The three add up to the time from a job's acceptance to its end, or to now."""

    #: until it was RUNNING for the first time
    waiting_us: int
    running_us: int
    #: queued again: a closed gate, others' turn, a restart of the service
    paused_us: int


def begun(job: Job, now_us: int) -> Job:
    """Return a job that is RUNNING from now on."""
    return replace(job, start_time_us=job.start_time_us or now_us, running_since_us=now_us)


def ceased(job: Job, now_us: int) -> Job:
    """Return a job that is not RUNNING any more; one that was not stays as it is."""
    if job.running_since_us is None:
        return job
    return replace(job, running_since_us=None, ran_us=job.ran_us + max(0, now_us - job.running_since_us))


def times_of(job: Job, now_us: int) -> JobTimes:
    """Return a job's times so far; a clock that was set back makes none of them negative."""
    end_us = job.end_time_us or now_us
    first_us = job.start_time_us or end_us
    running_us = ceased(job, end_us).ran_us
    return JobTimes(
        waiting_us=max(0, first_us - job.create_time_us),
        running_us=running_us,
        paused_us=max(0, end_us - first_us - running_us),
    )
