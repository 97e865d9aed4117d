"""The worker program: which part of `media` does which task."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from videoprocess_server.execution import worker
from videoprocess_server.execution.executor import TaskFailedError
from videoprocess_server.execution.handlers import Emit, Handler, Handlers
from videoprocess_server.model.tasks import (
    AnalyzeTask,
    DescribeTask,
    DigestTask,
    EncodeTask,
    JoinTask,
    MakerTask,
    MotionTask,
    PathTask,
    PlanTask,
    ProbeTask,
    StillsTask,
    StripTask,
    TaskResult,
    VerifyTask,
    WatermarkTask,
)


def main() -> None:
    """Be a worker."""
    post = worker.enter(sys.argv)
    worker.serve(post, media_handlers())


def media_handlers() -> Handlers:
    """Return the handler of each kind of task; imports FFmpeg. Its log stays off, which is PyAV's default.

    What only some tasks need, numpy before all, is imported by the first of them: a worker that takes the place of another
    mostly makes segments, and is there in half the time without.
    """
    from videoprocess_server.media import build_info, inputs, probe, segments

    return {
        DescribeTask: _foreseeing(_quiet(build_info.describe)),
        ProbeTask: _foreseeing(_quiet(probe.probe)),
        WatermarkTask: _foreseeing(_check_watermark),
        AnalyzeTask: _foreseeing(_analyze),
        PlanTask: _foreseeing(_plan),
        EncodeTask: _foreseeing(segments.encode_segments),
        MotionTask: _foreseeing(_measure_motion),
        PathTask: _foreseeing(_make_path),
        DigestTask: _foreseeing(inputs.digest_inputs),
        JoinTask: _foreseeing(_join),
        StillsTask: _foreseeing(_write_stills),
        MakerTask: _foreseeing(_write_maker),
        StripTask: _foreseeing(_write_strip),
        VerifyTask: _foreseeing(_verify),
    }


def _check_watermark(task: WatermarkTask, _fd: int, _emit: Emit) -> TaskResult:
    from videoprocess_server.media import images

    return images.check_image(task)


def _measure_motion(task: MotionTask, fd: int, emit: Emit) -> TaskResult:
    from videoprocess_server.media.stabilise import measurement

    return measurement.measure_motion(task, fd, emit)


def _make_path(task: PathTask, fd: int, emit: Emit) -> TaskResult:
    from videoprocess_server.media.stabilise import path_task

    return path_task.make_path(task, fd, emit)


def _write_stills(task: StillsTask, _fd: int, emit: Emit) -> TaskResult:
    from videoprocess_server.media import stills

    return stills.write_stills(task, emit)


def _write_maker(task: MakerTask, fd: int, emit: Emit) -> TaskResult:
    from videoprocess_server.media import maker_file

    return maker_file.write_maker(task, fd, emit)


def _write_strip(task: StripTask, fd: int, emit: Emit) -> TaskResult:
    from videoprocess_server.media import strips

    return strips.write_strip(task, fd, emit)


def _analyze(task: AnalyzeTask, fd: int, emit: Emit) -> TaskResult:
    from videoprocess_server.media import noise

    return noise.analyze(task, fd, emit)


def _plan(task: PlanTask, fd: int, emit: Emit) -> TaskResult:
    from videoprocess_server.media import plan

    return plan.make_plan(task, fd, emit)


def _join(task: JoinTask, fd: int, emit: Emit) -> TaskResult:
    from videoprocess_server.media import join

    return join.join(task, fd, emit)


def _verify(task: VerifyTask, fd: int, emit: Emit) -> TaskResult:
    from videoprocess_server.media import verify

    return verify.verify(task, fd, emit)


def _quiet(work: Callable[[Any, int], TaskResult]) -> Handler:
    """Adapt a function that sends no messages."""

    def handle(task: Any, fd: int, _emit: Emit) -> TaskResult:  # noqa: ANN401  the key it stands under tells
        return work(task, fd)

    return handle


def _foreseeing(work: Handler) -> Handler:
    """Adapt a function that raises MediaFault for what it foresaw."""
    from videoprocess_server.media.faults import MediaFault

    def handle(task: Any, fd: int, emit: Emit) -> TaskResult:  # noqa: ANN401  the key it stands under tells
        try:
            return work(task, fd, emit)
        except MediaFault as fault:
            raise TaskFailedError(fault.reason, fault.message) from fault

    return handle


if __name__ == "__main__":
    main()
