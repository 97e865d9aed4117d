"""Takes a pass over all segments of a plan: leases, workers, rows. Any order, any retry, the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore, BlobStoreUnavailableError
from videoprocess_server.engine import faults
from videoprocess_server.engine.assignment import Assignment
from videoprocess_server.engine.durable import Durable
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.open_leases import Lease, OpenLease
from videoprocess_server.engine.progress import ProgressMeter
from videoprocess_server.engine.recording import Recorder
from videoprocess_server.engine.segment_passes import SegmentPass
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
from videoprocess_server.model.tasks import EncodeResult, Progress, SegmentDone, TaskMessage
from videoprocess_server.store.repository import Transaction

log = structlog.get_logger(__name__)


class Encoding:
    """One pass of one job."""

    def __init__(
        self,
        record: PlanRecord,
        segment_pass: SegmentPass,
        durable: Durable,
        blobs: BlobStore,
        runner: TaskRunner,
        meter: ProgressMeter,
        limits: Limits,
        open_source: Callable[[], int],
        check_source: Callable[[], None],
        assignment: Assignment,
        told: Callable[[], None],
        demand_changed: Callable[[], None],
        recorder: Recorder,
    ) -> None:
        self._record = record
        self._pass = segment_pass
        self._durable = durable
        self._blobs = blobs
        self._runner = runner
        self._meter = meter
        self._limits = limits
        self._open_source = open_source
        self._check_source = check_source
        self._assignment = assignment
        self._told = told
        self._demand_changed = demand_changed
        self._recorder = recorder
        #: segments that some attempt has begun
        self._begun: set[int] = set()
        self._waiting: set[int] = set()
        self._done: dict[int, SegmentRecord] = {}
        self._leases: dict[TaskHandle, OpenLease] = {}
        #: index → monotonic seconds before which it is not tried again
        self._not_before: dict[int, float] = {}
        self._tries: dict[int, faults.Tries] = {}
        self._ending = False
        #: segments that were finished before the present job began
        self.reused_count = 0
        self.cpu_seconds = 0.0
        #: of those, what decoding the segments took
        self.check_cpu_seconds = 0.0
        #: segments whose worker ran out of memory: until they are finished nothing runs beside one worker
        self._alone: set[int] = set()

    @property
    def alone(self) -> bool:
        """Whether nothing may run beside its one worker."""
        return bool(self._alone)

    @property
    def demand(self) -> int:
        """How many workers could do something now."""
        if self.alone:
            return 1
        return len(self._waiting) + self._working

    @property
    def done_count(self) -> int:
        """How many segments are finished."""
        return len(self._done)

    @property
    def _working(self) -> int:
        """How many workers have a lease of ours."""
        return sum(not entry.ended for entry in tuple(self._leases.values()))

    def run(self) -> list[SegmentRecord]:
        """Return all segments, DONE, in order.

        Raises:
            StoppedError: the job is to stop; all workers have, and no lease is left.
            TaskFailedError, TaskStalledError, WorkerCrashedError, SourceChangedError: for good.
        """
        try:
            self._take_up()
            while self._waiting or self._leases:
                self._runner.check()
                self._runner.wait(self._start_leases())
        except BaseException:
            self._stop_all()
            raise
        return [self._done[segment.index] for segment in self._record.plan.segments]

    def resumed(self) -> None:
        """Another job goes on: what is finished is not its work, and frozen time is not a segment's."""
        self.reused_count = len(self._done)
        for entry in self._leases.values():
            entry.since = time.monotonic()

    def _take_up(self) -> None:
        """Read the rows; a finished segment counts if it was decoded, and its file still has the digest of its row."""
        rows = self._durable.write(self._claim)
        if len(rows) != len(self._record.plan.segments):  # the video was removed while its plan was made
            raise RuntimeError(f"{len(rows)} rows for {len(self._record.plan.segments)} segments")
        for row in rows:
            self._runner.check()
            self._tries[row.index] = faults.Tries(row.crash_count)
            if row.attempt_count:
                self._begun.add(row.index)
            if row.state is SegmentState.DONE and self._is_whole(row):
                self._done[row.index] = row
                continue
            if row.state is SegmentState.DONE:
                log.warning("segment_made_again", plan_id=row.plan_id, index=row.index)
                self._durable.write(partial(self._reset, index=row.index))
                self._blobs.delete(BlobKind.SEGMENT, row.path)
            self._waiting.add(row.index)
        self.reused_count = len(self._done)
        self._recorder.segments_reused(self._pass.phase, self.reused_count)
        self._count()
        self._demand_changed()

    def _is_whole(self, row: SegmentRecord) -> bool:
        if self._pass.is_checked and not (
            row.measures and row.measures.checked
        ):  # made by an earlier version
            return False
        try:
            return self._blobs.sha256(BlobKind.SEGMENT, row.path) == row.sha256
        except BlobStoreUnavailableError:
            raise
        except OSError:
            return False

    def _start_leases(self) -> float | None:
        """Give free workers something to do; return the seconds until a segment may be tried again, None for no such."""
        now = time.monotonic()
        self._not_before = {index: until for index, until in self._not_before.items() if until > now}
        workers = int(self._runner.has_machine) if self.alone else self._runner.workers
        while self._working < workers:
            ready = self._waiting - self._not_before.keys()
            run = next_run(self._record.plan.segments, ready & self._alone or ready, workers)
            if not run:
                break
            self._start(run)
        return min((until - now for until in self._not_before.values()), default=None)

    def _start(self, run: tuple[SegmentPlan, ...]) -> None:
        lease = Lease(new_id(), run)
        indices = [segment.index for segment in run]
        if not self._durable.write(partial(self._lease, indices=indices, token=lease.token)):
            raise RuntimeError(
                f"segments {indices} of plan {self._record.plan_id} are leased by somebody else"
            )
        self._waiting.difference_update(indices)
        self._recorder.segments_redone(self._pass.phase, len(self._begun.intersection(indices)))
        self._begun.update(indices)
        paths = tuple(str(self._blobs.path(BlobKind.SEGMENT, self._key(lease, index))) for index in indices)
        task = self._pass.task(run, paths)
        entry = OpenLease(lease, time.monotonic())
        handle = self._runner.submit(
            task, self._open_source(), lambda message: self._on_message(entry, message)
        )
        self._leases[handle] = entry
        handle.add_done_callback(lambda ended: self._runner.post(lambda: self._end(ended)))

    def _key(self, lease: Lease, index: int) -> str:
        return f"{self._record.plan_id}/{index:06d}-{lease.token}{self._pass.extension}"

    def _on_message(self, entry: OpenLease, message: TaskMessage) -> None:
        if isinstance(message, SegmentDone):
            self._runner.post(lambda: self._keep(entry, message))
        elif isinstance(message, Progress):
            self._meter.open_frames(entry.lease.token, message.frames, time.monotonic())
            self._told()

    def _keep(self, entry: OpenLease, done: SegmentDone) -> None:
        """Have a segment's file made durable, beside all else."""
        entry.keeping += 1
        kept = self._blobs.keep(BlobKind.SEGMENT, self._key(entry.lease, done.index), done.sha256)
        if kept.done():
            self._kept(entry, done, kept)
        else:
            kept.add_done_callback(lambda kept: self._runner.post(lambda: self._kept(entry, done, kept)))

    def _kept(self, entry: OpenLease, done: SegmentDone, kept: Future[None]) -> None:
        """A segment's file is durable, or could not be made so: a store that is away is waited out, unless the job ends."""
        entry.keeping -= 1
        error = kept.exception()
        try:
            if error is None:
                self._finish(entry.lease, done)
            elif not self._ending:
                log.warning(
                    "segment_not_kept", plan_id=self._record.plan_id, index=done.index, error=str(error)
                )
                self._durable.read(self._assignment.current)  # else its file went with the video
                if not isinstance(error, BlobStoreUnavailableError):
                    raise error
                self._keep(entry, done)
        finally:
            self._close_if_over(entry)

    def _finish(self, lease: Lease, done: SegmentDone) -> None:
        """A segment's file is durable: its row follows, if the lease still holds and the source is still the same."""
        try:
            self._check_source()
        except SourceChangedError:
            if self._ending:
                return
            raise
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
            measures=done.measures,
        )
        if self._durable.write(partial(self._note_done, row=row, token=lease.token)):
            self._done[done.index] = row
            self._recorder.segment_finished(self._pass.phase, row.size_bytes, row.frame_count)
            if done.index in self._alone:
                self._alone.remove(done.index)
                self._demand_changed()
            self._count(lease.token)
            self._told()
        self._after_segment(lease)

    def _after_segment(self, lease: Lease) -> None:
        """A checkpoint: note how long a segment takes, and give the worker up if others are to have it."""
        for handle, entry in self._leases.items():
            if entry.lease is not lease:
                continue
            now = time.monotonic()
            self._runner.stall_seconds = max(
                self._runner.stall_seconds, self._limits.stall_segments * (now - entry.since)
            )
            entry.since = now
            active = sum(not (other.given_up or other.ended) for other in self._leases.values())
            if not self._ending and not entry.given_up and active > self._runner.workers:
                entry.given_up = True
                handle.cancel()

    def _end(self, ended: TaskHandle) -> None:
        """A worker is through with its lease, one way or another."""
        entry = self._leases[ended]
        entry.ended = True
        self._demand_changed()
        self._meter.close_task(entry.lease.token)
        self._close_if_over(entry)

    def _close_if_over(self, entry: OpenLease) -> None:
        if entry.ended and not entry.keeping:
            self._close(next(handle for handle, other in self._leases.items() if other is entry))

    def _close(self, ended: TaskHandle) -> None:
        """A lease is over: what of it is not done waits for another."""
        entry = self._leases.pop(ended)
        lease = entry.lease
        left = [segment.index for segment in lease.run if segment.index not in self._done]
        try:
            result = ended.result()
            assert isinstance(result, EncodeResult)
            self.cpu_seconds += result.cpu_seconds
            self.check_cpu_seconds += result.check_cpu_seconds
        except TaskCancelledError as error:
            self._release(lease, None)
            self._waiting.update(left)
            if not entry.given_up and not self._ending:
                raise StoppedError from error
            return
        except (TaskFailedError, TaskStalledError, WorkerCrashedError) as error:
            self._retry(lease, left, error)
            return
        if left and not self._ending:
            self._durable.read(self._assignment.current)
            raise RuntimeError(f"a worker ended without segments {left}")

    def _retry(self, lease: Lease, left: list[int], error: Exception) -> None:
        if not left:  # it died with its work done
            return
        culprit, cause = left[0], faults.cause_of(error)
        policy = faults.POLICIES[cause]
        self._release(lease, culprit if policy.counts_as_crash else None)
        self._waiting.update(left)
        self._recorder.attempt_failed(self._pass.phase, cause)
        if self._ending:
            return
        log.warning(
            "segment_attempt_failed",
            plan_id=self._record.plan_id,
            index=culprit,
            cause=cause.value,
            error=str(error),
        )
        tries = self._tries[culprit].failed(error)
        if policy.runs_alone:
            self._alone.add(culprit)
            self._demand_changed()
        self._not_before[culprit] = time.monotonic() + faults.backoff_seconds(
            self._limits.retry_backoff_seconds, tries
        )

    def _release(self, lease: Lease, crashed_index: int | None) -> None:
        """Give a lease back. No row names its unfinished files, so they go first: a full disk may need their space."""
        for segment in lease.run:
            if segment.index not in self._done:
                self._blobs.delete(BlobKind.SEGMENT, self._key(lease, segment.index))
        self._durable.write(partial(self._give_back, token=lease.token, crashed_index=crashed_index))

    def _stop_all(self) -> None:
        """Wait until no worker has a lease of ours; what they finished on the way stays finished."""
        self._ending = True
        self._runner.end_all(lambda: not self._leases)

    def _count(self, finished_by: str | None = None) -> None:
        self._meter.segments(
            len(self._done),
            len(self._record.plan.segments),
            sum(row.frame_count for row in self._done.values()),
            finished_by,
        )

    # -- what is written: a lease by who drives the job, what became of it by whom nobody has followed

    def _claim(self, tx: Transaction) -> Sequence[SegmentRecord]:
        """Return the rows as they stay from now on: who was given up with a lease finishes nothing any more."""
        self._assignment.current(tx)
        tx.release_segments(self._record.plan_id)
        return tx.list_segments(self._record.plan_id)

    def _reset(self, tx: Transaction, index: int) -> None:
        self._assignment.current(tx)
        tx.reset_segment(self._record.plan_id, index)

    def _lease(self, tx: Transaction, indices: Sequence[int], token: str) -> bool:
        self._assignment.current(tx)
        return tx.lease_segments(self._record.plan_id, indices, token)

    def _note_done(self, tx: Transaction, row: SegmentRecord, token: str) -> bool:
        return self._assignment.is_last(tx) and tx.finish_segment(row, token)

    def _give_back(self, tx: Transaction, token: str, crashed_index: int | None) -> None:
        if self._assignment.is_last(tx):
            tx.release_segments(self._record.plan_id, lease_token=token, crashed_index=crashed_index)
