"""RemoveVideo: its work is stopped, and it goes."""

from __future__ import annotations

from dataclasses import replace

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.engine import endings
from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.engine.checkpoints import delete_segments, discard_plans
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.video_ids import check_video_id
from videoprocess_server.engine.work import StopReason, Work
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND, Clock
from videoprocess_server.model.records import SourceKind, Video
from videoprocess_server.store.repository import Repository, Transaction

#: how long results of a removed video can be fetched, contract §3
REMOVED_RESULT_US = 3600 * MICROSECONDS_PER_SECOND


class Removals:
    """Removes videos."""

    def __init__(
        self,
        repository: Repository,
        blobs: BlobStore,
        sessions: Sessions,
        hub: EventHub,
        work: Work,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._repository = repository
        self._blobs = blobs
        self._sessions = sessions
        self._hub = hub
        self._work = work
        self._clock = clock
        self._limits = limits

    def remove(self, caller: Caller, session_id: str, video_id: str, *, restorable: bool) -> int | None:
        """Stop a video's work and remove it; the id is free at once. An unknown id is fine.

        Returns:
            When its results can no longer be fetched, in microseconds since the Unix epoch; None where it has none.

        Raises:
            VideoProcessError: SESSION_CLOSED, INVALID_VIDEO_ID, METHOD_NOT_SUPPORTED.
        """
        session = self._sessions.use(caller, session_id)
        check_video_id(video_id, self._limits)
        if restorable:
            raise VideoProcessError(
                "METHOD_NOT_SUPPORTED", "a trash is not supported by this version: remove for good"
            )
        now = self._clock.now_us()
        with self._repository.transaction() as tx:
            video = tx.get_video(session.user_id, video_id)
            if video is None:
                return None
            job = tx.get_active_job(session.user_id, video_id)
            if job is not None:
                endings.abort(tx, job, "REMOVED", now)
            plan_ids = discard_plans(tx, session.user_id, video_id)
            results = tx.list_artifacts_of_video(session.user_id, video_id)
            for artifact in results:
                tx.put_artifact(replace(artifact, expire_time_us=now + REMOVED_RESULT_US))
            tx.delete_video(session.user_id, video_id)
            upload_id = self._release_upload(tx, video)
            if job is not None:
                self._work.stop(job.job_id, StopReason.REMOVE)
        self._hub.committed(session.user_id)
        delete_segments(self._blobs, plan_ids)
        if upload_id:
            self._blobs.delete(BlobKind.UPLOAD, upload_id)
        return now + REMOVED_RESULT_US if results else None

    @staticmethod
    def _release_upload(tx: Transaction, video: Video) -> str:
        """Delete the row of an upload that no video refers to any more; return its id."""
        source = video.source
        if (
            source is None
            or source.kind is not SourceKind.UPLOAD
            or tx.count_videos_of_upload(source.upload_id)
        ):
            return ""
        tx.delete_upload(source.upload_id)
        return source.upload_id
