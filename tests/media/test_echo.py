"""At a seam the picture is as good as before it: encoders are told that the video goes on."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType, VideoFrame

from frame_pictures import plane_values
from media_tasks import VIDEO_STREAM, encode, plan_file, rendered_frames
from videoprocess_server.media import echo
from videoprocess_server.media.echo import ECHO_FRAMES, Echo
from videoprocess_server.model.hdi import EncodeType

CLIP = Path(__file__).parent.parent / "clips" / "dog_720p30_10s.mp4"
LAST_FRAMES = 4


def _frame(pts: int) -> VideoFrame:
    frame = VideoFrame(32, 32, "yuv420p")
    frame.pts, frame.time_base = pts, Fraction(1, 90_000)
    return frame


@pytest.mark.parametrize("count", [2, 5, ECHO_FRAMES + 1, 40])
def test_an_echo_goes_back_from_the_last_frame_and_forward_in_time(count: int) -> None:
    heard = Echo(Fraction(1, 90_000), count)
    given = [_frame(number * 3003) for number in range(count)]
    for frame in given:
        heard.heard(frame)
    frames = list(heard.frames())
    assert len(frames) == min(count - 1, ECHO_FRAMES)
    assert [frame.pts for frame in frames] == [
        (count - 1 + number) * 3003 for number in range(1, len(frames) + 1)
    ]
    assert {frame.pict_type for frame in frames} == {PictureType.NONE}
    assert [frame.pict_type for frame in given] == [PictureType.NONE] * (count - 1) + [PictureType.P]


def test_a_single_frame_has_no_echo() -> None:
    heard = Echo(Fraction(1, 30), 1)
    heard.heard(_frame(0))
    assert not list(heard.frames())


@pytest.mark.slow
@pytest.mark.parametrize("encode_type", [EncodeType.H264, EncodeType.H265])
def test_the_picture_does_not_fade_before_a_seam(
    tmp_path: Path, encode_type: EncodeType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = replace(VIDEO_STREAM, encode_type=encode_type, width=640, height=360)
    plan = plan_file(CLIP, streams=[stream])
    first = plan.segments[0]
    wanted = rendered_frames(CLIP, plan, [first])[: first.frame_count]
    with_echo = _decibels(wanted, encode(CLIP, plan, [first], tmp_path / "echo")[0].path)
    monkeypatch.setattr(echo, "ECHO_FRAMES", 0)
    without = _decibels(wanted, encode(CLIP, plan, [first], tmp_path / "none")[0].path)
    assert len(with_echo) == len(without) == first.frame_count
    faded = np.mean(without[-LAST_FRAMES:]) - np.mean(without[: -2 * ECHO_FRAMES])
    kept = np.mean(with_echo[-LAST_FRAMES:]) - np.mean(with_echo[: -2 * ECHO_FRAMES])
    assert kept > faded + 0.2


def _decibels(wanted: list[VideoFrame], path: str) -> list[float]:
    with av.open(path) as made:
        return [
            float(10 * np.log10(255**2 / np.mean((plane_values(a, 0) - plane_values(b, 0)) ** 2)))
            for a, b in zip(wanted, made.decode(video=0), strict=True)
        ]
