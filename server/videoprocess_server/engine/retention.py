"""Deletes what has expired, a bounded batch of each kind at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import structlog

from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.checkpoints import discard_plans
from videoprocess_server.engine.limits import Retention
from videoprocess_server.engine.removal import take_away
from videoprocess_server.engine.sweeper import bury
from videoprocess_server.engine.uploads import Uploads
from videoprocess_server.engine.work import Work
from videoprocess_server.model.clock import Clock
from videoprocess_server.store.repository import Repository, StoreUnavailableError, Transaction

log = structlog.get_logger(__name__)

#: rows of a kind in one transaction: others wait for it
ROWS_PER_PASS = 256
#: videos with all that belongs to them
VIDEOS_PER_PASS = 32

#: what only its age decides about → how a transaction deletes a batch of it
_BY_AGE: Mapping[str, Callable[[Transaction], Callable[[int, int], int]]] = {
    "events": lambda tx: tx.delete_events_before,
    "requests": lambda tx: tx.delete_requests_before,
    "jobs": lambda tx: tx.delete_ended_jobs_before,
    "sessions": lambda tx: tx.delete_closed_sessions_before,
}


class Expirations:
    """Takes the rows; the bytes are the sweeper's."""

    def __init__(
        self, repository: Repository, uploads: Uploads, work: Work, clock: Clock, retention: Retention
    ) -> None:
        self._repository = repository
        self._work = work
        self._clock = clock
        self._retention = retention
        #: in this order, since a row of one kind may keep one of a later kind
        self._kinds: dict[str, Callable[[], int]] = {
            "results": self._expire_results,
            "trash": self._expire_trash,
            "checkpoints": self._expire_checkpoints,
            "uploads": uploads.expire,
            **{name: partial(self._delete_aged, of) for name, of in _BY_AGE.items()},
        }

    def expire(self) -> None:
        """Delete one batch of each kind. A kind that cannot be deleted does not keep the others.

        Raises:
            StoreUnavailableError: the store is away.
        """
        for name, expire in self._kinds.items():
            self._count(name, expire)

    def _count(self, name: str, expire: Callable[[], int]) -> None:
        try:
            count = expire()
        except StoreUnavailableError:
            raise
        except Exception:
            log.exception("expiry_failed", kind=name)
            return
        if count:
            log.info("expired", kind=name, count=count)

    def _delete_aged(self, of: Callable[[Transaction], Callable[[int, int], int]]) -> int:
        with self._repository.transaction() as tx:
            return of(tx)(self._clock.now_us() - self._retention.events_us, ROWS_PER_PASS)

    def _expire_results(self) -> int:
        """The videos stay COMPLETED. All files of a job go at once: a result that is half gone is none to be told again."""
        with self._repository.transaction() as tx:
            now = self._clock.now_us()
            job_ids = {artifact.job_id for artifact in tx.list_expired_artifacts(now, ROWS_PER_PASS)}
            expired = [file for job_id in sorted(job_ids) for file in tx.list_artifacts_of_job(job_id)]
            for artifact in expired:
                tx.delete_artifact(artifact.artifact_id)
                bury(tx, BlobKind.RESULT, artifact.artifact_id, now)
        return len(expired)

    def _expire_trash(self) -> int:
        with self._repository.transaction() as tx:
            now = self._clock.now_us()
            expired = tx.list_expired_videos(now, VIDEOS_PER_PASS)
            for video in expired:
                take_away(tx, video, now, self._retention)
        for video in expired:
            self._work.evict(video.user_id, video.video_id)
        return len(expired)

    def _expire_checkpoints(self) -> int:
        """The videos stay as they are."""
        with self._repository.transaction() as tx:
            now = self._clock.now_us()
            stale = tx.list_stale_plans(now - self._retention.checkpoints_us, VIDEOS_PER_PASS)
            videos = {(plan.user_id, plan.video_id) for plan in stale}
            for user_id, video_id in videos:
                discard_plans(tx, user_id, video_id, now)
        for user_id, video_id in videos:
            self._work.evict(user_id, video_id)
        return len(stale)
