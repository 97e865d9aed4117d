"""Measures what the byte budget does: size and quality of results as planned, and with the same quality unbounded.

    PYTHONPATH=server:tests python scripts/measure_sizes.py CLIP …

Prints a row of docs/encoding.md per clip: at most two segments of each, bytes of the picture's track per byte of the
source's, PSNR of luma in dB against the frames that went into the encoder.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from media_tasks import VIDEO_STREAM, encode, opened, probe_file
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.noise import analyze
from videoprocess_server.media.plan import make_plan
from videoprocess_server.media.segments import filtered_frames
from videoprocess_server.model.noise import noise_of
from videoprocess_server.model.plan import Plan, PlanSettings, SegmentPlan
from videoprocess_server.model.settings_snapshot import ModeSetting, Snapshot
from videoprocess_server.model.tasks import AnalyzeTask, PlanTask

MOST_SEGMENTS = 2
#: options that bound a segment's bytes
BOUNDS = frozenset({"maxrate", "bufsize"})


@dataclass(frozen=True)
class Measured:
    """Bytes per byte of the source, and PSNR."""

    ratio: float
    decibels: float


def plan_clip(path: Path) -> Plan:
    """Plan as a job does, with the noise measured."""
    media = probe_file(path)
    with opened(path) as fd:
        noise = noise_of([analyze(AnalyzeTask(video=media.video), fd)])
    task = PlanTask(
        media=media,
        snapshot=Snapshot(streams=(VIDEO_STREAM,), mode_setting=ModeSetting()),
        enhance_from_us=0,
        noise=noise,
        settings=PlanSettings(),
    )
    with opened(path) as fd:
        return make_plan(task, fd)


def measure(path: Path, plan: Plan, segments: tuple[SegmentPlan, ...]) -> Measured:
    """Encode segments and compare them with what went in."""
    start, end = segments[0].start_pts, segments[-1].end_pts
    with av.open(str(path)) as clip:
        track = clip.streams[plan.video_track_index]
        source = sum(
            packet.size
            for packet in clip.demux(track)
            if packet.pts is not None and start <= packet.pts < end
        )
    with tempfile.TemporaryDirectory() as folder:
        encode(path, plan, segments, Path(folder))
        files = [Path(folder) / f"{segment.index}.mp4" for segment in segments]
        made = sum(_track_bytes(file) for file in files)
        errors = [
            float(np.mean((before - after) ** 2))
            for before, after in zip(_wanted(path, plan, segments), _decoded(files), strict=True)
        ]
    return Measured(made / source, 10 * math.log10(255**2 / max(float(np.mean(errors)), 1e-3)))


def _track_bytes(path: Path) -> int:
    with av.open(str(path)) as clip:
        return sum(packet.size for packet in clip.demux(video=0))


def _wanted(path: Path, plan: Plan, segments: tuple[SegmentPlan, ...]) -> Iterator[NDArray[np.float64]]:
    chain: FilterChain | None = None
    with opened(path) as fd:
        for frame in filtered_frames(plan, segments, fd):
            chain = chain or FilterChain(plan.renditions[0].geometry, plan.output_time_base)
            yield from map(_luma, chain.push(frame.picture))
        if chain is not None:
            yield from map(_luma, chain.push(None))


def _decoded(files: list[Path]) -> Iterator[NDArray[np.float64]]:
    for file in files:
        with av.open(str(file)) as clip:
            yield from map(_luma, clip.decode(video=0))


def _luma(frame: VideoFrame) -> NDArray[np.float64]:
    """Every other line in code values of 255."""
    deep = frame.format.components[0].bits > 8
    plane = frame.planes[0]
    values = np.frombuffer(plane, np.uint16 if deep else np.uint8).reshape(plane.height, -1)
    scale = 2.0 ** (8 - frame.format.components[0].bits)
    return values[::2, : plane.width].astype(np.float64) * scale


def _without_bounds(segment: SegmentPlan) -> SegmentPlan:
    options = {
        stream: {key: value for key, value in chosen.items() if key not in BOUNDS}
        for stream, chosen in segment.encoder_options.items()
    }
    return replace(segment, encoder_options=options)


def main() -> None:
    """Print a row for each clip."""
    for name in sys.argv[1:]:
        path = Path(name)
        plan = plan_clip(path)
        segments = plan.segments[:MOST_SEGMENTS]
        bounded = measure(path, plan, segments)
        free = measure(path, plan, tuple(map(_without_bounds, segments)))
        print(
            f"| {path.stem} | {plan.renditions[0].encoder.codec} | {free.ratio:.2f}, {free.decibels:.1f} "
            f"| {bounded.ratio:.2f}, {bounded.decibels:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
