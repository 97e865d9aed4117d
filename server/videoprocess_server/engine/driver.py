"""Drives one job: orders its tasks, records what they did, ends it. All media work is the workers'."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore, BlobStoreFullError
from videoprocess_server.engine import endings, faults, fingerprint
from videoprocess_server.engine.checkpoints import delete_segments, discard_plans
from videoprocess_server.engine.durable import Durable
from videoprocess_server.engine.encoding import Encoding
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.progress import ProgressMeter
from videoprocess_server.engine.publishing import artifact_of, report_of
from videoprocess_server.engine.sources import SourceChangedError, Sources
from videoprocess_server.engine.task_runner import StoppedError, TaskRunner
from videoprocess_server.engine.work import StopReason
from videoprocess_server.execution.executor import (
    Executor,
    TaskCancelledError,
    TaskFailedError,
    TaskStalledError,
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
    Video,
)
from videoprocess_server.model.states import JobState, SegmentState, Trigger, VideoState
from videoprocess_server.model.tasks import (
    AnalyzeTask,
    BuildInfo,
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
R = TypeVar("R")

_STOPS = {
    StopReason.INTERRUPT: ("INTERRUPTED", Trigger.INTERRUPT),
    StopReason.RESET: ("RESET", Trigger.RESET),
}
_TASK_ERRORS = (TaskFailedError, TaskStalledError, WorkerCrashedError, SourceChangedError)


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What every driver works with."""

    blobs: BlobStore
    sources: Sources
    executor: Executor
    hub: EventHub
    clock: Clock
    limits: Limits
    plan_settings: PlanSettings
    build: Callable[[], BuildInfo]


