"""The job a driver works for at the moment."""

from __future__ import annotations

from dataclasses import replace

from videoprocess_server.engine.task_runner import StoppedError
from videoprocess_server.model.records import Job, Video
from videoprocess_server.model.states import JobState
from videoprocess_server.store.repository import Reader


class Assignment:
    """Job and video of a driver. Another job of the same video may take over a driver's work when the first has ended."""

    def __init__(self, job: Job, video: Video) -> None:
        #: as it was when it was last read; the row may have another priority by now
        self.job = job
        self.video = video
        #: whether the job's end is this driver's to write
        self.owned = True

    def release(self) -> None:
        """The job has ended or is back in the queue."""
        self.owned = False

    def take_over(self, job: Job, video: Video) -> None:
        """Work for another job from here on; the plan stays."""
        self.job = replace(job, plan_id=self.job.plan_id)
        self.video = video
        self.owned = True

    def current(self, reader: Reader) -> tuple[Job, Video]:
        """Return the rows.

        Raises:
            StoppedError: the job is not this driver's any more: RemoveVideo ended it, or another replica took it back.
        """
        job = reader.get_job(self.job.job_id)
        video = reader.get_video(self.job.user_id, self.job.video_id)
        if not self.owned or job is None or job.state is not JobState.RUNNING or video is None:
            raise StoppedError
        if job.driver != self.job.driver:
            raise StoppedError
        return replace(job, plan_id=self.job.plan_id), video

    def is_last(self, reader: Reader) -> bool:
        """Return whether nobody has driven the video since: what was begun for the job may be noted, even after its end."""
        video = reader.get_video(self.job.user_id, self.job.video_id)
        return video is not None and video.last_driver == self.job.driver
