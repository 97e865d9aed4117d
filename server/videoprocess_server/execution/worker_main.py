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
    PlanTask,
    ProbeTask,
    TaskResult,
    VerifyTask,
)


def main() -> None:
    """Be a worker."""
    channel = worker.enter(sys.argv)
    worker.serve(channel, media_handlers())


def media_handlers() -> Handlers:
    """Return the handler of each kind of task; imports FFmpeg. Its log stays off, which is PyAV's default."""
    from videoprocess_server.media import build_info, inputs, join, noise, plan, probe, segments, verify

    return {
        DescribeTask: _foreseeing(_quiet(build_info.describe)),
        ProbeTask: _foreseeing(_quiet(probe.probe)),
        AnalyzeTask: _foreseeing(noise.analyze),
        PlanTask: _foreseeing(plan.make_plan),
        EncodeTask: _foreseeing(segments.encode_segments),
        DigestTask: _foreseeing(inputs.digest_inputs),
        JoinTask: _foreseeing(join.join),
        VerifyTask: _foreseeing(verify.verify),
    }


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
