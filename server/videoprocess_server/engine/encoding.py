"""Has all segments of a plan made: leases, workers, rows. Any order, any retry, the same bytes."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.engine import faults
from videoprocess_server.engine.durable import Durable
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.progress import ProgressMeter
from videoprocess_server.engine.sources import SourceChangedError
from videoprocess_server.engine.task_runner import StoppedError, TaskRunner
from videoprocess_server.execution.executor import (
    TaskCancelledError,
    TaskFailedError,
    TaskHandle,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.model.leases import next_run
from videoprocess_server.model.plan import SegmentPlan
from videoprocess_server.model.records import PlanRecord, SegmentRecord
from videoprocess_server.model.states import SegmentState
from videoprocess_server.model.tasks import EncodeResult, EncodeTask, Progress, SegmentDone, TaskMessage
from videoprocess_server.store.repository import Transaction

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Lease:
    """A run of segments that one worker has."""

    token: str
    run: tuple[SegmentPlan, ...]


class Encoding:
    """The ENHANCE phase of one job."""

    def __init__(
        self,
        record: PlanRecord,
        durable: Durable,
        blobs: BlobStore,
        runner: TaskRunner,
        meter: ProgressMeter,
        limits: Limits,
        worker_count: int,
        open_source: Callable[[], int],
        check_source: Callable[[], None],
        still_mine: Callable[[], None],
        told: Callable[[], None],
    ) -> None:
        self._record = record
        self._durable = durable
        self._blobs = blobs
        self._runner = runner
        self._meter = meter
        self._limits = limits
        self._worker_count = worker_count
        self._open_source = open_source
        self._check_source = check_source
        self._still_mine = still_mine
        self._told = told
        self._waiting: set[int] = set()
        self._done: dict[int, SegmentRecord] = {}
        self._leases: dict[TaskHandle, Lease] = {}
        self._own_crashes: dict[int, int] = {}
        self._foreign_kills = 0
        self._news: queue.SimpleQueue[tuple[TaskHandle | None, Lease, SegmentDone | None]] = (
            queue.SimpleQueue()
        )
        self.cpu_seconds = 0.0
        #: segments that were finished before this run
        self.reused_count = 0

    def run(self) -> list[SegmentRecord]:
        """Return all segments, DONE, in order.

        Raises:
            StoppedError: the job is to stop; all workers have, and no lease is left.
            TaskFailedError, TaskStalledError, WorkerCrashedError, SourceChangedError: for good.
        """
        self._take_up()
        try:
            while self._waiting or self._leases:
                self._runner.check()
                while self._waiting and len(self._leases) < self._worker_count:
                    self._start(next_run(self._record.plan.segments, self._waiting, self._worker_count))
                self._handle(*self._news.get())
        except BaseException:
            self._stop_all()
            raise
        return [self._done[segment.index] for segment in self._record.plan.segments]

    def _take_up(self) -> None:
        """Read the rows; a finished segment counts if its file still has the digest of its row."""
        with self._durable.read() as reader:
            rows = reader.list_segments(self._record.plan_id)
        for row in rows:
            self._own_crashes[row.index] = row.crash_count
            if row.state is SegmentState.DONE and self._is_whole(row):
                self._done[row.index] = row
                continue
            if row.state is SegmentState.DONE:
                log.warning("segment_damaged", plan_id=row.plan_id, index=row.index)
                self._durable.write(partial(_reset, plan_id=row.plan_id, index=row.index))
            self._waiting.add(row.index)
        self._durable.write(lambda tx: tx.release_segments(self._record.plan_id))
        self.reused_count = len(self._done)
        self._count()

    def _is_whole(self, row: SegmentRecord) -> bool:
        try:
            return self._blobs.sha256(BlobKind.SEGMENT, row.path) == row.sha256
        except OSError:
            return False

    def _start(self, run: tuple[SegmentPlan, ...]) -> None:
        lease = Lease(new_id(), run)
        indices = [segment.index for segment in run]
        if not self._durable.write(lambda tx: tx.lease_segments(self._record.plan_id, indices, lease.token)):
            self._still_mine()
            raise RuntimeError(
                f"segments {indices} of plan {self._record.plan_id} are leased by somebody else"
            )
        self._waiting.difference_update(indices)
        task = EncodeTask(
            plan=self._record.plan,
            segments=run,
            output_paths=tuple(
                str(self._blobs.path(BlobKind.SEGMENT, self._key(lease, index))) for index in indices
            ),
        )
        handle = self._runner.submit(
            task, self._open_source(), lambda message: self._on_message(lease, message)
        )
        self._leases[handle] = lease
        handle.add_done_callback(lambda ended: self._news.put((ended, lease, None)))

    def _key(self, lease: Lease, index: int) -> str:
        return f"{self._record.plan_id}/{index:06d}-{lease.token}.mp4"

    def _on_message(self, lease: Lease, message: TaskMessage) -> None:
        if isinstance(message, SegmentDone):
            self._news.put((None, lease, message))
        elif isinstance(message, Progress):
            self._meter.open_frames(lease.token, message.frames, time.monotonic())
            self._told()

    def _handle(self, ended: TaskHandle | None, lease: Lease, done: SegmentDone | None) -> None:
        if done is not None:
            self._finish(lease, done)
        if ended is not None:
            del self._leases[ended]
            self._end(lease, ended)

    def _finish(self, lease: Lease, done: SegmentDone) -> None:
        """A segment's file is durable: its row follows, if the lease still holds and the source is still the same."""
        self._check_source()
        row = SegmentRecord(
            plan_id=self._record.plan_id,
            index=done.index,
            state=SegmentState.DONE,
            path=self._key(lease, done.index),
            size_bytes=done.size_bytes,
            sha256=done.sha256,
            frame_count=done.frame_count,
            input_sha256=done.input_sha256,
            parameter_sets_sha256=done.parameter_sets_sha256,
        )
        if self._durable.write(lambda tx: tx.finish_segment(row, lease.token)):
            self._done[done.index] = row
            self._count(lease.token)
            self._told()

    def _end(self, lease: Lease, ended: TaskHandle) -> None:
        """A worker is through with its lease, one way or another."""
        self._meter.close_task(lease.token)
        left = [segment.index for segment in lease.run if segment.index not in self._done]
        try:
            result = ended.result()
            assert isinstance(result, EncodeResult)
            self.cpu_seconds += result.cpu_seconds
        except TaskCancelledError as error:
            self._release(lease, None)
            raise StoppedError from error
        except (TaskFailedError, TaskStalledError, WorkerCrashedError) as error:
            self._retry(lease, left, error)
            return
        if left:
            self._still_mine()
            raise RuntimeError(f"a worker ended without segments {left}")

    def _retry(self, lease: Lease, left: list[int], error: Exception) -> None:
        if not left:  # it died with its work done
            return
        culprit = left[0]
        own = faults.is_own_crash(error)
        self._release(lease, culprit if own else None)
        log.warning(
            "segment_attempt_failed", plan_id=self._record.plan_id, index=culprit, own=own, error=str(error)
        )
        if not faults.may_retry(error):
            raise error
        if own:
            self._own_crashes[culprit] = self._own_crashes.get(culprit, 0) + 1
        else:
            self._foreign_kills += 1
        if (
            self._own_crashes[culprit] >= self._limits.max_crashes
            or self._foreign_kills > faults.MAX_FOREIGN_KILLS
        ):
            raise error
        self._waiting.update(left)

    def _release(self, lease: Lease, crashed_index: int | None) -> None:
        """Give a lease back. No row names its unfinished files, so they go first: a full disk may need their space."""
        for segment in lease.run:
            if segment.index not in self._done:
                self._blobs.delete(BlobKind.SEGMENT, self._key(lease, segment.index))
        self._durable.write(
            lambda tx: tx.release_segments(
                self._record.plan_id, lease_token=lease.token, crashed_index=crashed_index
            )
        )

    def _stop_all(self) -> None:
        """Wait until no worker has a lease of ours; what they finished on the way stays finished."""
        for handle in self._leases:
            handle.cancel()
        while self._leases:
            ended, lease, done = self._news.get()
            if done is not None and self._runner.stop_reason is not None:
                with suppress(SourceChangedError):
                    self._finish(lease, done)
            if ended is not None:
                del self._leases[ended]
                self._release(lease, None)

    def _count(self, finished_by: str | None = None) -> None:
        self._meter.segments(
            len(self._done),
            len(self._record.plan.segments),
            sum(row.frame_count for row in self._done.values()),
            finished_by,
        )


def _reset(tx: Transaction, plan_id: str, index: int) -> None:
    tx.reset_segment(plan_id, index)
