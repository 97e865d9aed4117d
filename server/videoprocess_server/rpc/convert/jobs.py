"""Jobs, how far they are and why they ended."""

from __future__ import annotations

from videoprocess.v1 import hdi_enums_pb2, job_pb2, video_process_session_pb2
from videoprocess_server.engine.jobs import ProcessRequest
from videoprocess_server.model.records import Fault, Job, JobProgress
from videoprocess_server.model.states import JobState
from videoprocess_server.rpc.convert import times
from videoprocess_server.rpc.convert.enums import (
    BLOCK_REASONS,
    JOB_STATES,
    PHASES,
    PRIORITIES,
    PRIORITY_OF_NUMBER,
)
from videoprocess_server.rpc.convert.fields import invalid, request_id_of

#: the wire has uint64, the store int64; both are far beyond any video
_MOST_TIMESTAMP_US = 2**63 - 1


def process_request(message: video_process_session_pb2.ProcessVideoRequest) -> ProcessRequest:
    """Return what ProcessVideo asks.

    Raises:
        VideoProcessError: INVALID_FIELD.
    """
    if message.priority not in PRIORITY_OF_NUMBER:
        raise invalid("priority", f"has no value {message.priority}")
    return ProcessRequest(
        video_id=message.video_id,
        timestamp_us=min(message.timestamp_us, _MOST_TIMESTAMP_US),
        priority=PRIORITY_OF_NUMBER[message.priority],
        request_id=request_id_of(message.request_id),
    )


def job(record: Job) -> job_pb2.Job:
    """Return a job's message."""
    return job_pb2.Job(
        job_id=record.job_id,
        session_id=record.session_id,
        video_id=record.video_id,
        state=JOB_STATES[record.state],
        priority=PRIORITIES[record.priority],
        create_time=times.timestamp(record.create_time_us),
        start_time=times.optional_timestamp(record.start_time_us),
        end_time=times.optional_timestamp(record.end_time_us),
        timestamp_us=record.timestamp_us,
        error=video_error(record.fault) if record.fault else None,
        progress=progress(record.progress),
        blocked_by=blocked_by(record),
    )


def blocked_by(record: Job | None) -> job_pb2.BlockReason.ValueType:
    """Return what a queued job waits for."""
    if record is None or record.state is not JobState.QUEUED:
        return job_pb2.BLOCK_REASON_UNSPECIFIED
    return BLOCK_REASONS[record.blocked_by]


def progress(made: JobProgress) -> job_pb2.JobProgress:
    """Return how far a job is."""
    return job_pb2.JobProgress(
        phase=PHASES[made.phase],
        percent=made.percent,
        frames_done=made.frames_done,
        frames_total=made.frames_total,
        fps=made.fps,
        eta=None if made.eta_seconds is None else times.duration_of_seconds(made.eta_seconds),
        segments_done=made.segments_done,
        segments_total=made.segments_total,
    )


def video_error(fault: Fault) -> job_pb2.VideoError:
    """Return why work ended without a result."""
    return job_pb2.VideoError(
        error_code=hdi_enums_pb2.ErrorCode.ValueType(fault.error_code),
        reason=fault.reason,
        message=fault.message,
    )
