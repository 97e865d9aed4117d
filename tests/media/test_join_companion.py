"""Pictures of one file beside sound and metadata of another: v1_5's three files."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from joining import display_matrix, join_again, joined, losses_of, packets_of, verified
from media_factory import make_clip, read_frame_numbers
from media_tasks import probe_file

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
