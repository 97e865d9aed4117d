"""RemoveVideo and RestoreVideo: into the trash and back, or away for good."""

from __future__ import annotations

from dataclasses import replace

from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine import endings
from videoprocess_server.engine.authorisation import Caller, Policy, authorise
from videoprocess_server.engine.checkpoints import discard_plans
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.limits import Limits, Retention
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.source_files import files_of
from videoprocess_server.engine.sweeper import Sweeper, bury
from videoprocess_server.engine.video_ids import check_video_id
from videoprocess_server.engine.videos import VideoView, view_of
from videoprocess_server.engine.work import StopReason, Work
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.records import SourceKind, Video
from videoprocess_server.model.states import Trigger, VideoState
from videoprocess_server.store.repository import Repository, Transaction


class Removals:
    """Removes videos and brings them back."""

    def __init__(
        self,
        repository: Repository,
        sessions: Sessions,
        hub: EventHub,
        work: Work,
        sweeper: Sweeper,
        policy: Policy,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._repository = repository
        self._sessions = sessions
        self._hub = hub
        self._work = work
        self._sweeper = sweeper
        self._policy = policy
        self._clock = clock
        self._limits = limits

    def remove(self, caller: Caller, session_id: str, video_id: str, *, restorable: bool) -> int | None:
        """Stop a video's work and remove it. An unknown id is fine.

        Args:
            caller: who asks.
            session_id: of a user who may have the video.
            video_id: the caller's name for it.
            restorable: into the trash, with all it has; else for good, and the id is free at once.

        Returns:
            Until when it can be restored, or, gone for good, its results be fetched, in microseconds since the Unix
            epoch; None where there is nothing to come back or to fetch.

        Raises:
            VideoProcessError: SESSION_CLOSED, INVALID_VIDEO_ID.
        """
        session = self._sessions.use(caller, session_id)
        check_video_id(video_id, self._limits)
        with self._repository.transaction() as tx:
            video = tx.get_video(session.user_id, video_id)
            if video is None:
                return None
            now = self._clock.now_us()
            job = tx.get_active_job(session.user_id, video_id)
            if job is not None:
                endings.abort(tx, job, "REMOVED", now)
            into = put_in_trash if restorable else take_away
            expire_time_us = into(tx, video, now, self._limits.retention)
            if job is not None:
                self._work.stop(job.job_id, StopReason.REMOVE)
        self._work.evict(session.user_id, video_id)
        self._hub.committed(session.user_id)
        self._sweeper.sweep()
        return expire_time_us

    def restore(self, caller: Caller, user_id: int, video_id: str) -> VideoView:
        """Bring a video back from the trash: COMPLETED if its results remain, else PENDING. Others stay as they are.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, UNKNOWN_VIDEO.
        """
        authorise(self._policy, caller, user_id)
        with self._repository.transaction() as tx:
            video = tx.get_video(user_id, video_id)
            if video is None:
                raise VideoProcessError("UNKNOWN_VIDEO", f"user {user_id} has no video {video_id!r}")
            if video.state is VideoState.DELETED:
                video = self._bring_back(tx, video)
            return view_of(tx, video)

    def _bring_back(self, tx: Transaction, video: Video) -> Video:
        results = tx.list_artifacts_of_job(video.result_job_id) if video.result_job_id else ()
        target = VideoState.COMPLETED if results else VideoState.PENDING
        visible = replace(video, expire_time_us=None)
        return endings.move(tx, visible, Trigger.RESTORE, self._clock.now_us(), to=target)


def put_in_trash(tx: Transaction, video: Video, now_us: int, retention: Retention) -> int | None:
    """Hide a video with all it has; return when the trash forgets it. One that is there stays as it is."""
    if video.state is VideoState.DELETED:
        return video.expire_time_us
    expire_time_us = now_us + retention.trash_us
    endings.move(tx, replace(video, expire_time_us=expire_time_us), Trigger.REMOVE_RESTORABLE, now_us)
    return expire_time_us


def take_away(tx: Transaction, video: Video, now_us: int, retention: Retention) -> int | None:
    """Delete a video, its checkpoints and the uploads nobody else uses; its job must have ended.

    The caller drops the video's frozen workers and calls the sweeper, both once this is committed.

    Returns:
        Until when its results can be fetched, in microseconds since the Unix epoch; None where it has none.
    """
    discard_plans(tx, video.user_id, video.video_id, now_us)
    latest_us = now_us + retention.removed_results_us
    ends_us: list[int] = []
    for artifact in tx.list_artifacts_of_video(video.user_id, video.video_id):
        own_us = artifact.expire_time_us
        ends_us.append(latest_us if own_us is None else min(own_us, latest_us))
        tx.put_artifact(replace(artifact, expire_time_us=ends_us[-1], detached=True))
    tx.delete_video(video.user_id, video.video_id)
    _drop_uploads(tx, video, now_us)
    return max(ends_us, default=None)


def _drop_uploads(tx: Transaction, video: Video, now_us: int) -> None:
    """Delete the uploads that a removed video was made of, unless another video uses them."""
    for file in files_of(video):
        if file.kind is not SourceKind.SHARED and not tx.count_videos_of_upload(file.upload_id):
            tx.delete_upload(file.upload_id)
            bury(tx, BlobKind.UPLOAD, file.upload_key, now_us)
