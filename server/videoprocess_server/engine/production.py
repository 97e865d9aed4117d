"""Makes a job's results: plan, segments, files, publishing. Orders and records; all media work is the workers'."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import cast

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStoreFullError
from videoprocess_server.blobs.shared_path import SharedPathError
from videoprocess_server.engine import endings, faults, fingerprint
from videoprocess_server.engine.assignment import Assignment
from videoprocess_server.engine.costs import Costs
from videoprocess_server.engine.delivery_batch import DeliveryBatch, DeliveryRefusedError
from videoprocess_server.engine.durable import Durable
from videoprocess_server.engine.encoding import Encoding
from videoprocess_server.engine.finishing import Finishing
from videoprocess_server.engine.outcome import Outcome
from videoprocess_server.engine.planning import Planning
from videoprocess_server.engine.progress import ProgressMeter
from videoprocess_server.engine.publishing import artifacts_of, report_of
from videoprocess_server.engine.segment_passes import SegmentPass, encode_pass, motion_pass
from videoprocess_server.engine.single_tasks import SingleTasks
from videoprocess_server.engine.source_files import files_of
from videoprocess_server.engine.source_guard import SourceGuard
from videoprocess_server.engine.sources import SourceChangedError, SourceTouchedError
from videoprocess_server.engine.sweeper import bury
from videoprocess_server.engine.task_runner import StoppedError, TaskRunner
from videoprocess_server.engine.work import StopReason
from videoprocess_server.engine.workshop import Workshop
from videoprocess_server.execution.executor import TaskFailedError
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.records import (
    Artifact,
    Job,
    JobProgress,
    Phase,
    PlanRecord,
    Report,
    SegmentRecord,
)
from videoprocess_server.model.states import SegmentState, Trigger
from videoprocess_server.model.tasks import DigestResult, DigestTask
from videoprocess_server.store.repository import Transaction

log = structlog.get_logger(__name__)

#: how often a source may be touched before it counts as changed
MOST_TOUCHES = 8


class Production:
    """The way from a running job to its published results.

    Args:
        assignment: the job it works for; another one may take over in a pause.
        runner: the tasks.
        meter: told how far it is.
        durable: transactions.
        shop: everything else.
        demand_changed: called when it could use more workers, or fewer.
    """

    def __init__(
        self,
        assignment: Assignment,
        runner: TaskRunner,
        meter: ProgressMeter,
        durable: Durable,
        shop: Workshop,
        demand_changed: Callable[[], None],
    ) -> None:
        self._assignment = assignment
        self._runner = runner
        self._meter = meter
        self._durable = durable
        self._shop = shop
        self._demand_changed = demand_changed
        self._costs = Costs(shop.recorder)
        self._guard = SourceGuard(assignment, shop.sources)
        self._tasks = SingleTasks(
            runner, meter, self._costs, shop.limits, self._tell, demand_changed, shop.recorder
        )
        self._planning = Planning(assignment, self._tasks, self._guard, self._costs, durable, shop)
        self._encoding: Encoding | None = None
        #: of those whose encoding is over
        self._done_segments = 0
        #: segments that were finished before the present job began
        self._reused_segments = 0

    @property
    def demand(self) -> int:
        """How many workers could do something now, at least 1."""
        encoding = self._encoding
        return max(1, encoding.demand) if encoding is not None else self._tasks.demand

    @property
    def alone(self) -> bool:
        """Whether nothing may run beside it."""
        encoding = self._encoding
        return self._tasks.alone or (encoding is not None and encoding.alone)

    def live(self) -> Job:
        """Return the job with its progress of this moment."""
        return replace(self._assignment.job, progress=self._meter.read(time.monotonic()))

    @property
    def has_advanced(self) -> bool:
        """Whether the present job has finished anything: a task, or a segment."""
        encoding = self._encoding
        return self._tasks.finished_count > 0 or (
            encoding is not None and encoding.done_count > encoding.reused_count
        )

    def resumed(self, frozen_seconds: float) -> None:
        """Another job goes on with this work, which was frozen for so long."""
        self._costs.froze(frozen_seconds)
        self._tasks.finished_count = 0
        self._reused_segments = self._done_segments
        if self._encoding is not None:
            self._encoding.resumed()

    def run(self) -> None:
        """Make and publish the results.

        Raises:
            StoppedError: the driver is to end.
            TaskFailedError, TaskStalledError, WorkerCrashedError, SourceChangedError: for good.
            DeliveryRefusedError: the files cannot be written where the caller asked for.
            BlobStoreFullError, OSError: the disk, or that of a shared root.
        """
        with self._shop.sources.at_hand(files_of(self._assignment.video), self._go_on):
            self._run()

    def _run(self) -> None:
        record = self._planning.find() or self._planning.make()
        self._costs.take_up(record.stages)
        self._check_deliveries(record)
        using = partial(self._shop.blobs.using, BlobKind.SEGMENT)
        for touches in range(MOST_TOUCHES):
            try:
                with using(record.plan_id):
                    record = self._settle(record)
                with using(record.plan_id):
                    self._produce(record)
            except SourceTouchedError:
                record = self._look_again(record)
            except TaskFailedError as error:
                raise self._cause(error, touched=touches > 0) from error
            else:
                return
        raise SourceTouchedError

    def _settle(self, record: PlanRecord) -> PlanRecord:
        """Return the plan; of a draft the one that its segments' motion leads to."""
        self._guard.begin(record.source_change_time_ns)
        self._guard.check()
        if not record.plan.is_draft:
            return record
        return self._planning.finish(record, self._go_over(record, motion_pass(record.plan)))

    def _produce(self, record: PlanRecord) -> None:
        media = self._assignment.video.media
        assert media is not None
        segments = self._go_over(record, encode_pass(record.plan, self._planning.camera_path(record)))
        finishing = Finishing(
            record.plan_id,
            record.plan,
            media,
            segments,
            self._tasks,
            self._guard,
            self._shop.blobs,
            self._go_on,
        )
        try:
            self._publish(record, finishing.run())
        finally:
            finishing.discard()

    # -- the source

    def _cause(self, error: TaskFailedError, *, touched: bool) -> Exception:
        """Return what a failure is told as: where a source was touched since it was planned, that is why."""
        passes = faults.POLICIES[faults.cause_of(error)].max_tries == 0
        if not passes and (touched or self._guard.is_touched()):
            return SourceChangedError("SOURCE_CHANGED", f"the file was changed: {error.message}")
        return error

    def _look_again(self, record: PlanRecord) -> PlanRecord:
        """Return the plan to go on with where only times of the file changed: its packets are what segments were made from.

        Raises:
            SourceChangedError: they are not.
        """
        change_ns = self._guard.change_time_ns()
        if change_ns == record.source_change_time_ns:
            return record  # it was the companion, of which nothing is kept
        rows = self._durable.read(lambda reader: reader.list_segments(record.plan_id))
        done = [row for row in rows if row.state is SegmentState.DONE]
        log.warning("source_touched", plan_id=record.plan_id, segments=len(done))
        if not done:
            return self._planning.make()
        result = self._tasks.run(Phase.PLAN, lambda: DigestTask(plan=record.plan), self._guard.open)
        digests = cast("DigestResult", result).input_sha256
        if any(digests[row.index] != row.input_sha256 for row in done):
            raise SourceChangedError(
                "SOURCE_CHANGED", "the file has other content than segments were made from"
            )
        return replace(record, source_change_time_ns=change_ns)

    # -- phases

    def _go_over(self, record: PlanRecord, segment_pass: SegmentPass) -> list[SegmentRecord]:
        """Return the plan's segments when the pass is through with them."""
        rows = self._durable.read(lambda reader: reader.list_segments(record.plan_id))
        done = [row for row in rows if row.state is SegmentState.DONE]
        self._runner.spans.enter(segment_pass.phase)
        self._meter.enter(
            segment_pass.phase,
            sum(segment.frame_count for segment in record.plan.segments),
            sum(row.frame_count for row in done),
        )
        encoding = Encoding(
            record,
            segment_pass,
            self._durable,
            self._shop.blobs,
            self._runner,
            self._meter,
            self._shop.limits,
            open_source=self._guard.open,
            check_source=self._guard.check,
            assignment=self._assignment,
            told=self._tell,
            demand_changed=self._demand_changed,
            recorder=self._shop.recorder,
        )
        since = self._costs.now()
        self._encoding = encoding
        try:
            return encoding.run()
        finally:
            self._encoding = None
            if segment_pass.phase is Phase.ENHANCE:
                self._reused_segments, self._done_segments = encoding.reused_count, encoding.done_count
            self._tasks.finished_count += encoding.done_count - encoding.reused_count
            self._demand_changed()
            check_cpu_seconds = encoding.check_cpu_seconds
            self._costs.charge(segment_pass.phase, since, encoding.cpu_seconds - check_cpu_seconds)
            self._costs.charge(Phase.VERIFY, self._costs.now(), check_cpu_seconds)
            self._keep_stages(record)

    def _publish(self, record: PlanRecord, outcome: Outcome) -> None:
        """Name all files, then tell of all of them in one transaction with the job's end."""
        self._runner.spans.enter(Phase.PUBLISH)
        self._meter.enter(Phase.PUBLISH)
        self._runner.check()
        now = self._shop.clock.now_us()
        self._keep_stages(record)
        job, video = self._assignment.job, self._assignment.video
        report = report_of(
            record, video, outcome, self._costs.stages, self._reused_segments, self._shop.build()
        )
        row, _ = self._durable.read(self._assignment.current)
        with self._shop.deliveries.begin(row, outcome.products, files_of(video)) as batch:
            artifacts = artifacts_of(
                job, video, outcome, batch.deliveries, now, self._shop.limits.retention.results_us
            )
            try:
                self._bring_beside(batch, outcome)
                for product, artifact in zip(outcome.products, artifacts, strict=True):
                    self._shop.blobs.publish(
                        product.work_key, BlobKind.RESULT, artifact.artifact_id, product.sha256, self._go_on
                    )
                batch.give_names()
                self._durable.write(lambda tx: self._complete(tx, record, report, artifacts, now))
            except (StoppedError, OSError, BlobStoreFullError, DeliveryRefusedError):
                self._withdraw(artifacts, batch)
                raise
        self._shop.sweeper.sweep()
        log.info("job_completed", job_id=job.job_id, files=len(artifacts), size_bytes=report.size_bytes)

    def _check_deliveries(self, record: PlanRecord) -> None:
        """Return unless it is known by now that the files cannot be written where the caller asked for."""
        row, video = self._durable.read(self._assignment.current)
        assert video.source is not None
        if row.snapshot is not None and row.snapshot.directories:
            self._shop.deliveries.check_plan(row, record.plan, video.source.file_name)

    def _bring_beside(self, batch: DeliveryBatch, outcome: Outcome) -> None:
        """Copy what goes into shared roots beside its place; the row says so before there is anything to find."""
        if not batch.noted:
            return
        self._durable.write(lambda tx: self._note(tx, batch))
        batch.create(self._go_on)
        self._durable.write(lambda tx: self._note(tx, batch))
        products = outcome.products
        batch.copy(
            lambda number: self._shop.blobs.open(BlobKind.WORK, products[number].work_key), self._go_on
        )

    def _note(self, tx: Transaction, batch: DeliveryBatch) -> None:
        job, _ = self._assignment.current(tx)
        tx.put_job(replace(job, deliveries=batch.noted))

    def _go_on(self) -> None:
        """Copying needs no worker, so that nobody waits for it to yield.

        Raises:
            StoppedError: any other stop: what is copied so far is nothing.
        """
        request = self._runner.request
        if request is not None and request.reason is not StopReason.YIELD:
            raise StoppedError

    def _withdraw(self, artifacts: list[Artifact], batch: DeliveryBatch) -> None:
        """Delete files that were not told of. A commit may have failed after it was durable: those that rows name stay."""
        with suppress(StoppedError):  # the store is away: the next start looks
            named = self._durable.read(
                lambda reader: [
                    reader.get_artifact(artifact.artifact_id) is not None for artifact in artifacts
                ]
            )
            for artifact, is_named in zip(artifacts, named, strict=True):
                if not is_named:
                    self._delete_result(artifact.artifact_id)
            if not any(named):
                try:
                    batch.withdraw()
                except (OSError, SharedPathError) as error:  # the job's row, or its tombstones, know of it
                    log.warning(
                        "delivery_not_withdrawn", job_id=self._assignment.job.job_id, error=str(error)
                    )

    def _delete_result(self, artifact_id: str) -> None:
        try:
            self._shop.blobs.delete(BlobKind.RESULT, artifact_id)
        except OSError as error:  # the next start sweeps it
            log.warning("result_not_deleted", artifact_id=artifact_id, error=str(error))

    def _complete(
        self, tx: Transaction, record: PlanRecord, report: Report, artifacts: list[Artifact], now_us: int
    ) -> None:
        job, row = self._assignment.current(tx)
        for artifact in artifacts:
            tx.put_artifact(artifact)
        endings.complete(tx, replace(job, progress=_finished(record.plan)), report, artifacts, now_us)
        done = endings.move(tx, row, Trigger.PUBLISHED, now_us)
        name = fingerprint.of_result(job.settings_fingerprint, record.enhance_from_us)
        tx.put_video(replace(done, result_fingerprint=name, result_job_id=job.job_id, last_fault=None))
        tx.delete_plan(record.plan_id)
        bury(tx, BlobKind.SEGMENT, record.plan_id, now_us)

    # -- what it tells and keeps

    def _tell(self) -> None:
        if self._assignment.owned:  # a worker's last words may come when it is frozen and its job has ended
            self._shop.hub.progressed(self.live())

    def _keep_stages(self, record: PlanRecord) -> None:
        stages = self._costs.stages

        def keep(tx: Transaction) -> None:
            if self._assignment.is_last(tx):
                tx.put_plan(replace(record, stages=stages))

        with suppress(StoppedError):
            self._durable.write(keep)


def _finished(plan: Plan) -> JobProgress:
    """Return the progress of a job whose results are published."""
    return JobProgress(
        phase=Phase.PUBLISH,
        percent=100.0,
        frames_done=plan.frame_count,
        frames_total=plan.frame_count,
        segments_done=len(plan.segments),
        segments_total=len(plan.segments),
        eta_seconds=0.0,
    )
