"""What the engine needs of a database. Implementations hold no rules: the engine decides, the store keeps.

Everything is synchronous and thread-safe; a transaction is used by the thread that opened it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from videoprocess_server.model.records import (
    ActiveUser,
    Artifact,
    Event,
    Job,
    PlanRecord,
    Replica,
    Request,
    ResumePoint,
    SegmentRecord,
    Session,
    Tombstone,
    Upload,
    Video,
)
from videoprocess_server.model.states import SegmentState, VideoState


class StoreUnavailableError(Exception):
    """The database cannot be reached, is locked by another process, or its disk is full; nothing was changed."""


class CommitInDoubtError(StoreUnavailableError):
    """The database was lost in a COMMIT: nobody knows yet whether something was changed.

    Args:
        message: one line.
        was_kept: tells once the database is back, and raises StoreUnavailableError until then.
    """

    def __init__(self, message: str, was_kept: Callable[[], bool]) -> None:
        super().__init__(message)
        self.was_kept = was_kept


class UnfitDatabaseError(Exception):
    """The database cannot be used as it is; the text is one line that says what to do."""


class Reader(Protocol):
    """A consistent view."""

    def get_session(self, session_id: str) -> Session | None:
        """Return a session, open or closed; None for an unknown id."""
        ...

    def count_open_sessions(self, user_id: int | None = None) -> int:
        """Count open sessions of the user, or of all."""
        ...

    def list_idle_sessions(self, last_used_before_us: int, limit: int) -> Sequence[Session]:
        """Return open sessions last used before the time, oldest first."""
        ...

    def get_video(self, user_id: int, video_id: str) -> Video | None:
        """Return a video of the user; None for an unknown id."""
        ...

    def list_videos(
        self,
        user_id: int,
        *,
        states: Collection[VideoState] | None = None,
        id_prefix: str = "",
        after: tuple[int, str] | None = None,
        limit: int,
    ) -> Sequence[Video]:
        """Return videos ordered by (create_time_us, video_id), those after `after` only."""
        ...

    def list_video_positions(
        self,
        user_id: int,
        *,
        states: Collection[VideoState],
        after: tuple[int, str] | None = None,
        limit: int,
    ) -> Sequence[tuple[int, str]]:
        """Return (create_time_us, video_id) of the user's videos in these states, as `list_videos` orders them."""
        ...

    def get_job(self, job_id: str) -> Job | None:
        """Return a job; None for an unknown id."""
        ...

    def get_active_job(self, user_id: int, video_id: str) -> Job | None:
        """Return the queued or running job of a video; there is at most one."""
        ...

    def list_active_jobs(
        self, *, user_id: int | None = None, session_id: str | None = None, limit: int | None = None
    ) -> Sequence[Job]:
        """Return queued and running jobs in order of acceptance."""
        ...

    def count_active_jobs(self, user_id: int | None = None) -> int:
        """Count queued and running jobs of the user, or of all."""
        ...

    def list_running_jobs(self) -> Sequence[Job]:
        """Return the running jobs in order of acceptance."""
        ...

    def list_active_users(self) -> Sequence[ActiveUser]:
        """Return the users with queued or running jobs, by user_id."""
        ...

    def list_queue_head(self, user_id: int, limit: int) -> Sequence[Job]:
        """Return the user's queued jobs that come first.

        HIGH before NORMAL; by queue class; then among NORMAL the oldest acceptance first, among HIGH the newest.
        """
        ...

    def get_oldest_queued(self, user_id: int) -> Job | None:
        """Return the user's queued job that was accepted first, whatever its priority; None where none is queued."""
        ...

    def get_plan(self, plan_id: str) -> PlanRecord | None:
        """Return a plan; None for an unknown id."""
        ...

    def find_plan(self, user_id: int, video_id: str, settings_fingerprint: str) -> PlanRecord | None:
        """Return the newest unfinished plan of the video under these settings: no completed job was made by it."""
        ...

    def find_resume_point(self, user_id: int, video_id: str, settings_fingerprint: str) -> ResumePoint | None:
        """Return where the plan that `find_plan` finds goes on; its segments' number hardly matters to what that takes."""
        ...

    def list_plans(self, user_id: int, video_id: str) -> Sequence[PlanRecord]:
        """Return all plans of a video."""
        ...

    def list_all_plan_ids(self) -> Sequence[str]:
        """Return the ids of all plans."""
        ...

    def list_segments(self, plan_id: str) -> Sequence[SegmentRecord]:
        """Return all segments of a plan by index."""
        ...

    def count_segments(self, plan_id: str, state: SegmentState) -> int:
        """Count the segments of a plan that are in this state."""
        ...

    def get_upload(self, upload_id: str) -> Upload | None:
        """Return an upload; None for an unknown id."""
        ...

    def list_all_uploads(self) -> Sequence[Upload]:
        """Return all uploads by their ids."""
        ...

    def list_active_uploads_among(self, upload_ids: Collection[str]) -> Collection[str]:
        """Return those of the ids whose uploads are ACTIVE."""
        ...

    def count_videos_of_upload(self, upload_id: str) -> int:
        """Count the videos that this upload is a file of: source or companion."""
        ...

    def get_artifact(self, artifact_id: str) -> Artifact | None:
        """Return an artifact; None for an unknown id."""
        ...

    def list_artifacts_of_job(self, job_id: str) -> Sequence[Artifact]:
        """Return the artifacts that a job published, by stream."""
        ...

    def list_artifacts_of_video(self, user_id: int, video_id: str) -> Sequence[Artifact]:
        """Return the artifacts of a video that are not detached, oldest first."""
        ...

    def list_expired_artifacts(self, now_us: int, limit: int) -> Sequence[Artifact]:
        """Return artifacts that expired by now, oldest first."""
        ...

    def list_all_artifact_ids(self) -> Sequence[str]:
        """Return the ids of all artifacts."""
        ...

    def list_expired_videos(self, now_us: int, limit: int) -> Sequence[Video]:
        """Return videos in the trash that expired by now, oldest expiry first."""
        ...

    def list_expired_uploads(
        self, active_before_us: int, finished_before_us: int, limit: int
    ) -> Sequence[Upload]:
        """Return ACTIVE uploads last changed before the one time, and FINISHED ones before the other that no video refers to."""
        ...

    def list_stale_plans(self, before_us: int, limit: int) -> Sequence[PlanRecord]:
        """Return plans whose video is neither queued nor running nor in the trash and was last changed before the time."""
        ...

    def list_tombstones(self, limit: int) -> Sequence[Tombstone]:
        """Return what is still to be deleted, oldest first."""
        ...

    def list_replicas(self) -> Sequence[Replica]:
        """Return the services that share these rows, by id, those that are gone too."""
        ...

    def stored_bytes(self, user_id: int | None = None) -> int:
        """Return the bytes of finished uploads, DONE segments and artifacts of the user, or of all."""
        ...

    def event_bounds(self, user_id: int) -> tuple[int, int]:
        """Return (oldest kept, newest assigned) sequence; (1, 0) where the user has had none.

        With none kept any more but some assigned: (newest + 1, newest).
        """
        ...

    def list_events(self, user_id: int, after_sequence: int, limit: int) -> Sequence[Event]:
        """Return the user's kept events after a number, in order."""
        ...

    def get_request(self, user_id: int, method: str, request_id: str) -> Request | None:
        """Return what a request_id was answered with; None for a new one."""
        ...