class JobDriver:
    """One running job, from RUNNING to its end."""

    def __init__(self, job: Job, video: Video, durable: Durable, shop: Workshop) -> None:
        self._job = job
        self._video = video
        self._durable = durable
        self._shop = shop
        self._runner = TaskRunner(shop.executor, shop.limits.stall_seconds)
        self._meter = ProgressMeter()
        self._stages: dict[Phase, StageCost] = {}
        self._reused_segments = 0
        self._log = log.bind(job_id=job.job_id, user_id=job.user_id, video_id=job.video_id)
        #: set when a full disk or the like made it give the job back for a while
        self.wants_pause = threading.Event()

    def stop(self, reason: StopReason) -> None:
        """Ask it to end; from any thread."""
        self._runner.stop(reason)

    def live(self) -> Job:
        """Return the job with its progress of this moment."""
        return replace(self._job, progress=self._meter.read(time.monotonic()))

    def run(self) -> None:
        """Work until the job has ended or was given back to the queue."""
        self._log.info("job_started")
        try:
            self._work()
        except StoppedError:
            self._end_stopped()
        except (*_TASK_ERRORS, BlobStoreFullError, OSError) as error:
            if faults.is_passing(error):
                self.wants_pause.set()
                self._log.warning("job_waits", reason=str(error))
                self.give_back()
            elif isinstance(error, _TASK_ERRORS):
                self._end_failed(error)
            else:
                raise
        finally:
            self._delete_nobodys_segments()
            self._shop.hub.forget_progress(self._job.job_id)
            self._shop.hub.committed(self._job.user_id)

    def _work(self) -> None:
        record = self._find_plan() or self._make_plan()
        self._stages = {stage.phase: stage for stage in record.stages}
        segments = self._encode(record)
        work_key = f"{record.plan_id}-{new_id()}{record.plan.file_extension}"
        try:
            joined = self._join(record, segments, work_key)
            verified = self._verify(record, joined, work_key)
            self._publish(record, joined, verified, work_key)
        finally:
            self._shop.blobs.delete(BlobKind.WORK, work_key)

    # -- planning

    def _find_plan(self) -> PlanRecord | None:
        """Return the unfinished plan of the same settings, if this build may go on with it."""
        with self._durable.read() as reader:
            record = reader.find_plan(self._job.user_id, self._job.video_id, self._job.settings_fingerprint)
        assert self._video.source is not None
        if record is None:
            return None
        if record.fingerprint != fingerprint.of_plan(self._video.source, record.plan, self._shop.build()):
            return None
        self._job = replace(self._job, plan_id=record.plan_id)
        self._log.info("plan_continued", plan_id=record.plan_id)
        return record

    def _make_plan(self) -> PlanRecord:
        media, snapshot, source = self._video.media, self._job.snapshot, self._video.source
        assert media is not None
        assert snapshot is not None
        assert source is not None
        noise = cast("NoiseEstimate", self._task(Phase.ANALYZE, lambda: AnalyzeTask(video=media.video)))
        plan = cast(
            "Plan",
            self._task(
                Phase.PLAN,
                lambda: PlanTask(
                    media=media,
                    snapshot=snapshot,
                    enhance_from_us=self._job.timestamp_us,
                    noise=noise,
                    settings=self._shop.plan_settings,
                ),
            ),
        )
        record = PlanRecord(
            plan_id=new_id(),
            user_id=self._job.user_id,
            video_id=self._job.video_id,
            settings_fingerprint=self._job.settings_fingerprint,
            fingerprint=fingerprint.of_plan(source, plan, self._shop.build()),
            enhance_from_us=self._job.timestamp_us,
            plan=plan,
            stages=tuple(self._stages.values()),
            create_time_us=self._shop.clock.now_us(),
        )
        rows = [SegmentRecord(plan_id=record.plan_id, index=segment.index) for segment in plan.segments]
        planned = replace(self._job, plan_id=record.plan_id)

        def keep(tx: Transaction) -> list[str]:
            self._still_mine(tx)
            old = discard_plans(tx, record.user_id, record.video_id)
            tx.add_plan(record, rows)
            tx.put_job(planned)
            return old

        delete_segments(self._shop.blobs, self._durable.write(keep))
        self._job = planned
        self._log.info("plan_made", plan_id=record.plan_id, segments=len(rows), frames=plan.frame_count)
        return record

    # -- phases

    def _encode(self, record: PlanRecord) -> list[SegmentRecord]:
        with self._durable.read() as reader:
            rows = reader.list_segments(record.plan_id)
        done = sum(row.frame_count for row in rows if row.state is SegmentState.DONE)
        self._meter.enter(Phase.ENHANCE, record.plan.frame_count, done)
        encoding = Encoding(
            record,
            self._durable,
            self._shop.blobs,
            self._runner,
            self._meter,
            self._shop.limits,
            self._shop.executor.worker_count,
            open_source=self._open_source,
            check_source=self._check_source,
            still_mine=self._check_mine,
            told=self._tell,
        )
        begin = time.monotonic()
        try:
            return encoding.run()
        finally:
            self._reused_segments = encoding.reused_count
            self._charge(Phase.ENHANCE, time.monotonic() - begin, encoding.cpu_seconds)
            self._keep_stages(record)

    def _join(self, record: PlanRecord, segments: list[SegmentRecord], work_key: str) -> JoinResult:
        media = self._video.media
        assert media is not None
        paths = tuple(str(self._shop.blobs.path(BlobKind.SEGMENT, row.path)) for row in segments)

        def task() -> Task:
            self._shop.blobs.delete(BlobKind.WORK, work_key)
            output = str(self._shop.blobs.path(BlobKind.WORK, work_key))
            return JoinTask(media=media, plan=record.plan, segment_paths=paths, output_path=output)

        joined = cast("JoinResult", self._task(Phase.JOIN, task, record.plan.frame_count))
        self._check_source()
        return joined

    def _verify(self, record: PlanRecord, joined: JoinResult, work_key: str) -> VerifyResult:
        path = str(self._shop.blobs.path(BlobKind.WORK, work_key))
        task = VerifyTask(plan=record.plan, join=joined, path=path)
        return cast("VerifyResult", self._task(Phase.VERIFY, lambda: task, record.plan.frame_count))

    def _publish(self, record: PlanRecord, joined: JoinResult, verified: VerifyResult, work_key: str) -> None:
        self._meter.enter(Phase.PUBLISH)
        self._runner.check()
        now = self._shop.clock.now_us()
        self._keep_stages(record)
        stages = tuple(self._stages.values())
        report = report_of(
            record, self._video, joined, verified, stages, self._reused_segments, self._shop.build()
        )
        artifact = artifact_of(self._job, self._video, record, joined, new_id(), now)
        self._shop.blobs.publish(work_key, BlobKind.RESULT, artifact.artifact_id)

        def keep(tx: Transaction) -> None:
            video = self._still_mine(tx)
            tx.put_artifact(artifact)
            endings.complete(tx, replace(self._job, progress=_finished(record.plan)), report, [artifact], now)
            done = endings.move(tx, video, Trigger.PUBLISHED, now)
            name = fingerprint.of_result(self._job.settings_fingerprint, record.enhance_from_us)
            tx.put_video(
                replace(done, result_fingerprint=name, result_job_id=self._job.job_id, last_fault=None)
            )
            tx.delete_plan(record.plan_id)

        try:
            self._durable.write(keep)
        except StoppedError:
            self._shop.blobs.delete(BlobKind.RESULT, artifact.artifact_id)
            raise
        delete_segments(self._shop.blobs, [record.plan_id])
        self._log.info("job_completed", size_bytes=artifact.size_bytes, sha256=artifact.sha256)

    # -- tasks

    def _task(self, phase: Phase, make: Callable[[], Task], frames: int = 0) -> TaskResult:
        """Run one task, again after a crash, and charge its time to the phase."""
        self._meter.enter(phase, frames)
        self._tell()
        own_crashes = foreign_kills = 0
        while True:
            self._runner.check()
            begin = time.monotonic()
            try:
                result = self._runner.run(make(), self._open_source(), self._on_message)
            except TaskCancelledError as error:
                raise StoppedError from error
            except (TaskFailedError, WorkerCrashedError) as error:
                own_crashes += faults.is_own_crash(error)
                foreign_kills += not faults.is_own_crash(error)
                out_of_tries = (
                    own_crashes >= self._shop.limits.max_crashes or foreign_kills > faults.MAX_FOREIGN_KILLS
                )
                if not faults.may_retry(error) or out_of_tries:
                    raise
                self._log.warning("task_attempt_failed", phase=phase.value, error=str(error))
            else:
                self._charge(phase, time.monotonic() - begin, getattr(result, "cpu_seconds", 0.0))
                return result

    def _on_message(self, message: TaskMessage) -> None:
        if isinstance(message, Progress):
            self._meter.open_frames(self, message.frames, time.monotonic())
            self._tell()

    def _open_source(self) -> int:
        assert self._video.source is not None
        return self._shop.sources.open(self._job.user_id, self._video.source)

    def _check_source(self) -> None:
        assert self._video.source is not None
        self._shop.sources.check(self._job.user_id, self._video.source)

    def _tell(self) -> None:
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

    # -- endings

    def _still_mine(self, tx: Transaction) -> Video:
        """Return the video if the job is still running; RemoveVideo may have ended it meanwhile.

        Raises:
            StoppedError: it has.
        """
        job = tx.get_job(self._job.job_id)
        video = tx.get_video(self._job.user_id, self._job.video_id)
        if job is None or job.state is not JobState.RUNNING or video is None:
            raise StoppedError
        return video

    def _check_mine(self) -> None:
        with self._durable.read() as reader:
            job = reader.get_job(self._job.job_id)
        if job is None or job.state is not JobState.RUNNING:
            raise StoppedError

    def _end_stopped(self) -> None:
        """All workers have stopped: the job ends as it was asked to."""
        self.give_back()
        reason = self._runner.stop_reason
        self._log.info("job_stopped", reason=reason.name if reason else "SERVICE_CLOSED")

    def give_back(self) -> None:
        """End a job that was asked to stop; else it goes back to the queue, since nothing was wrong with it.

        The reason is read in the transaction, so that Interrupt and Reset are never too late for it (see `Stops`).
        """

        def end(tx: Transaction) -> list[str]:
            video, now = self._still_mine(tx), self._shop.clock.now_us()
            reason = self._runner.stop_reason
            if reason not in (StopReason.INTERRUPT, StopReason.RESET):
                self._requeue(tx, video, now)
                return []
            name, trigger = _STOPS[reason]
            endings.abort(tx, self.live(), name, now)
            endings.move(tx, video, trigger, now)
            return discard_plans(tx, video.user_id, video.video_id) if reason is StopReason.RESET else []

        with suppress(StoppedError):
            delete_segments(self._shop.blobs, self._durable.write(end))

    def give_up(self) -> None:
        """End a job whose driver breaks again and again: a mistake of ours, not of the video."""
        self._end(faults.broken())

    def _delete_nobodys_segments(self) -> None:
        """RemoveVideo deleted the plan's row; a worker may have written a file since it deleted the folder."""
        plan_id = self._job.plan_id
        if not plan_id:
            return
        with self._durable.read() as reader:
            gone = reader.get_plan(plan_id) is None
        if gone:
            delete_segments(self._shop.blobs, [plan_id])

    def _end_failed(self, error: Exception) -> None:
        self._log.warning("job_failed", error=str(error))
        self._end(faults.verdict(error))

    def _end(self, verdict: faults.Verdict) -> None:
        def end(tx: Transaction) -> None:
            video = self._still_mine(tx)
            now = self._shop.clock.now_us()
            back = self._job.previous_video_state if verdict.trigger is Trigger.SLIP else None
            endings.fail(tx, self.live(), verdict.fault, now)
            endings.move(tx, video, verdict.trigger, now, to=back, fault=None if back else verdict.fault)

        with suppress(StoppedError):
            self._durable.write(end)

    def _requeue(self, tx: Transaction, video: Video, now_us: int) -> None:
        tx.put_job(replace(self._job, state=JobState.QUEUED, progress=self._meter.read(time.monotonic())))
        endings.move(tx, video, Trigger.REQUEUE, now_us, to=VideoState.QUEUED)


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
