"""An Executor in threads whose workers crash, fail, stall or wait when a test says so, and else answer at once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.made_up_media import BUILD, FRAMES_PER_SEGMENT, MEASURES, MEDIA, NOISE, drafted, plan_of
from videoprocess_server.execution.executor import (
    Slot,
    TaskCancelledError,
    TaskFailedError,
    TaskHandle,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.execution.places import Places
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.execution.task_threads import TaskThread, TaskThreads
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.noise import AnalyzeResult, FrameNoise
from videoprocess_server.model.plan import FrameScore, Plan, SegmentPlan
from videoprocess_server.model.quality import CheckedVideo
from videoprocess_server.model.tasks import (
    AnalyzeTask,
    DescribeTask,
    DigestResult,
    DigestTask,
    EncodeResult,
    EncodeTask,
    JoinResult,
    JoinTask,
    MakerResult,
    MakerTask,
    MotionTask,
    PathResult,
    PathTask,
    PlanTask,
    ProbeTask,
    Progress,
    SegmentDone,
    StillsResult,
    StillsTask,
    StripResult,
    StripTask,
    Task,
    TaskMessage,
    TaskResult,
    VerifyResult,
    VerifyTask,
    WatermarkInfo,
    WatermarkTask,
    WrittenFile,
)

PATIENCE_SECONDS = 10.0
SOURCE_HEAD_BYTES = 100


@dataclass(frozen=True)
class Attempt:
    """What an act sees of the try it happens to."""

    task: Task
    #: set when somebody cancels the task
    cancelled: threading.Event
    tell: Callable[[TaskMessage], None]


Act = Callable[[Attempt], None]


def crash(exit_code: int) -> Act:
    def act(_attempt: Attempt) -> None:
        raise WorkerCrashedError(exit_code)

    return act


def fail(reason: str) -> Act:
    def act(_attempt: Attempt) -> None:
        raise TaskFailedError(reason, "made up")

    return act


def stall(_attempt: Attempt) -> None:
    raise TaskStalledError


def succeed(_attempt: Attempt) -> None:
    """Nothing special."""


class Gate:
    """An act that waits: the test sees that the worker is there, and lets it go on."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, attempt: Attempt) -> None:
        self._reached.set()
        while not self._open.wait(0.002):
            if attempt.cancelled.is_set():
                raise TaskCancelledError("killed")

    def wait(self) -> None:
        assert self._reached.wait(PATIENCE_SECONDS), "no worker came to the gate"

    def open(self) -> None:
        self._open.set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()


class RecordedRun(TaskRun):
    """A TaskRun whose freezes and thaws a test sees."""

    def __init__(
        self,
        task: Task,
        source_fd: int | None,
        stall_seconds: float,
        on_message: Callable[[TaskMessage], None] | None,
        places: Places[TaskRun],
        executor: ScriptedExecutor,
        *,
        niceness: int,
    ) -> None:
        super().__init__(task, source_fd, stall_seconds, on_message, places, niceness=niceness)
        self._executor = executor

    def freeze(self) -> None:
        super().freeze()
        self._executor.frozen.append(self.task)

    def thaw(self) -> None:
        self._executor.thawed.append(self.task)
        super().thaw()

    def resident_bytes(self) -> int:
        return self._executor.resident_bytes if super().frozen else 0


