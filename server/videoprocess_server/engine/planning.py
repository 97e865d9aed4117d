"""Finds a job's plan or has it made. A plan that stabilises is made twice: a draft, and from its segments' motion the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStoreUnavailableError
from videoprocess_server.engine import fingerprint
from videoprocess_server.engine.assignment import Assignment
from videoprocess_server.engine.checkpoints import discard_plans
from videoprocess_server.engine.costs import Costs
from videoprocess_server.engine.durable import Durable
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.single_tasks import SingleTasks
from videoprocess_server.engine.source_guard import SourceGuard
from videoprocess_server.engine.workshop import Workshop
from videoprocess_server.execution.executor import TaskFailedError
from videoprocess_server.model.media_info import VideoTrackInfo
from videoprocess_server.model.noise import AnalyzeResult, noise_of
from videoprocess_server.model.plan import NoiseEstimate, Plan
from videoprocess_server.model.records import Phase, PlanRecord, SegmentRecord
from videoprocess_server.model.tasks import AnalyzeTask, PathResult, PathTask, PlanTask
from videoprocess_server.store.repository import Transaction

log = structlog.get_logger(__name__)

#: of the camera path, beside the plan's segments
CAMERA_PATH = "camera-path"
#: the noise is measured in so many parts at most, and of videos that are so much longer: whatever the machine
_MOST_PARTS = 4
_PART_SECONDS = 4


class Planning:
    """The plans of one job's video.

    Args:
        assignment: the job.
        tasks: has the work done.
        guard: opens the source.
        costs: what was spent so far.
        durable: transactions.
        shop: everything else.
    """

    def __init__(
        self,
        assignment: Assignment,
        tasks: SingleTasks,
        guard: SourceGuard,
        costs: Costs,
        durable: Durable,
        shop: Workshop,
    ) -> None:
        self._assignment = assignment
        self._tasks = tasks
        self._guard = guard
        self._costs = costs
        self._durable = durable
        self._shop = shop

    def find(self) -> PlanRecord | None:
        """Return the unfinished plan, or draft, of the same settings, if this build may go on with it."""
        job, video = self._assignment.job, self._assignment.video
        record = self._durable.read(
            lambda reader: reader.find_plan(job.user_id, job.video_id, job.settings_fingerprint)
        )
        if record is None or record.fingerprint != fingerprint.of_plan(
            video, record.plan, self._shop.build()
        ):
            return None
        if not self._has_whole_path(record):
            log.warning("camera_path_damaged", job_id=job.job_id, plan_id=record.plan_id)
            return None
        self._assignment.job = replace(job, plan_id=record.plan_id)
        log.info("plan_continued", job_id=job.job_id, plan_id=record.plan_id)
        return record

    def make(self) -> PlanRecord:
        """Have a plan made, or a draft, and keep it in place of all others of the video.

        Raises:
            StoppedError, TaskFailedError, TaskStalledError, WorkerCrashedError, SourceChangedError.
        """
        job, video = self._assignment.job, self._assignment.video
        media, snapshot = video.media, job.snapshot
        assert media is not None
        assert snapshot is not None
        change_ns = self._guard.change_time_ns()
        noise = self._noise(media.video)
        plan = cast(
            "Plan",
            self._tasks.run(
                Phase.PLAN,
                lambda: PlanTask(
                    media=media,
                    companion=video.companion_media,
                    snapshot=snapshot,
                    enhance_from_us=job.timestamp_us,
                    noise=noise,
                    settings=self._shop.plan_settings,
                ),
                self._guard.open,
            ),
        )
        return self._keep(new_id(), plan, change_ns, job.timestamp_us)

    def _noise(self, video: VideoTrackInfo) -> NoiseEstimate:
        """Have the noise measured, in parts side by side where the video is long enough to have key frames for each."""
        seconds = video.duration or 0
        count = max(1, min(_MOST_PARTS, int(seconds / _PART_SECONDS)))
        results = self._tasks.run_all(
            Phase.ANALYZE,
            [partial(AnalyzeTask, video=video, part=part, part_count=count) for part in range(count)],
            self._guard.open,
        )
        try:
            return noise_of(cast("list[AnalyzeResult]", results))
        except ValueError as error:
            raise TaskFailedError(
                "DECODE_FAILED", "No frame decodes at any place the noise is measured at."
            ) from error

    def finish(self, draft: PlanRecord, motions: Sequence[SegmentRecord]) -> PlanRecord:
        """Have the draft's measured motion made into a camera path, and keep the plan that follows in its place.

        Args:
            draft: the plan so far.
            motions: its segments, DONE, in order.

        Raises:
            StoppedError, TaskFailedError, TaskStalledError, WorkerCrashedError.
        """
        plan_id = new_id()
        key = f"{plan_id}/{CAMERA_PATH}"

        def task() -> PathTask:
            self._shop.blobs.delete(BlobKind.SEGMENT, key)  # of an earlier try
            return PathTask(
                plan=draft.plan,
                motion_paths=tuple(
                    str(self._shop.blobs.bring(BlobKind.SEGMENT, row.path)) for row in motions
                ),
                output_path=str(self._shop.blobs.path(BlobKind.SEGMENT, key)),
            )

        try:
            made = cast("PathResult", self._tasks.run(Phase.PLAN, task, self._guard.open))
            if made.plan.stabilisation is not None:  # else there is nothing to do, and its file is empty
                self._shop.blobs.keep(BlobKind.SEGMENT, key, made.plan.stabilisation.path_sha256).result()
            return self._keep(plan_id, made.plan, draft.source_change_time_ns, draft.enhance_from_us)
        except BaseException:
            if self._durable_plan(plan_id) is None:
                self._shop.blobs.delete(BlobKind.SEGMENT, plan_id)
            raise

    def camera_path(self, record: PlanRecord) -> str:
        """Return the path of the file that tells each frame's warp; "" where none is warped."""
        if record.plan.stabilisation is None or record.plan.is_draft:
            return ""
        return str(self._shop.blobs.bring(BlobKind.SEGMENT, f"{record.plan_id}/{CAMERA_PATH}"))

    def _has_whole_path(self, record: PlanRecord) -> bool:
        stabilisation = record.plan.stabilisation
        if stabilisation is None or record.plan.is_draft:
            return True
        key = f"{record.plan_id}/{CAMERA_PATH}"
        try:
            return self._shop.blobs.sha256(BlobKind.SEGMENT, key) == stabilisation.path_sha256
        except BlobStoreUnavailableError:
            raise
        except OSError:
            return False

    def _durable_plan(self, plan_id: str) -> PlanRecord | None:
        return self._durable.read(lambda reader: reader.get_plan(plan_id))

    def _keep(self, plan_id: str, plan: Plan, change_ns: int | None, enhance_from_us: int) -> PlanRecord:
        job = self._assignment.job
        record = PlanRecord(
            plan_id=plan_id,
            user_id=job.user_id,
            video_id=job.video_id,
            settings_fingerprint=job.settings_fingerprint,
            fingerprint=fingerprint.of_plan(self._assignment.video, plan, self._shop.build()),
            source_change_time_ns=change_ns,
            enhance_from_us=enhance_from_us,
            plan=plan,
            stages=self._costs.stages,
            create_time_us=self._shop.clock.now_us(),
        )
        rows = [SegmentRecord(plan_id=plan_id, index=segment.index) for segment in plan.segments]

        def keep(tx: Transaction) -> None:
            current, _ = self._assignment.current(tx)
            discard_plans(tx, record.user_id, record.video_id, record.create_time_us)
            tx.add_plan(record, rows)
            tx.put_job(replace(current, plan_id=plan_id))

        self._durable.write(keep)
        self._shop.sweeper.sweep()
        self._assignment.job = replace(job, plan_id=plan_id)
        log.info(
            "plan_drafted" if plan.is_draft else "plan_made",
            job_id=job.job_id,
            plan_id=plan_id,
            segments=len(rows),
            frames=plan.frame_count,
        )
        return record