class Transaction(Reader, Protocol):
    """A change: all of it is durable when the `with` block ends, or none of it.

    After an error of the database nothing more can be done in it, and it is undone even where the error is caught.
    """

    def put_session(self, session: Session) -> None:
        """Insert or replace by session_id."""
        ...

    def put_video(self, video: Video) -> None:
        """Insert or replace by (user_id, video_id)."""
        ...

    def delete_video(self, user_id: int, video_id: str) -> None:
        """Delete a video's row; an unknown id is ignored."""
        ...

    def put_job(self, job: Job) -> None:
        """Insert or replace by job_id. A second queued or running job of one video raises ConflictError."""
        ...

    def next_accept_number(self) -> int:
        """Return the next number in order of acceptance."""
        ...

    def add_plan(self, plan: PlanRecord, segments: Sequence[SegmentRecord]) -> None:
        """Insert a plan and its segments; a plan_id that is there raises ConflictError."""
        ...

    def put_plan(self, plan: PlanRecord) -> None:
        """Replace a plan's stages; the plan itself never changes. Unknown ids are ignored."""
        ...

    def delete_plan(self, plan_id: str) -> None:
        """Delete a plan and its segments; unknown ids are ignored."""
        ...

    def lease_segments(self, plan_id: str, indices: Sequence[int], lease_token: str) -> bool:
        """WAITING → LEASED for all of them and one attempt more each, or for none: False."""
        ...

    def finish_segment(self, segment: SegmentRecord, lease_token: str) -> bool:
        """LEASED → DONE with the file `segment` names, if the row still has the token; False otherwise.

        The row keeps its own counters of attempts and crashes.
        """
        ...

    def release_segments(
        self, plan_id: str, *, lease_token: str | None = None, crashed_index: int | None = None
    ) -> None:
        """LEASED → WAITING, of that lease or of all; `crashed_index` gets one crash more."""
        ...

    def reset_segment(self, plan_id: str, index: int) -> None:
        """DONE → WAITING: its file is gone or is not what the row says."""
        ...

    def put_upload(self, upload: Upload) -> None:
        """Insert or replace by upload_id."""
        ...

    def delete_upload(self, upload_id: str) -> None:
        """Delete an upload's row; an unknown id is ignored."""
        ...

    def put_artifact(self, artifact: Artifact) -> None:
        """Insert or replace by artifact_id."""
        ...

    def delete_artifact(self, artifact_id: str) -> None:
        """Delete an artifact's row; an unknown id is ignored."""
        ...

    def append_event(self, event: Event) -> Event:
        """Give the event the user's next number and keep it; a second one of a job raises ConflictError."""
        ...

    def put_request(self, request: Request) -> None:
        """Insert or replace by (user_id, method, request_id)."""
        ...

    def put_tombstone(self, tombstone: Tombstone) -> None:
        """Insert or replace by (kind, key)."""
        ...

    def delete_tombstone(self, kind: str, key: str) -> None:
        """Delete a tombstone; an unknown one is ignored."""
        ...

    def put_replica(self, replica: Replica) -> None:
        """Insert or replace by replica_id."""
        ...

    def delete_replica(self, replica_id: str) -> None:
        """Delete a replica; an unknown one is ignored."""
        ...

    def delete_events_before(self, create_time_before_us: int, limit: int) -> int:
        """Delete the oldest events of each user that are older than the time; return how many. Numbers go on as before.

        Of each user always the oldest kept ones go first, so that the kept ones stay gapless whatever the clock did.
        """
        ...

    def delete_requests_before(self, create_time_before_us: int, limit: int) -> int:
        """Delete remembered request_ids older than the time; return how many."""
        ...

    def delete_ended_jobs_before(self, end_time_before_us: int, limit: int) -> int:
        """Delete jobs that ended before the time and that nothing kept names; return how many.

        What names a job: a video as its last or result job, an artifact, an event, a remembered request as its answer, and the
        plan of a completed job, which would else seem unfinished.
        """
        ...

    def delete_closed_sessions_before(self, close_time_before_us: int, limit: int) -> int:
        """Delete sessions closed before the time that no queued or running job names; return how many."""
        ...


class ConflictError(Exception):
    """An invariant of the database refused the change: a mistake of ours."""


class Repository(Protocol):
    """The database."""

    def read(self) -> AbstractContextManager[Reader]:
        """Open a consistent view."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open a change; transactions are serialised. An exception in the block undoes all of it.

        A second one inside, in the same thread, raises RuntimeError.

        Raises:
            StoreUnavailableError: it could not be begun, or not made durable.
        """
        ...

    def ping(self) -> None:
        """Return if the database answers.

        Raises:
            StoreUnavailableError: it does not.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
