"""A job: one accepted ProcessVideo, and how to wait for its one terminal event."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC
from typing import TypeAlias

from videoprocess.v1 import job_pb2, video_catalog_pb2, video_pb2, video_process_session_pb2
from videoprocess.v1.report_pb2 import Artifact, ArtifactKind, ProcessReport
from videoprocess_client.errors import JobFailed, OutOfRange
from videoprocess_client.events import Event, ProcessDone, ProcessError
from videoprocess_client.link import Link
from videoprocess_client.subscription import Subscription

#: called with each event of a job and each status of its user
EventListener: TypeAlias = Callable[[Event], None]


@dataclass(frozen=True)
class ProcessResult:
    """What a job made.

    Attributes:
        video_id: The video.
        job_id: The job that made it.
        report: What was made, how, and what was not kept.
        meta_data: The HDI's metadata, as far as they apply.
    """

    video_id: str
    job_id: str
    report: ProcessReport
    meta_data: Mapping[str, int | float | str]

    @property
    def video_artifact(self) -> Artifact | None:
        """The enhanced video; None when no VIDEO stream was asked for."""
        return find_video(self.report.artifacts)


class Job:
    """A job that the service has accepted.

    Attributes:
        job_id: Its id.
        video_id: The video it works on.
        event_sequence: The user's newest event number before the job could end.
        video: The video when the job was accepted; None when the user has none with this id.
        accepted: The job when it was accepted; a caller's slip shows here already.
    """

    def __init__(
        self, link: Link, video_id: str, response: video_process_session_pb2.ProcessVideoResponse
    ) -> None:
        self._link = link
        self.job_id = response.job_id
        self.video_id = video_id
        self.event_sequence = response.event_sequence
        self.video = response.video if response.HasField("video") else None
        self.accepted = response.job

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the job's events and its user's statuses, the terminal event last; comes back after a cut by itself."""
        after_sequence = self.event_sequence
        while True:
            try:
                async with aclosing(self._events_after(after_sequence)) as events:
                    async for event in events:
                        yield event
            except OutOfRange as error:
                # The numbers before are not kept any more, the video still knows.
                terminal = await self._ended()
                if terminal is not None:
                    yield terminal
                    return
                after_sequence = int(error.metadata.get("newest_sequence", "0"))
            else:
                return

    async def wait(self, on_event: EventListener | None = None) -> ProcessResult:
        """Wait for the job's end, however long it takes.

        Args:
            on_event: Called with each event as it comes.

        Raises:
            JobFailed: The job ended in OnError; JobAborted when it was stopped.
            ConnectionFailed: The service was away for longer than the retry policy allows.
        """
        async with aclosing(self.events()) as events:
            async for event in events:
                if on_event is not None:
                    on_event(event)
                if isinstance(event, ProcessDone):
                    return ProcessResult(event.video_id, event.job_id, event.report, event.meta_data)
                if isinstance(event, ProcessError):
                    raise JobFailed.from_event(event)
        raise AssertionError("a job's events end with its terminal event")

    async def _events_after(self, after_sequence: int) -> AsyncGenerator[Event, None]:
        async with aclosing(Subscription(self._link, after_sequence=after_sequence).events()) as events:
            async for event in events:
                if event.job_id in ("", self.job_id):
                    yield event
                if event.job_id == self.job_id and isinstance(event, ProcessDone | ProcessError):
                    return

    async def _ended(self) -> Event | None:
        """The terminal event as the video remembers it; None while the job has not ended."""
        request = video_catalog_pb2.GetVideoRequest(user_id=self._link.user_id, video_id=self.video_id)
        video = (await self._link.call(self._link.catalog.GetVideo, request)).video
        return _terminal(video, video.job) if video.job.job_id == self.job_id else None


def find_video(artifacts: Iterable[Artifact]) -> Artifact | None:
    """The enhanced video among the files of a job; the newest where there are several."""
    videos = [artifact for artifact in artifacts if artifact.kind == ArtifactKind.ARTIFACT_KIND_VIDEO]
    return max(videos, key=lambda artifact: artifact.create_time.ToNanoseconds(), default=None)


def _terminal(video: video_pb2.Video, job: job_pb2.Job) -> Event | None:
    head = (0, job.end_time.ToDatetime(tzinfo=UTC), job.session_id, job.video_id, job.job_id)
    if job.state == job_pb2.JOB_STATE_COMPLETED:
        return ProcessDone(*head, report=video.report, meta_data={})
    if job.state in (job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_ABORTED):
        return ProcessError(*head, job.error.error_code, job.error.reason, job.error.message)
    return None
