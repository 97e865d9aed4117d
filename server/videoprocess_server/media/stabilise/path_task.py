"""The task that turns the measured motion of all segments into one camera path, and decides how much is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from videoprocess_server.media.own_files import settle
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.stabilise.camera_path import HALO_SECONDS, STRENGTHS, Strength, Warps, correct
from videoprocess_server.media.stabilise.fixed_point import PIXEL_TICKS, UNIT_TICKS, ticks_of
from videoprocess_server.media.stabilise.jitter import camera_path, jitter_px, scenes
from videoprocess_server.media.stabilise.motion import MotionKind
from videoprocess_server.media.stabilise.records import MOTION, PATH, Records, read_records, write_records
from videoprocess_server.model.hdi import VideoStabilisation
from videoprocess_server.model.plan import Plan, SegmentPlan
from videoprocess_server.model.tasks import PathResult, PathTask, TaskMessage, WrittenFile

#: of a scene that are worked on at a time, besides the halo around them: bounds memory whatever a video's length
_PART_FRAMES: Final = 1 << 14

#: what AUTO chooses where the jitter is at least so much, as a share of the picture's diagonal
_AUTO: Final = (
    (0.0024, VideoStabilisation.HIGH),
    (0.0012, VideoStabilisation.MIDDLE),
    (0.0003, VideoStabilisation.LOW),
)


def make_path(task: PathTask, _fd: int, emit: Callable[[TaskMessage], None] | None = None) -> PathResult:
    """Smooth the motion and write the camera path.

    Raises:
        MediaFault: INTERNAL, the files of motion are not whole.
        FileExistsError: the output path exists.
    """
    started = time.process_time()
    plan, pulse, output = task.plan, Pulse(emit), Path(task.output_path)
    assert plan.stabilisation is not None
    width, height, motion = _joined(plan, [Path(path) for path in task.motion_paths])
    jitter = jitter_px(motion, plan.time_base, width, height)
    chosen = choose_strength(plan.stabilisation.strength, jitter, width, height)
    path, most_cropped = np.zeros(0, PATH), 0.0
    if chosen is not VideoStabilisation.OFF:
        eased_pts = _eased_pts(plan)
        path, most_cropped = plan_path(
            motion, plan.time_base, (width, height), STRENGTHS[chosen], eased_pts, pulse
        )
    write_records(output, PATH, width, height, path)
    size, sha256 = settle(output, pulse)
    stabilisation = replace(
        plan.stabilisation,
        strength=chosen,
        path_sha256=sha256,
        most_cropped=round(most_cropped, 6),
        jitter_px=round(jitter, 4),
    )
    return PathResult(
        plan=replace(plan, stabilisation=stabilisation if most_cropped else None),
        file=WrittenFile(size_bytes=size, sha256=sha256),
        cpu_seconds=time.process_time() - started,
    )


def choose_strength(asked: VideoStabilisation, jitter: float, width: int, height: int) -> VideoStabilisation:
    """Give what was asked for; for AUTO the least that such a jitter, in pixels, asks for."""
    if asked is not VideoStabilisation.AUTO:
        return asked
    diagonal = float(np.sqrt(float(width * width + height * height)))
    return next((strength for least, strength in _AUTO if jitter >= least * diagonal), VideoStabilisation.OFF)


def plan_path(
    motion: Records,
    time_base: Fraction,
    size: tuple[int, int],
    strength: Strength,
    eased_pts: int | None = None,
    pulse: Pulse | None = None,
) -> tuple[Records, float]:
    """Smooth scene after scene.

    Args:
        motion: records of `records.MOTION`, in order.
        time_base: seconds of a tick.
        size: width and height of the frames.
        strength: what may be done.
        eased_pts: of the first frame that is stabilised, where the one before it shows the same scene as it is.
        pulse: told how far it is.

    Returns:
        Records of `records.PATH`, one for each of the motion's, and the largest share of width and height that is cut off.
    """
    path = np.zeros(len(motion), PATH)
    most_zoom = 1.0
    for scene in scenes(motion):
        first = motion[scene.start]
        eased = int(first["pts"]) == eased_pts and int(first["kind"]) != MotionKind.CUT
        for part, around in _parts(motion["pts"][scene] * float(time_base)):
            whole = slice(scene.start + around.start, scene.start + around.stop)
            records = motion[whole]
            warps = correct(
                (records["pts"] - records["pts"][0]) * float(time_base),
                camera_path(records),
                size,
                strength,
                eased=eased and not around.start,
            )
            inner = slice(part.start - around.start, part.stop - around.start)
            path[scene.start + part.start : scene.start + part.stop] = _records(records["pts"], warps)[inner]
            most_zoom = max(most_zoom, float(warps.zoom[inner].max()))
            if pulse is not None:
                pulse.beat(frames=whole.stop)
    return path, 1 - 1 / most_zoom


def _parts(seconds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Iterator[tuple[slice, slice]]:
    """Give the parts of a scene, each with what lies around it."""
    for start in range(0, len(seconds), _PART_FRAMES):
        stop = min(start + _PART_FRAMES, len(seconds))
        first = int(np.searchsorted(seconds, seconds[start] - HALO_SECONDS))
        after_last = int(np.searchsorted(seconds, seconds[stop - 1] + HALO_SECONDS, "right"))
        yield slice(start, stop), slice(first, after_last)


def _records(pts: Records, warps: Warps) -> Records:
    """Put warps into whole ticks."""
    records = np.zeros(len(pts), PATH)
    a, b, dx, dy = warps.inverse()
    records["pts"] = pts
    records["a"], records["b"] = ticks_of(a, UNIT_TICKS), ticks_of(b, UNIT_TICKS)
    records["dx"], records["dy"] = ticks_of(dx, PIXEL_TICKS), ticks_of(dy, PIXEL_TICKS)
    return records


def _joined(plan: Plan, paths: Sequence[Path]) -> tuple[int, int, Records]:
    """Read the motion of all segments; where one does not follow the one before, a scene begins."""
    width, height, parts = 0, 0, []
    before: SegmentPlan | None = None
    for segment, path in zip(plan.segments, paths, strict=True):
        width, height, records = read_records(path, MOTION)
        if before is not None and before.end_pts != segment.start_pts and len(records):
            records = records.copy()
            records["kind"][0] = MotionKind.CUT
        parts.append(records)
        before = segment
    return width, height, np.concatenate([*parts, np.zeros(0, MOTION)])


def _eased_pts(plan: Plan) -> int | None:
    """Give the first enhanced frame's time, where there are frames before it."""
    first = next((segment for segment in plan.segments if segment.enhanced), None)
    return None if first is None or first.start_pts <= plan.first_pts else first.start_pts
