"""Pictures of one file beside sound and metadata of another: v1_5's three files."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from joining import display_matrix, join_again, joined, losses_of, packets_of, verified
from media_factory import make_clip, read_frame_numbers
from media_tasks import VIDEO_STREAM, plan_file, probe_file
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.settings_snapshot import StreamInfo

SMALL = {"width": 128, "height": 96, "frames": 30, "gop": 12}


@pytest.mark.parametrize(
    ("pictures", "sound"),
    [
        ("pictures.mov", "sound.mp4"),
        ("pictures.mkv", "sound.mp4"),
        pytest.param("pictures.mp4", "sound.mkv", marks=pytest.mark.slow),
        pytest.param("pictures.mkv", "sound.mkv", marks=pytest.mark.slow),
    ],
)
def test_each_part_comes_from_its_file(pictures: str, sound: str, tmp_path: Path) -> None:
    """Frames, their times and how they are turned from the first, packets of sound from the second."""
    first = make_clip(tmp_path / pictures, **SMALL, fps=Fraction(25), rotation=90)
    second = make_clip(
        tmp_path / sound,
        **{**SMALL, "frames": 36},
        fps=Fraction(30),
        audio="aac",
        metadata={"title": "The other"},
    )
    made = joined(first.path, tmp_path)
    media = probe_file(second.path)
    path = tmp_path / f"together{made.path.suffix}"
    result = join_again(second.path, media, made.plan, made.segment_paths, path)
    together = replace(made, source=second.path, media=media, path=path, result=result)
    assert verified(together).frame_count == 30
    assert [number for _, number in read_frame_numbers(path)] == list(first.numbers)
    assert [time for time, _ in read_frame_numbers(path)] == list(first.times)
    assert display_matrix(path) == display_matrix(first.path) is not None
    assert [d for _, d in packets_of(path, "audio")[0]] == [d for _, d in packets_of(second.path, "audio")[0]]
    assert {what for what, _, _ in losses_of(together)} <= {"TIME_STAMPS"}


def test_the_result_is_named_and_steered_by_the_file_of_sound_and_metadata(tmp_path: Path) -> None:
    """encParam and the cover's time are metadata; the container is that of the file that is carried over."""
    first = make_clip(tmp_path / "pictures.mkv", **SMALL)
    keys = {
        "com.openharmony.covertime": "500.0",
        "com.openharmony.encParam": "video_encoder_enable_b_frame=0",
    }
    second = make_clip(tmp_path / "sound.mov", **SMALL, audio="aac", metadata=keys)
    still = StreamInfo(stream_id=2, intent=StreamIntent.STILL_CAPTURE)
    alone, beside = (
        plan_file(first.path, streams=[VIDEO_STREAM, still], companion=companion)
        for companion in (None, probe_file(second.path))
    )
    assert [plan.renditions[0].file_extension for plan in (alone, beside)] == [".mp4", ".mov"]
    assert [plan.renditions[0].encoder.options["bf"] for plan in (alone, beside)] == ["3", "0"]
    assert beside.renditions[1].still_pts == (500,)
