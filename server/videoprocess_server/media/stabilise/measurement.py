"""The task that measures how the camera moved in a run of segments: decode, prepare, crop, compare neighbours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from videoprocess_server.media.damage import conceal
from videoprocess_server.media.decode import Ledger, decode_fault, decoded_frames
from videoprocess_server.media.filters import run_filters
from videoprocess_server.media.geometry import SCALE_FLAGS
from videoprocess_server.media.own_files import settle
from videoprocess_server.media.planes import read_plane
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.result_frames import source_pts_of
from videoprocess_server.media.segments import neighbours, window_of
from videoprocess_server.media.stabilise.motion import Luma, Motion, MotionMeter
from videoprocess_server.media.stabilise.records import MOTION, Records, write_records
from videoprocess_server.model.plan import Plan, SegmentPlan
from videoprocess_server.model.tasks import EncodeResult, MotionTask, SegmentDone, TaskMessage

#: a frame's motion is told from the one before
FRAMES_BEFORE = 1


def measure_motion(task: MotionTask, fd: int, emit: Callable[[TaskMessage], None]) -> EncodeResult:
    """Measure a run of neighbouring segments; each is told as soon as its file and its directory are on disk.

    The bytes do not depend on how many segments a run has, as long as a segment's `decode_from_pts` leaves room for the frame
    before it. Segments that are not enhanced get a file without frames.

    Raises:
        MediaFault: DECODE_FAILED, ENCODE_FAILED, NOT_A_VIDEO or SOURCE_CHANGED.
        FileExistsError: one of the output paths exists.
    """
    started = time.process_time()
    pulse, inputs = Pulse(emit), dict[int, str]()
    paths = dict(zip((segment.index for segment in task.segments), task.output_paths, strict=True))
    done = []
    for run in neighbours(task.plan, task.segments):
        measured = _measured(task.plan, run, fd, inputs, pulse)
        for segment, (size, motions) in zip(run, measured, strict=True):
            path = Path(paths[segment.index])
            write_records(path, MOTION, *size, _records(motions))
            size_bytes, sha256 = settle(path, pulse)
            done.append(
                SegmentDone(
                    index=segment.index,
                    path=str(path),
                    size_bytes=size_bytes,
                    sha256=sha256,
                    frame_count=segment.frame_count,
                    input_sha256=inputs[segment.index],
                    parameter_sets_sha256="",
                )
            )
            emit(done[-1])
    return EncodeResult(segments=tuple(done), cpu_seconds=time.process_time() - started)


def _measured(
    plan: Plan, segments: Sequence[SegmentPlan], fd: int, inputs: dict[int, str], pulse: Pulse
) -> Iterator[tuple[tuple[int, int], list[Motion]]]:
    """Give each segment's size of frames and motions, as soon as the last frame of it has been seen."""
    meter, size, counted = None, (0, 0), 0
    waiting, motions = list(segments), list[Motion]()
    for frame in _pictures(plan, segments, fd, inputs, pulse):
        pts = source_pts_of(frame, plan)
        while waiting and pts >= waiting[0].end_pts:
            yield size, motions
            waiting, motions = waiting[1:], []
        if not waiting:
            continue
        size, counted = (frame.width, frame.height), counted + 1
        pulse.beat(frames=counted)
        if not waiting[0].enhanced:
            continue
        meter = meter or MotionMeter(*size)
        motion = meter.measure(pts, _luma(frame))
        if pts >= waiting[0].start_pts:
            motions.append(motion)
    for _ in waiting:
        if not size[0]:
            raise decode_fault(segments[0].start_pts, plan.time_base, "no frame comes")
        yield size, motions
        motions = []


def _pictures(
    plan: Plan, segments: Sequence[SegmentPlan], fd: int, inputs: dict[int, str], pulse: Pulse
) -> Iterator[VideoFrame]:
    """Give the frames of neighbours and the one before them, prepared and cropped, as a plane of luma."""
    filters = replace(plan.filters, pre_roll_frames=FRAMES_BEFORE, post_roll_frames=0)
    every = replace(plan, filters=filters, grid=None, interpolation=None)
    ledger = Ledger(plan, segments, inputs)
    decode_from_pts = segments[0].decode_from_pts
    decoded = decoded_frames(fd, plan, decode_from_pts, ledger, pulse.beat)
    if ledger.announced is not None:
        decoded = conceal(decoded, plan, decode_from_pts, ledger.announced)
    window = window_of(decoded, every, segments, ledger)
    stages = (*filters.prepare, *filters.crop, *_luma_stages(filters.pixel_format))
    yield from run_filters(window, stages, plan.time_base, filters.source_picture)


def _luma_stages(pixel_format: str) -> tuple[str, ...]:
    """Give the stages that leave a first plane of luma; most formats have one."""
    if pixel_format.startswith(("yuv", "gray", "nv")) and not pixel_format.endswith(("be", "f32le")):
        return (f"format=pix_fmts={pixel_format}",)
    return (f"scale=flags={SCALE_FLAGS}", "format=pix_fmts=gray")


def _luma(frame: VideoFrame) -> Luma:
    """Give 8 bits of the luma."""
    values, bits = read_plane(frame, 0), frame.format.components[0].bits
    return values if bits == 8 else (values >> (bits - 8)).astype(np.uint8)


def _records(motions: Sequence[Motion]) -> Records:
    return np.array(
        [(each.pts, each.dx, each.dy, each.turn, each.growth, int(each.kind)) for each in motions], MOTION
    )
