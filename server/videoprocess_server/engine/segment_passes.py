"""The ways over a plan's segments: what a worker does with a run of them, and what files that leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from videoprocess_server.model.plan import Plan, SegmentPlan
from videoprocess_server.model.records import Phase
from videoprocess_server.model.tasks import EncodeTask, MotionTask, Task

Run = tuple[SegmentPlan, ...]
Paths = tuple[str, ...]


@dataclass(frozen=True)
class SegmentPass:
    """One way over the segments."""

    #: what its time is charged to
    phase: Phase
    #: of the files it leaves, one a segment
    extension: str
    #: makes the task of a run, given where each segment's file goes; it is answered by EncodeResult
    task: Callable[[Run, Paths], Task]
    #: whether it decodes what it made
    is_checked: bool = False


def motion_pass(plan: Plan) -> SegmentPass:
    """Return the pass that measures how the camera moved."""
    return SegmentPass(
        Phase.ANALYZE, ".motion", lambda run, paths: MotionTask(plan=plan, segments=run, output_paths=paths)
    )


def encode_pass(plan: Plan, camera_path: str) -> SegmentPass:
    """Return the pass that makes the segments."""
    return SegmentPass(
        Phase.ENHANCE,
        ".mp4",
        lambda run, paths: EncodeTask(plan=plan, segments=run, output_paths=paths, camera_path=camera_path),
        is_checked=any(rendition.is_moving for rendition in plan.renditions),
    )
