"""Makes a job's results: plan, segments, files, publishing. Orders and records; all media work is the workers'."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore, BlobStoreFullError
from videoprocess_server.engine import endings, faults, fingerprint
from videoprocess_server.engine.assignment import Assignment
from videoprocess_server.engine.checkpoints import discard_plans
from videoprocess_server.engine.costs import Costs
from videoprocess_server.engine.durable import Durable
from videoprocess_server.engine.encoding import Encoding
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.finishing import Finishing
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.outcome import Outcome
from videoprocess_server.engine.progress import ProgressMeter
from videoprocess_server.engine.publishing import artifacts_of, report_of
from videoprocess_server.engine.single_tasks import SingleTasks
from videoprocess_server.engine.source_guard import SourceGuard
from videoprocess_server.engine.sources import SourceChangedError, Sources, SourceTouchedError
from videoprocess_server.engine.sweeper import Sweeper, bury
from videoprocess_server.engine.task_runner import StoppedError, TaskRunner
from videoprocess_server.execution.executor import Executor, TaskFailedError
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.plan import NoiseEstimate, Plan, PlanSettings
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
from videoprocess_server.model.tasks import AnalyzeTask, BuildInfo, DigestResult, DigestTask, PlanTask
from videoprocess_server.store.repository import Transaction

log = structlog.get_logger(__name__)

#: how often a source may be touched before it counts as changed
MOST_TOUCHES = 8


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What every driver works with."""

    blobs: BlobStore
    sources: Sources
    executor: Executor
    hub: EventHub
    sweeper: Sweeper
    clock: Clock
    limits: Limits
    plan_settings: PlanSettings
    build: Callable[[], BuildInfo]


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
        self._costs = Costs()
        self._guard = SourceGuard(assignment, shop.sources)
        self._tasks = SingleTasks(runner, meter, self._costs, shop.limits, self._tell, demand_changed)
        self._encoding: Encoding | None = None
        #: of those whose encoding is over
        self._done_segments = 0
        #: segments that were finished before the present job began
        self._reused_segments = 0

    @property
    def demand(self) -> int:
        """How many workers could do something now, at least 1."""
        encoding = self._encoding
        return max(1, encoding.demand) if encoding is not None else 1

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
            BlobStoreFullError, OSError: the disk.
        """
        record = self._find_plan() or self._make_plan()
        self._costs.take_up(record.stages)
        for touches in range(MOST_TOUCHES):
            try:
                self._produce(record)
            except SourceTouchedError:
                record = self._look_again(record)
            except TaskFailedError as error:
                raise self._cause(error, touched=touches > 0) from error
            else:
                return
        raise SourceTouchedError

    def _produce(self, record: PlanRecord) -> None:
        media = self._assignment.video.media
        assert media is not None
        self._guard.begin(record.source_change_time_ns)
        self._guard.check()
        segments = self._encode(record)
        finishing = Finishing(
            record.plan_id, record.plan, media, segments, self._tasks, self._guard, self._shop.blobs
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
            return self._make_plan()
        result = self._tasks.run(Phase.PLAN, lambda: DigestTask(plan=record.plan), self._guard.open)
        digests = cast("DigestResult", result).input_sha256
        if any(digests[row.index] != row.input_sha256 for row in done):
            raise SourceChangedError(
                "SOURCE_CHANGED", "the file has other content than segments were made from"
            )
        return replace(record, source_change_time_ns=change_ns)

    # -- planning

    def _find_plan(self) -> PlanRecord | None:
        """Return the unfinished plan of the same settings, if this build may go on with it."""
        job, video = self._assignment.job, self._assignment.video
        record = self._durable.read(
            lambda reader: reader.find_plan(job.user_id, job.video_id, job.settings_fingerprint)
        )
        if record is None or record.fingerprint != fingerprint.of_plan(
            video, record.plan, self._shop.build()
        ):
            return None
        self._assignment.job = replace(job, plan_id=record.plan_id)
        log.info("plan_continued", job_id=job.job_id, plan_id=record.plan_id)
        return record

    def _make_plan(self) -> PlanRecord:
        video, snapshot = self._assignment.video, self._assignment.job.snapshot
        media = video.media
        assert media is not None
        assert snapshot is not None
        enhance_from_us, change_ns = self._assignment.job.timestamp_us, self._guard.change_time_ns()
        noise = cast(
            "NoiseEstimate",
            self._tasks.run(Phase.ANALYZE, lambda: AnalyzeTask(video=media.video), self._guard.open),
        )
        plan = cast(
            "Plan",
            self._tasks.run(
                Phase.PLAN,
                lambda: PlanTask(
                    media=media,
                    companion=video.companion_media,
                    snapshot=snapshot,
                    enhance_from_us=enhance_from_us,
                    noise=noise,
                    settings=self._shop.plan_settings,
                ),
                self._guard.open,
            ),
        )
        job = self._assignment.job
        record = PlanRecord(
            plan_id=new_id(),
            user_id=job.user_id,
            video_id=job.video_id,
            settings_fingerprint=job.settings_fingerprint,
            fingerprint=fingerprint.of_plan(video, plan, self._shop.build()),
            source_change_time_ns=change_ns,
            enhance_from_us=enhance_from_us,
            plan=plan,
            stages=self._costs.stages,
            create_time_us=self._shop.clock.now_us(),
        )
        rows = [SegmentRecord(plan_id=record.plan_id, index=segment.index) for segment in plan.segments]

        def keep(tx: Transaction) -> None:
            current, _ = self._assignment.current(tx)
            discard_plans(tx, record.user_id, record.video_id, record.create_time_us)
            tx.add_plan(record, rows)
            tx.put_job(replace(current, plan_id=record.plan_id))

        self._durable.write(keep)
        self._shop.sweeper.sweep()
        self._assignment.job = replace(job, plan_id=record.plan_id)
        log.info(
            "plan_made",
            job_id=job.job_id,
            plan_id=record.plan_id,
            segments=len(rows),
            frames=plan.frame_count,
        )
        return record

    # -- phases

    def _encode(self, record: PlanRecord) -> list[SegmentRecord]:
        rows = self._durable.read(lambda reader: reader.list_segments(record.plan_id))
        done = [row for row in rows if row.state is SegmentState.DONE]
        self._meter.enter(
            Phase.ENHANCE,
            sum(segment.frame_count for segment in record.plan.segments),
            sum(row.frame_count for row in done),
        )
        encoding = Encoding(
            record,
            self._durable,
            self._shop.blobs,
            self._runner,
            self._meter,
            self._shop.limits,
            open_source=self._guard.open,
            check_source=self._guard.check,
            still_mine=self._check_mine,
            told=self._tell,
            demand_changed=self._demand_changed,
        )
        since = self._costs.now()
        self._encoding = encoding
        try:
            return encoding.run()
        finally:
            self._encoding = None
            self._reused_segments, self._done_segments = encoding.reused_count, encoding.done_count
            self._tasks.finished_count += encoding.done_count - encoding.reused_count
            self._demand_changed()
            self._costs.charge(Phase.ENHANCE, since, encoding.cpu_seconds)
            self._keep_stages(record)

    def _publish(self, record: PlanRecord, outcome: Outcome) -> None:
        """Name all files, then tell of all of them in one transaction with the job's end."""
        self._meter.enter(Phase.PUBLISH)
        self._runner.check()
        now = self._shop.clock.now_us()
        self._keep_stages(record)
        job, video = self._assignment.job, self._assignment.video
        report = report_of(
            record, video, outcome, self._costs.stages, self._reused_segments, self._shop.build()
        )
        artifacts = artifacts_of(job, video, outcome, now, self._shop.limits.retention.results_us)
        try:
            for product, artifact in zip(outcome.products, artifacts, strict=True):
                self._shop.blobs.publish(product.work_key, BlobKind.RESULT, artifact.artifact_id)
            self._durable.write(lambda tx: self._complete(tx, record, report, artifacts, now))
        except (StoppedError, OSError, BlobStoreFullError):
            self._withdraw(artifacts)
            raise
        self._shop.sweeper.sweep()
        log.info("job_completed", job_id=job.job_id, files=len(artifacts), size_bytes=report.size_bytes)

    def _withdraw(self, artifacts: list[Artifact]) -> None:
        """Delete files that were not told of. A commit may have failed after it was durable: those that rows name stay."""
        with suppress(StoppedError):  # the store is away: the next start looks
            named = self._durable.read(
                lambda reader: [
                    reader.get_artifact(artifact.artifact_id) is not None for artifact in artifacts
                ]
            )
            for artifact, is_named in zip(artifacts, named, strict=True):
                if not is_named:
                    self._shop.blobs.delete(BlobKind.RESULT, artifact.artifact_id)

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

    def _check_mine(self) -> None:
        self._durable.read(self._assignment.current)

    def _tell(self) -> None:
        if self._assignment.owned:  # a worker's last words may come when it is frozen and its job has ended
            self._shop.hub.progressed(self.live())

    def _keep_stages(self, record: PlanRecord) -> None:
        stages = self._costs.stages
        with suppress(StoppedError):
            self._durable.write(lambda tx: tx.put_plan(replace(record, stages=stages)))


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
