"""What a start does before anything else: running jobs are queued again, and files no row names are swept."""

from __future__ import annotations

from dataclasses import replace

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.engine import endings
from videoprocess_server.engine.work import StopReason
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.records import QueueClass
from videoprocess_server.model.states import JobState, Trigger
from videoprocess_server.store.repository import Repository

log = structlog.get_logger(__name__)


def recover(repository: Repository, blobs: BlobStore, clock: Clock) -> int:
    """Queue every RUNNING job again, or end it as was asked before the service died; return how many. Leases end.

    The service holds an exclusive lock on its data directory, so whatever the rows call running is nobody's.
    """
    now = clock.now_us()
    with repository.transaction() as tx:
        running = tx.list_running_jobs()
        for job in running:
            video = tx.get_video(job.user_id, job.video_id)
            assert video is not None
            if job.stop_requested:
                ended = replace(job, running_since_us=None)
                endings.stop(tx, ended, video, StopReason[job.stop_requested], now)
            else:
                # nobody knows when it ceased to run: what it did since it began counts as paused
                queued = replace(
                    job, state=JobState.QUEUED, queue_class=QueueClass.PAUSED, running_since_us=None
                )
                tx.put_job(queued)
                endings.move(tx, video, Trigger.REQUEUE, now)
        for plan_id in tx.list_all_plan_ids():
            tx.release_segments(plan_id)
    sweep(repository, blobs)
    if running:
        log.info("jobs_recovered", count=len(running))
    return len(running)


def sweep(repository: Repository, blobs: BlobStore) -> None:
    """Delete files that no row names: a crash came between a file and its row, or between a row's end and its file's."""
    with repository.read() as reader:
        named = {
            BlobKind.SEGMENT: set(reader.list_all_plan_ids()),
            BlobKind.UPLOAD: set(reader.list_all_upload_ids()),
            BlobKind.RESULT: set(reader.list_all_artifact_ids()),
            BlobKind.WORK: set[str](),
        }
    for kind, known in named.items():
        for key in blobs.keys(kind):
            if key not in known:
                log.info("orphan_deleted", kind=kind.value, key=key)
                blobs.delete(kind, key)
