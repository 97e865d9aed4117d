"""Work that nobody drives is queued again, and files that no row names are swept: at a start, before anything else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.engine import endings
from videoprocess_server.engine.work import StopReason
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.records import Job, QueueClass
from videoprocess_server.model.states import JobState, Trigger
from videoprocess_server.store.repository import Reader, Repository, Transaction

log = structlog.get_logger(__name__)

#: what others share is nobody's after so long: between a file and its row are moments, unless the database is away
ORPHAN_SECONDS = 24 * 3600.0

#: the ids of the replicas that drive their own jobs
Living = Callable[[Reader], Collection[str]]


def recover(repository: Repository, blobs: BlobStore, clock: Clock, others: Living = lambda _: ()) -> int:
    """Take back every RUNNING job that is not another replica's, and sweep; return how many those were.

    The service holds an exclusive lock on its data directory, so whatever an earlier life of it drove is nobody's.
    """
    taken = take_back(repository, clock, others)
    sweep(repository, blobs, others)
    return len(taken)


def take_back(repository: Repository, clock: Clock, living: Living) -> Sequence[Job]:
    """Queue the RUNNING jobs again whose replica is gone, or end them as was asked before it died; return them as they were.

    From then on their drivers, wherever they are, are refused. Other leases of segments stay: frozen work of a replica that only
    seemed gone may go on with them, until somebody else drives its video, who releases them.
    """
    now = clock.now_us()
    with repository.transaction() as tx:
        alive = living(tx)
        orphans = [job for job in tx.list_running_jobs() if is_orphan(job, alive)]
        for job in orphans:
            queue_again(tx, job, now)
    if orphans:
        log.info("jobs_recovered", count=len(orphans))
    return orphans


def is_orphan(job: Job, alive: Collection[str]) -> bool:
    """Return whether none of these replicas drives the job."""
    return job.driver is None or job.driver.replica_id not in alive


def queue_again(tx: Transaction, job: Job, now_us: int) -> None:
    """Take a RUNNING job back that nobody drives, or end it as was asked."""
    video = tx.get_video(job.user_id, job.video_id)
    assert video is not None
    nobodys = replace(video, last_driver=None)
    if job.stop_requested:
        ended = replace(job, running_since_us=None)
        endings.stop(tx, ended, nobodys, StopReason[job.stop_requested], now_us)
    else:
        # nobody knows when it ceased to run: what it did since it began counts as paused
        queued = replace(
            job,
            state=JobState.QUEUED,
            driver=None,
            queue_class=QueueClass.PAUSED,
            running_since_us=None,
        )
        tx.put_job(queued)
        endings.move(tx, nobodys, Trigger.REQUEUE, now_us)
    for plan in tx.list_plans(job.user_id, job.video_id):
        tx.release_segments(plan.plan_id)


def sweep(repository: Repository, blobs: BlobStore, others: Living = lambda _: ()) -> None:
    """Delete files that no row names: a crash came between a file and its row, or between a row's end and its file's.

    While another replica lives, what is young may be what that one is about to name: only the old goes. One that begins to
    live after the files were listed makes others.
    """
    found = {kind: blobs.keys(kind) for kind in BlobKind}
    with repository.read() as reader:
        is_shared = bool(others(reader))
        named = {
            BlobKind.SEGMENT: set(reader.list_all_plan_ids()),
            BlobKind.UPLOAD: {upload.key for upload in reader.list_all_uploads()},
            BlobKind.RESULT: set(reader.list_all_artifact_ids()),
            BlobKind.WORK: set[str](),
        }
    for kind, keys in found.items():
        orphans: Sequence[str] = [key for key in keys if key not in named[kind]]
        if is_shared and kind is not BlobKind.WORK:
            orphans = blobs.untouched(kind, orphans, ORPHAN_SECONDS)
        for key in orphans:
            log.info("orphan_deleted", kind=kind.value, key=key)
            blobs.delete(kind, key)
