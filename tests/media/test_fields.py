"""Interlaced sources become whole pictures at the same times, the same at a seam as in the middle of one run."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from media_tasks import as_one_segment, encode, filtered_hashes, opened, plan_file
from videoprocess_server.media.segments import filtered_frames
from videoprocess_server.model.losses import Loss

FRAMES = 40
SIDE = 128


def _woven(number: int) -> VideoFrame:
    """A bright bar that moves on between the two fields of a frame."""
    luma = np.full((SIDE, SIDE), 60, dtype=np.uint8)
    for field in range(2):
        at = (number * 2 + field) * 3 % (SIDE - 24)
        luma[field::2, at : at + 24] = 200
    planes = np.concatenate((luma, np.full((SIDE // 2, SIDE), 128, dtype=np.uint8)))
    return VideoFrame.from_ndarray(planes, format="yuv420p")


def _interlaced(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(
            "libx264", rate=25, options={"x264-params": "tff=1:keyint=10:scenecut=0", "crf": "12"}
        )
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(FRAMES):
            frame = _woven(number)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _combing(luma: np.ndarray) -> float:
    """How much more neighbouring lines differ than every other one."""
    lines = luma.astype(np.int64)
    return float(np.abs(lines[1:] - lines[:-1]).mean() / (1 + np.abs(lines[2:] - lines[:-2]).mean()))


def _lumas(frames: list[VideoFrame]) -> list[np.ndarray]:
    return [frame.reformat(format="gray").to_ndarray() for frame in frames]


def test_fields_become_pictures_at_the_same_times(tmp_path: Path) -> None:
    path = _interlaced(tmp_path / "interlaced.mp4")
    with av.open(str(path)) as clip:
        before = list(clip.decode(video=0))
    assert all(frame.interlaced_frame for frame in before)
    plan = plan_file(path)
    assert [lost.what for lost in plan.not_kept] == [Loss.INTERLACED]
    with opened(path) as fd:
        after = [frame.picture for frame in filtered_frames(plan, plan.segments, fd)]
    assert [frame.pts * plan.output_time_base for frame in after] == [
        frame.pts * frame.time_base for frame in before
    ]
    combed = np.mean([_combing(luma) for luma in _lumas(before)])
    whole = np.mean([_combing(luma) for luma in _lumas(after)])
    assert combed > 3 * whole
    encode(path, plan, plan.segments, tmp_path / "segments")
    with av.open(str(tmp_path / "segments" / "0.mp4")) as made:
        assert not any(frame.interlaced_frame for frame in made.decode(video=0))


def test_seams_are_exact_without_enhancement_too(tmp_path: Path) -> None:
    path = _interlaced(tmp_path / "interlaced.mp4")
    plan = plan_file(path, segment_seconds=Fraction(2, 5))
    assert len(plan.segments) == 4
    carried = replace(plan, segments=tuple(replace(part, enhanced=False) for part in plan.segments))
    for planned in (plan, carried):
        alone = [picture for part in planned.segments for picture in filtered_hashes(path, planned, [part])]
        whole = as_one_segment(planned)
        assert alone == filtered_hashes(path, whole, whole.segments)
