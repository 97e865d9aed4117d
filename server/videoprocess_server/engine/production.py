"""Makes a result: plan, segments, join, verification, publishing. Orders and records; all media work is the workers'."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.engine import endings, faults, fingerprint
from videoprocess_server.engine.assignment import Assignment
from videoprocess_server.engine.checkpoints import discard_plans
from videoprocess_server.engine.durable import Durable
from videoprocess_server.engine.encoding import Encoding
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.progress import ProgressMeter
from videoprocess_server.engine.publishing import artifact_of, report_of
from videoprocess_server.engine.sources import SourceChangedError, Sources, SourceTouchedError
from videoprocess_server.engine.sweeper import Sweeper, bury
from videoprocess_server.engine.task_runner import StoppedError, TaskRunner
from videoprocess_server.execution.executor import (
    Executor,
    TaskCancelledError,
    TaskFailedError,
    WorkerCrashedError,
)
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.plan import NoiseEstimate, Plan, PlanSettings
from videoprocess_server.model.records import (
    Job,
    JobProgress,
    Phase,
    PlanRecord,
    SegmentRecord,
    StageCost,
)
from videoprocess_server.model.states import SegmentState, Trigger
from videoprocess_server.model.tasks import (
    AnalyzeTask,
    BuildInfo,
    DigestResult,
    DigestTask,
    JoinResult,
    JoinTask,
    PlanTask,
    Progress,
    Task,
    TaskMessage,
    TaskResult,
    VerifyResult,
    VerifyTask,
)
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
    """The way from a running job to its published result.

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
        self._encoding: Encoding | None = None
        #: a task other than a segment's ran out of memory
        self._task_alone = False
        self._stages: dict[Phase, StageCost] = {}
        self._frozen_seconds = 0.0
        #: of the present job
        self._finished_tasks = 0
        #: of the source, as of the last look at its packets
        self._known_change_ns: int | None = None
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
        return self._task_alone or (encoding is not None and encoding.alone)

    def live(self) -> Job:
        """Return the job with its progress of this moment."""
        return replace(self._assignment.job, progress=self._meter.read(time.monotonic()))

    @property
    def has_advanced(self) -> bool:
        """Whether the present job has finished anything: a task, or a segment."""
        encoding = self._encoding
        return self._finished_tasks > 0 or (
            encoding is not None and encoding.done_count > encoding.reused_count
        )

    def resumed(self, frozen_seconds: float) -> None:
        """Another job goes on with this work, which was frozen for so long."""
        self._frozen_seconds += frozen_seconds
        self._finished_tasks = 0
        self._reused_segments = self._done_segments
        if self._encoding is not None:
            self._encoding.resumed()

    def run(self) -> None:
        """Make and publish the result.

        Raises:
            StoppedError: the driver is to end.
            TaskFailedError, TaskStalledError, WorkerCrashedError, SourceChangedError: for good.
            BlobStoreFullError, OSError: the disk.
        """
        record = self._find_plan() or self._make_plan()
        self._stages = {stage.phase: stage for stage in record.stages}
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
        self._known_change_ns = record.source_change_time_ns
        self._check_source()
        segments = self._encode(record)
        work_key = f"{record.plan_id}-{new_id()}{record.plan.renditions[0].file_extension}"
        try:
            joined = self._join(record, segments, work_key)
            verified = self._verify(record, joined, work_key)
            self._publish(record, joined, verified, work_key)
        finally:
            self._shop.blobs.delete(BlobKind.WORK, work_key)

    # -- the source

    def _open_source(self) -> int:
        video = self._assignment.video
        assert video.source is not None
        return self._shop.sources.open(video.user_id, video.source)

    def _change_time_ns(self) -> int | None:
        video = self._assignment.video
        assert video.source is not None
        return self._shop.sources.change_time_ns(video.user_id, video.source)

    def _check_source(self) -> None:
        """Return if the source is as it was when it was last looked at.

        Raises:
            SourceTouchedError: something about it has changed: see `_look_again`.
            SourceChangedError: it is another file, or is gone.
        """
        if self._change_time_ns() != self._known_change_ns:
            raise SourceTouchedError

    def _cause(self, error: TaskFailedError, *, touched: bool) -> Exception:
        """Return what a failure is told as: where the source was touched since it was planned, that is why."""
        passes = faults.POLICIES[faults.cause_of(error)].max_tries == 0
        if not passes and (touched or self._change_time_ns() != self._known_change_ns):
            return SourceChangedError("SOURCE_CHANGED", f"the file was changed: {error.message}")
        return error

    def _look_again(self, record: PlanRecord) -> PlanRecord:
        """Return the plan to go on with where only times of the file changed: its packets are what segments were made from.

        Raises:
            SourceChangedError: they are not.
        """
        change_ns = self._change_time_ns()
        rows = self._durable.read(lambda reader: reader.list_segments(record.plan_id))
        done = [row for row in rows if row.state is SegmentState.DONE]
        log.warning("source_touched", plan_id=record.plan_id, segments=len(done))
        if not done:
            return self._make_plan()
        result = self._task(Phase.PLAN, lambda: DigestTask(plan=record.plan))
        digests = cast("DigestResult", result).input_sha256
        if any(digests[row.index] != row.input_sha256 for row in done):
            raise SourceChangedError(
                "SOURCE_CHANGED", "the file has other content than segments were made from"
            )
        return replace(record, source_change_time_ns=change_ns)

    # -- planning

    def _find_plan(self) -> PlanRecord | None:
        """Return the unfinished plan of the same settings, if this build may go on with it."""
        job, source = self._assignment.job, self._assignment.video.source
        record = self._durable.read(
            lambda reader: reader.find_plan(job.user_id, job.video_id, job.settings_fingerprint)
        )
        assert source is not None
        if record is None or record.fingerprint != fingerprint.of_plan(
            source, record.plan, self._shop.build()
        ):
            return None
        self._assignment.job = replace(job, plan_id=record.plan_id)
        log.info("plan_continued", job_id=job.job_id, plan_id=record.plan_id)
        return record

    def _make_plan(self) -> PlanRecord:
        video, snapshot = self._assignment.video, self._assignment.job.snapshot
        media, source = video.media, video.source
        assert media is not None
        assert snapshot is not None
        assert source is not None
        enhance_from_us, change_ns = self._assignment.job.timestamp_us, self._change_time_ns()
        noise = cast("NoiseEstimate", self._task(Phase.ANALYZE, lambda: AnalyzeTask(video=media.video)))
        plan = cast(
            "Plan",
            self._task(
                Phase.PLAN,
                lambda: PlanTask(
                    media=media,
                    snapshot=snapshot,
                    enhance_from_us=enhance_from_us,
                    noise=noise,
                    settings=self._shop.plan_settings,
                ),
            ),
        )
        job = self._assignment.job
        record = PlanRecord(
            plan_id=new_id(),
            user_id=job.user_id,
            video_id=job.video_id,
            settings_fingerprint=job.settings_fingerprint,
            fingerprint=fingerprint.of_plan(source, plan, self._shop.build()),
            source_change_time_ns=change_ns,
            enhance_from_us=enhance_from_us,
            plan=plan,
            stages=tuple(self._stages.values()),
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
        self._meter.enter(Phase.ENHANCE, record.plan.frame_count, sum(row.frame_count for row in done))
        encoding = Encoding(
            record,
            self._durable,
            self._shop.blobs,
            self._runner,
            self._meter,
            self._shop.limits,
            open_source=self._open_source,
            check_source=self._check_source,
            still_mine=self._check_mine,
            told=self._tell,
            demand_changed=self._demand_changed,
        )
        begin, frozen = time.monotonic(), self._frozen_seconds
        self._encoding = encoding
        try:
            return encoding.run()
        finally:
            self._encoding = None
            self._reused_segments, self._done_segments = encoding.reused_count, encoding.done_count
            self._finished_tasks += encoding.done_count - encoding.reused_count
            self._demand_changed()
            wall_seconds = time.monotonic() - begin - (self._frozen_seconds - frozen)
            self._charge(Phase.ENHANCE, wall_seconds, encoding.cpu_seconds)
            self._keep_stages(record)

    def _join(self, record: PlanRecord, segments: list[SegmentRecord], work_key: str) -> JoinResult:
        media = self._assignment.video.media
        assert media is not None
        paths = tuple(str(self._shop.blobs.path(BlobKind.SEGMENT, row.path)) for row in segments)

        def task() -> Task:
            self._shop.blobs.delete(BlobKind.WORK, work_key)
            output = str(self._shop.blobs.path(BlobKind.WORK, work_key))
            return JoinTask(
                media=media,
                plan=record.plan,
                rendition_index=0,
                segment_paths=paths,
                output_path=output,
            )

        joined = cast("JoinResult", self._task(Phase.JOIN, task, record.plan.frame_count))
        self._check_source()
        return joined

    def _verify(self, record: PlanRecord, joined: JoinResult, work_key: str) -> VerifyResult:
        media = self._assignment.video.media
        assert media is not None
        path = str(self._shop.blobs.path(BlobKind.WORK, work_key))
        task = VerifyTask(plan=record.plan, rendition_index=0, media=media, join=joined, path=path)
        return cast("VerifyResult", self._task(Phase.VERIFY, lambda: task, record.plan.frame_count))

    def _publish(self, record: PlanRecord, joined: JoinResult, verified: VerifyResult, work_key: str) -> None:
        self._meter.enter(Phase.PUBLISH)
        self._runner.check()
        now = self._shop.clock.now_us()
        self._keep_stages(record)
        job, video = self._assignment.job, self._assignment.video
        stages = tuple(self._stages.values())
        report = report_of(record, video, joined, verified, stages, self._reused_segments, self._shop.build())
        artifact = artifact_of(
            job, video, record, joined, new_id(), now, self._shop.limits.retention.results_us
        )
        self._shop.blobs.publish(work_key, BlobKind.RESULT, artifact.artifact_id)

        def keep(tx: Transaction) -> None:
            current, row = self._assignment.current(tx)
            tx.put_artifact(artifact)
            endings.complete(tx, replace(current, progress=_finished(record.plan)), report, [artifact], now)
            done = endings.move(tx, row, Trigger.PUBLISHED, now)
            name = fingerprint.of_result(job.settings_fingerprint, record.enhance_from_us)
            tx.put_video(replace(done, result_fingerprint=name, result_job_id=job.job_id, last_fault=None))
            tx.delete_plan(record.plan_id)
            bury(tx, BlobKind.SEGMENT, record.plan_id, now)

        try:
            self._durable.write(keep)
        except StoppedError:
            self._shop.blobs.delete(BlobKind.RESULT, artifact.artifact_id)
            raise
        self._shop.sweeper.sweep()
        log.info("job_completed", job_id=job.job_id, size_bytes=artifact.size_bytes, sha256=artifact.sha256)

    # -- tasks

    def _task(self, phase: Phase, make: Callable[[], Task], frames: int = 0) -> TaskResult:
        """Run one task, again after a crash, and charge its time to the phase."""
        self._meter.enter(phase, frames)
        self._tell()
        tries = faults.Tries()
        while True:
            self._wait_for_a_place()
            begin, frozen = time.monotonic(), self._frozen_seconds
            try:
                result = self._runner.run(make(), self._open_source(), self._on_message)
            except TaskCancelledError as error:
                raise StoppedError from error
            except (TaskFailedError, WorkerCrashedError) as error:
                failed = tries.failed(error)
                self._run_alone(needed=self._task_alone or faults.POLICIES[faults.cause_of(error)].runs_alone)
                log.warning("task_attempt_failed", phase=phase.name, error=str(error))
                self._sleep(faults.backoff_seconds(self._shop.limits.retry_backoff_seconds, failed))
            else:
                wall_seconds = time.monotonic() - begin - (self._frozen_seconds - frozen)
                self._charge(phase, wall_seconds, getattr(result, "cpu_seconds", 0.0))
                self._run_alone(needed=False)
                self._finished_tasks += 1
                return result

    def _run_alone(self, *, needed: bool) -> None:
        if self._task_alone != needed:
            self._task_alone = needed
            self._demand_changed()

    def _wait_for_a_place(self) -> None:
        self._runner.check()
        while self._runner.workers == 0 or (self._task_alone and not self._runner.has_machine):
            self._runner.wait()

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._runner.wait(left)

    def _on_message(self, message: TaskMessage) -> None:
        if isinstance(message, Progress):
            self._meter.open_frames("task", message.frames, time.monotonic())
            self._tell()

    def _check_mine(self) -> None:
        self._durable.read(self._assignment.current)

    def _tell(self) -> None:
        if self._assignment.owned:  # a worker's last words may come when it is frozen and its job has ended
            self._shop.hub.progressed(self.live())

    def _charge(self, phase: Phase, wall_seconds: float, cpu_seconds: float) -> None:
        before = self._stages.get(phase, StageCost(phase=phase, wall_seconds=0.0, cpu_seconds=0.0))
        self._stages[phase] = StageCost(
            phase=phase,
            wall_seconds=before.wall_seconds + wall_seconds,
            cpu_seconds=before.cpu_seconds + cpu_seconds,
        )

    def _keep_stages(self, record: PlanRecord) -> None:
        stages = tuple(self._stages.values())
        with suppress(StoppedError):
            self._durable.write(lambda tx: tx.put_plan(replace(record, stages=stages)))


def _finished(plan: Plan) -> JobProgress:
    """Return the progress of a job whose result is published."""
    return JobProgress(
        phase=Phase.PUBLISH,
        percent=100.0,
        frames_done=plan.frame_count,
        frames_total=plan.frame_count,
        segments_done=len(plan.segments),
        segments_total=len(plan.segments),
        eta_seconds=0.0,
    )
