"""How far a job is and what holds it back, put together from the events that tell it."""

from __future__ import annotations

from videoprocess.v1.job_pb2 import BlockReason, JobProgress
from videoprocess_client.events import Event, ProgressChanged, StatusChanged
from videoprocess_client.jobs import Job
from videoprocess_client.names import short_name


class JobStatus:
    """What is known of a running job.

    Attributes:
        progress: How far it is; None before that was told.
        blocked_by: What holds it back, e.g. `SPACE_LIMIT`; empty when nothing does.
    """

    def __init__(self, job: Job) -> None:
        self._video_id = job.video_id
        self._session_id = job.accepted.session_id
        reason = job.accepted.blocked_by
        self.progress: JobProgress | None = None
        self.blocked_by = short_name(BlockReason.DESCRIPTOR, reason) if reason else ""

    def hear(self, event: Event) -> None:
        """Take in an event of `Job.wait`."""
        if isinstance(event, ProgressChanged):
            self.progress = event.progress
        elif isinstance(event, StatusChanged) and self._is_about_it(event):
            self.blocked_by = event.blocked_by

    def _is_about_it(self, event: StatusChanged) -> bool:
        same_session = not self._session_id or event.session_id in ("", self._session_id)
        return same_session and event.video_id in ("", self._video_id)
