"""Drives one job at a time through its production, ends it, and waits with frozen workers for the next job of the video."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStoreFullError
from videoprocess_server.engine import endings, faults
from videoprocess_server.engine.assignment import Assignment
from videoprocess_server.engine.delivery_batch import DeliveryRefusedError
from videoprocess_server.engine.durable import Durable
from videoprocess_server.engine.job_spans import JobSpans
from videoprocess_server.engine.production import Production
from videoprocess_server.engine.progress import ProgressMeter
from videoprocess_server.engine.sources import SourceChangedError
from videoprocess_server.engine.task_runner import StoppedError, TaskRunner
from videoprocess_server.engine.work import FREEZES, Stop, StopReason
from videoprocess_server.engine.workshop import Workshop
from videoprocess_server.execution.executor import TaskFailedError, TaskStalledError, WorkerCrashedError
from videoprocess_server.model import job_times
from videoprocess_server.model.execution_modes import MODES
from videoprocess_server.model.records import Job, QueueClass, Video
from videoprocess_server.model.states import BlockReason, JobState, Trigger, VideoState
from videoprocess_server.model.trace_context import parse_traceparent
from videoprocess_server.store.repository import Reader, Transaction

log = structlog.get_logger(__name__)

_FAILURES = (
    TaskFailedError,
    TaskStalledError,
    WorkerCrashedError,
    SourceChangedError,
    DeliveryRefusedError,
    BlobStoreFullError,
    OSError,
)


class JobDriver:
    """A thread's work: from a RUNNING job to its end, and on with the next one of the same video where it was frozen.

    Args:
        job: RUNNING.
        video: of the job.
        durable: transactions.
        shop: what every driver works with.
        parked: called when a job whose workers were frozen has ended or is queued again; from then on another may take
            the work over.
        changed: called when its job has ended, and when it could use more workers, or fewer.
    """

    def __init__(
        self,
        job: Job,
        video: Video,
        durable: Durable,
        shop: Workshop,
        parked: Callable[[JobDriver], None],
        changed: Callable[[], None],
    ) -> None:
        self._durable = durable
        self._shop = shop
        self._parked = parked
        self._changed = changed
        self._assignment = Assignment(job, video)
        self._meter = ProgressMeter()
        self._runner = TaskRunner(shop.executor, shop.limits.stall_seconds, self._pause, JobSpans(shop.spans))
        self._runner.niceness = MODES[job.execution_mode].niceness
        self._production = Production(self._assignment, self._runner, self._meter, durable, shop, changed)
        #: True: the assigned job is to be worked on; False: give up
        self._awaited: queue.SimpleQueue[bool] = queue.SimpleQueue()
        #: why the job was given back for a while: a full disk or the like
        self.waits_for: BlockReason | None = None

    # -- from any thread

    @property
    def job(self) -> Job:
        """The job it works for, or worked for last."""
        return self._assignment.job

    @property
    def video(self) -> Video:
        """Its video."""
        return self._assignment.video

    @property
    def demand(self) -> int:
        """How many workers could do something now."""
        return self._production.demand

    @property
    def alone(self) -> bool:
        """Whether nothing may run beside it."""
        return self._production.alone

    def live(self) -> Job:
        """Return the job with its progress of this moment."""
        return self._production.live()

    def stop(self, stop: Stop) -> None:
        """Ask it to stop."""
        self._runner.stop(stop)

    def allow(self, workers: int, *, alone: bool = False) -> None:
        """Let it have so many workers, or the machine; a request to yield that it has not met yet is withdrawn."""
        self._runner.allow(workers, alone=alone)

    # -- while it waits

    def resident_bytes(self) -> int:
        """Return the memory its frozen workers hold."""
        return self._runner.resident_bytes()

    def can_go_on_with(self, reader: Reader, job: Job) -> bool:
        """Return whether the frozen work is what this job would do.

        Reset and its like may just have dropped its plan, or another replica may have gone on with it.
        """
        mine = self._assignment.job
        if not self._assignment.is_last(reader):
            return False
        if mine.settings_fingerprint != job.settings_fingerprint:
            return False
        if mine.plan_id:
            return reader.get_plan(mine.plan_id) is not None
        return mine.timestamp_us == job.timestamp_us

    def take_over(self, job: Job, video: Video) -> None:
        """Assign the next job, in the transaction that makes it RUNNING; `go_on` or `evict` must follow."""
        self._assignment.take_over(job, video)
        self._runner.niceness = MODES[job.execution_mode].niceness
        self._runner.forget_request()

    def go_on(self) -> None:
        """Begin, or thaw: the assigned job is durably RUNNING."""
        self._awaited.put(True)

    def evict(self) -> None:
        """Give up the open segments, and a job that was assigned in vain; its thread ends."""
        self._assignment.release()
        self._awaited.put(False)

    # -- in its thread

    def run(self) -> None:
        """Wait for `go_on`, then work until the job has ended or was given back to the queue, and no other takes over."""
        if not self._awaited.get():
            return
        self._name_lines()
        log.info("job_started")
        try:
            self._production.run()
        except StoppedError:
            self._end_stopped()
        except _FAILURES as error:
            self._end_failed(error)
        finally:
            self._runner.spans.end()
            self._delete_nobodys_segments()
            self._told_end(self.job)

    def give_back(self, blocked_by: BlockReason) -> None:
        """End a job that was asked to stop; else it goes back to the queue, since nothing was wrong with it.

        The reason is read in the transaction, so that Interrupt and Reset are never too late for it (see `Stops`).
        """

        def end(tx: Transaction) -> None:
            request = self._runner.request
            self._stopped(tx, request or Stop(reason=StopReason.YIELD, blocked_by=blocked_by))

        with suppress(StoppedError):
            self._durable.write(end)
        self._shop.sweeper.sweep()
        self._assignment.release()

    def give_up(self) -> None:
        """End a job whose driver breaks again and again: a mistake of ours, not of the video."""
        self._end(faults.broken())

    def _pause(self, _request: Stop) -> None:
        """All tasks are frozen: end or requeue the job, and wait until another goes on here.

        Raises:
            StoppedError: none does, or the tasks were cancelled instead.
        """

        def end(tx: Transaction) -> bool:
            request = self._runner.request
            if request is None:  # it need not yield after all
                return False
            if request.reason not in FREEZES:
                raise StoppedError
            self._stopped(tx, request)
            return True

        if not self._durable.write(end):
            self._runner.thaw()
            return
        self._assignment.release()
        job, begin = self.job, time.monotonic()
        log.info("job_parked", resident_bytes=self.resident_bytes())
        self._shop.recorder.work_parked()
        self._runner.spans.end()
        self._parked(self)
        self._told_end(job)
        if not self._awaited.get():
            self._shop.recorder.work_given_up()
            raise StoppedError
        self._shop.recorder.work_resumed()
        self._production.resumed(time.monotonic() - begin)
        self._name_lines()
        log.info("job_went_on")
        self._runner.thaw()

    def _stopped(self, tx: Transaction, request: Stop) -> None:
        """Write what becomes of a stopped job."""
        job, video = self._assignment.current(tx)
        now = self._shop.clock.now_us()
        job = replace(job, progress=self._meter.read(time.monotonic()))
        reason = StopReason[job.stop_requested] if job.stop_requested else request.reason
        if reason in endings.STOPS:
            endings.stop(tx, job, video, reason, now)
            return
        before = None if self._production.has_advanced else job.blocked_since_us
        requeued = replace(
            job_times.ceased(job, now),
            state=JobState.QUEUED,
            driver=None,
            queue_class=QueueClass.PAUSED,
            blocked_by=request.blocked_by,
            blocked_since_us=(before or now) if request.blocked_by is not BlockReason.NONE else None,
        )
        tx.put_job(requeued)
        endings.move(tx, video, Trigger.REQUEUE, now, to=VideoState.QUEUED)

    def _end_stopped(self) -> None:
        """All workers have stopped: the job ends as it was asked to, unless it has."""
        if self._assignment.owned:
            self.give_back(BlockReason.NONE)

    def _end_failed(self, error: BaseException) -> None:
        try:
            self._durable.read(self._assignment.current)
        except StoppedError:  # its files are others' to delete by now, and that it met
            self._assignment.release()
            return
        try:
            policy = faults.POLICIES[faults.cause_of(error)]
        except TypeError:
            raise error from None
        if policy.max_tries == 0:
            log.warning("job_waits", reason=str(error), blocked_by=policy.blocked_by.value)
            self.waits_for = policy.blocked_by
            self.give_back(policy.blocked_by)
            return
        log.warning("job_failed", error=str(error))
        self._end(faults.verdict(error))

    def _end(self, verdict: faults.Verdict) -> None:
        def end(tx: Transaction) -> None:
            job, video = self._assignment.current(tx)
            now = self._shop.clock.now_us()
            back = job.previous_video_state if verdict.trigger is Trigger.SLIP else None
            job = replace(job, progress=self._meter.read(time.monotonic()))
            endings.fail(tx, job, verdict.fault, now)
            endings.move(tx, video, verdict.trigger, now, to=back, fault=None if back else verdict.fault)

        with suppress(StoppedError):
            self._durable.write(end)
        self._assignment.release()

    def _told_end(self, job: Job) -> None:
        self._shop.hub.forget_progress(job.job_id)
        self._shop.hub.committed(job.user_id)
        self._changed()

    def _delete_nobodys_segments(self) -> None:
        """RemoveVideo deleted the plan's row; a worker may have written a file since it deleted the folder."""
        plan_id = self.job.plan_id
        if not plan_id:
            return
        if self._durable.read(lambda reader: reader.get_plan(plan_id)) is None:
            try:
                self._shop.blobs.delete(BlobKind.SEGMENT, plan_id)
            except OSError as error:  # the next start sweeps them
                log.warning("segments_not_deleted", plan_id=plan_id, error=str(error))

    def _name_lines(self) -> None:
        """Name the job from now on in spans, and in lines of its driver's thread and of its workers' threads."""
        job = self.job
        trace = parse_traceparent(job.traceparent)
        self._runner.spans.begin(job)
        structlog.contextvars.bind_contextvars(
            job_id=job.job_id,
            user_id=job.user_id,
            video_id=job.video_id,
            trace_id=trace.trace_id if trace is not None else "",
        )
