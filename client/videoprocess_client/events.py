"""What happens, as the service tells it: the HDI's callbacks as values.

Event
├── StatusChanged    whether work can run; unnumbered, not sent again
├── ProgressChanged  a job came further; unnumbered, not sent again
├── ProcessDone      a job ended with a result
└── ProcessError     a job ended without one
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from videoprocess.v1.job_pb2 import BlockReason, JobProgress
from videoprocess.v1.report_pb2 import ProcessReport
from videoprocess.v1.types_pb2 import MapData
from videoprocess.v1.video_process_callback_pb2 import CallbackEvent
from videoprocess_client.names import short_name


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        sequence: Number of the event, from 1, per user without gaps; 0 for one that has no number.
        create_time: When it happened, in UTC.
        session_id: Session that asked for the job; empty for a status of the whole user.
        video_id: Video it is about; empty for a status about no single video.
        job_id: Job it is about; empty for a status about no single job.
    """

    sequence: int
    create_time: datetime
    session_id: str
    video_id: str
    job_id: str


@dataclass(frozen=True)
class StatusChanged(Event):
    """Whether the user's accepted work can run now. Ends no job.

    Attributes:
        status: A value of `SessionStatus`.
        blocked_by: What holds the work back, e.g. `SPACE_LIMIT`; empty when nothing does.
        message: The same in one English sentence.
    """

    status: int
    blocked_by: str
    message: str


@dataclass(frozen=True)
class ProgressChanged(Event):
    """A job came further.

    Attributes:
        progress: How far it is.
    """

    progress: JobProgress


@dataclass(frozen=True)
class ProcessDone(Event):
    """A job ended with a result. Terminal.

    Attributes:
        report: What was made, how, and what was not kept.
        meta_data: The HDI's metadata, as far as they apply.
    """

    report: ProcessReport
    meta_data: Mapping[str, int | float | str]


@dataclass(frozen=True)
class ProcessError(Event):
    """A job ended without a result. Terminal.

    Attributes:
        error_code: A value of `ErrorCode`.
        reason: The exact cause in upper snake case.
        message: The cause in one English sentence.
    """

    error_code: int
    reason: str
    message: str


def from_message(event: CallbackEvent) -> Event | None:
    """The value for an event of the wire; None for a kind that this library is too old to know."""
    head = (
        event.sequence,
        event.create_time.ToDatetime(tzinfo=UTC),
        event.session_id,
        event.video_id,
        event.job_id,
    )
    match event.WhichOneof("event"):
        case "on_process_done":
            done = event.on_process_done
            return ProcessDone(*head, report=done.report, meta_data=_map_data(done.meta_data))
        case "on_error":
            failed = event.on_error
            return ProcessError(*head, failed.error_code, failed.reason, failed.message)
        case "on_progress":
            return ProgressChanged(*head, event.on_progress.progress)
        case "on_status_changed":
            changed = event.on_status_changed
            blocked_by = short_name(BlockReason.DESCRIPTOR, changed.reason) if changed.reason else ""
            return StatusChanged(*head, changed.status, blocked_by, changed.message)
        case _:
            return None


def _map_data(data: MapData) -> dict[str, int | float | str]:
    values: dict[str, int | float | str] = {}
    for key, value in data.entries.items():
        kind = value.WhichOneof("value")
        if kind is not None:
            values[key] = getattr(value, kind)
    return values