class ScriptedExecutor:
    """See Executor. `will` says what happens to the next tries of a kind of task, or of a segment, in that order.

    A frozen task holds its messages and its end back until it is thawed.

    Args:
        worker_count: how many GENERAL tasks run at once.
        segment_count: of every plan it makes.
    """

    def __init__(self, worker_count: int = 1, segment_count: int = 3) -> None:
        self._worker_count = worker_count
        self._segment_count = segment_count
        self._acts: defaultdict[type[Task] | int, deque[Act]] = defaultdict(deque)
        self._after: defaultdict[int, deque[Act]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._open_runs: set[TaskHandle] = set()
        self._threads = {
            Slot.PROBE: TaskThreads(4, self._do, "scripted-probe"),
            Slot.GENERAL: TaskThreads(worker_count, self._do, "scripted-general"),
        }
        #: what a segment's file decodes to
        self.check: Callable[[Plan, SegmentPlan], tuple[CheckedVideo, ...]] = _checked
        #: what the next probes find
        self.media: deque[MediaInfo] = deque()
        #: every task that began, in order
        self.begun: list[Task] = []
        #: how the source of the last task of each kind began
        self.read: dict[type[Task], bytes] = {}
        #: every segment that a try began with, in order
        self.encoded: list[int] = []
        #: of a draft, every segment whose motion a try began to measure, in order
        self.measured: list[int] = []
        #: the tasks of all calls of freeze and thaw, in order, of those too that changed nothing
        self.frozen: list[Task] = []
        self.thawed: list[Task] = []
        #: with what niceness each task was submitted, in order
        self.niceness: list[int] = []
        #: what the worker of every frozen task holds
        self.resident_bytes = 100 << 20

    def will(self, where: type[Task] | int, *acts: Act) -> None:
        """The next tries of a kind of task, or of the segment with this index, meet these acts."""
        self._acts[where].extend(acts)

    def will_after(self, index: int, *acts: Act) -> None:
        """The next tries of a segment meet these acts when it is written and told already."""
        self._after[index].extend(acts)

    def count(self, kind: type[Task]) -> int:
        return sum(isinstance(task, kind) for task in self.begun)

    @property
    def worker_count(self) -> int:
        return self._worker_count

    def start(self) -> None:
        """Threads start when there are tasks."""

    def submit(
        self,
        task: Task,
        *,
        source_fd: int | None = None,
        slot: Slot = Slot.GENERAL,
        stall_seconds: float,
        niceness: int = 0,
        on_message: Callable[[TaskMessage], None] | None = None,
    ) -> TaskRun:
        places = self._threads[slot].places
        run = RecordedRun(task, source_fd, stall_seconds, on_message, places, self, niceness=niceness)
        with self._lock:
            self._open_runs.add(run)
            self.niceness.append(niceness)
        run.add_done_callback(self._forget)
        run.queue()
        return run

    def worker_pids(self) -> Sequence[int]:
        return ()

    def ping(self) -> None:
        """Tasks can always run."""

    def kill_all(self) -> None:
        """End all tasks there are, as when the service dies."""
        with self._lock:
            runs = list(self._open_runs)
        for run in runs:
            run.cancel()

    def close(self) -> None:
        self.kill_all()
        for threads in self._threads.values():
            threads.join()

    def _forget(self, run: TaskHandle) -> None:
        with self._lock:
            self._open_runs.discard(run)

    def _do(self, run: TaskRun, worker: TaskThread) -> TaskResult | Exception:
        try:
            return self._answer(run, worker)
        except Exception as error:  # noqa: BLE001  whatever an act raises is what becomes of the task
            return error

    def _answer(self, run: TaskRun, worker: TaskThread) -> TaskResult:
        cancelled = worker.stopped

        def tell(message: TaskMessage) -> None:
            worker.hold()
            refusal = run.tell(message)
            if refusal is not None:
                raise refusal
            if cancelled.is_set():
                raise TaskCancelledError("killed")

        attempt = Attempt(run.task, cancelled, tell)
        with self._lock:
            self.begun.append(run.task)
            if run.source_fd is not None:
                self.read[type(run.task)] = os.pread(run.source_fd, SOURCE_HEAD_BYTES, 0)
        self._meet(self._acts, type(run.task), attempt)
        if isinstance(run.task, EncodeTask):
            return self._encode(run.task, attempt)
        if isinstance(run.task, MotionTask):
            return self._measure(run.task, attempt)
        if isinstance(run.task, PlanTask):
            snapshot = run.task.snapshot
            plan = plan_of(self._segment_count, run.task.enhance_from_us, snapshot.streams)
            return drafted(plan, snapshot.mode_setting.stabilisation)
        if isinstance(run.task, ProbeTask) and self.media:
            return self.media.popleft()
        return _ANSWERS[type(run.task)](run.task)

    @staticmethod
    def _meet(
        acts: defaultdict[type[Task] | int, deque[Act]], where: type[Task] | int, attempt: Attempt
    ) -> None:
        if acts[where]:
            acts[where].popleft()(attempt)

    def _measure(self, task: MotionTask, attempt: Attempt) -> EncodeResult:
        done = []
        for part, path in zip(task.segments, task.output_paths, strict=True):
            with self._lock:
                self.measured.append(part.index)
            done.append(_write_segment(part, Path(path)))
            attempt.tell(done[-1])
        return EncodeResult(segments=tuple(done), cpu_seconds=0.0)

    def _encode(self, task: EncodeTask, attempt: Attempt) -> EncodeResult:
        done = []
        for part, path in zip(task.segments, task.output_paths, strict=True):
            with self._lock:
                self.encoded.append(part.index)
            attempt.tell(Progress(frames=FRAMES_PER_SEGMENT // 2, bytes=1))
            self._meet(self._acts, part.index, attempt)
            measures = replace(MEASURES, checked=self.check(task.plan, part))
            done.append(replace(_write_segment(part, Path(path)), measures=measures))
            attempt.tell(done[-1])
            if self._after[part.index]:
                self._after[part.index].popleft()(attempt)
        return EncodeResult(segments=tuple(done), cpu_seconds=0.0)


def _write_segment(part: SegmentPlan, path: Path) -> SegmentDone:
    data = f"segment {part.index} from {part.start_pts}\n".encode()
    path.write_bytes(data)
    return SegmentDone(
        index=part.index,
        path=str(path),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        frame_count=part.frame_count,
        input_sha256="00",
        parameter_sets_sha256="00",
        measures=MEASURES,
    )


def _write_file(path: str, data: bytes) -> WrittenFile:
    with Path(path).open("xb") as file:
        file.write(data)
    return WrittenFile(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _smooth(task: PathTask) -> PathResult:
    assert task.plan.stabilisation is not None
    written = _write_file(task.output_path, b"".join(Path(path).read_bytes() for path in task.motion_paths))
    stabilisation = replace(task.plan.stabilisation, path_sha256=written.sha256)
    return PathResult(plan=replace(task.plan, stabilisation=stabilisation), file=written, cpu_seconds=0.0)


def _join(task: JoinTask) -> JoinResult:
    data = b"".join(Path(path).read_bytes() for path in task.segment_paths)
    written = _write_file(task.output_path, data)
    return JoinResult(
        size_bytes=written.size_bytes,
        sha256=written.sha256,
        tracks=(),
        not_kept=(),
        cpu_seconds=0.0,
    )


_NOISE = FrameNoise(place=None, pts=0, sigmas=(NOISE.sigma_y, NOISE.sigma_u, NOISE.sigma_v))


def _analyze(_task: AnalyzeTask) -> AnalyzeResult:
    return AnalyzeResult(
        frames=(_NOISE,), scores=(FrameScore(pts=0, sharpness=1.0, exposure=1.0),), cpu_seconds=0.0
    )


def _packets_of(segment: SegmentPlan) -> str:
    return f"packets of {segment.index}"


def _checked(plan: Plan, segment: SegmentPlan) -> tuple[CheckedVideo, ...]:
    return tuple(
        CheckedVideo(
            rendition_index=index,
            frame_count=segment.frame_count,
            size_bytes=1,
            packets_sha256=_packets_of(segment),
            noise=(_NOISE,),
        )
        for index, rendition in enumerate(plan.renditions)
        if rendition.is_moving
    )


def _verify(task: VerifyTask) -> VerifyResult:
    return VerifyResult(
        packets_sha256=tuple(_packets_of(segment) for segment in task.plan.segments),
        duration_us=task.plan.end_pts * 1000,
        cpu_seconds=0.0,
    )


def _write_stills(task: StillsTask) -> StillsResult:
    files = tuple(_write_file(path, b"still") for path in task.output_paths)
    return StillsResult(files=files, cpu_seconds=0.0)


def _write_maker(task: MakerTask) -> MakerResult:
    return MakerResult(file=_write_file(task.output_path, b"maker"), cpu_seconds=0.0)


def _write_strip(task: StripTask) -> StripResult:
    return StripResult(file=_write_file(task.output_path, b"strip"), cpu_seconds=0.0)


#: what tasks are answered with where no more is asked of the executor
_ANSWERS: Mapping[type[Task], Callable[[Any], TaskResult]] = {
    PathTask: _smooth,
    JoinTask: _join,
    VerifyTask: _verify,
    StillsTask: _write_stills,
    MakerTask: _write_maker,
    StripTask: _write_strip,
    WatermarkTask: lambda _: WatermarkInfo(width=1, height=1),
    AnalyzeTask: _analyze,
    ProbeTask: lambda _: MEDIA,
    DescribeTask: lambda _: BUILD,
    DigestTask: lambda task: DigestResult(input_sha256=("00",) * len(task.plan.segments)),
}
