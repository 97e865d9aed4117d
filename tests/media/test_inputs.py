"""A source whose times changed is read anew: the digests say whether its packets are those that segments were made from."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from media_tasks import encode, opened, plan_file
from videoprocess_server.media.inputs import digest_inputs
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.tasks import DigestTask

CLIPS = Path(__file__).parent.parent / "clips"


def _digests(path: Path, plan: Plan) -> tuple[str, ...]:
    with opened(path) as fd:
        return digest_inputs(DigestTask(plan=plan), fd, lambda _message: None).input_sha256


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("flower_540p_5s.mp4", marks=pytest.mark.slow),
        pytest.param("flir_thermal_vfr_7fps_bframes.mp4", marks=pytest.mark.slow),
        pytest.param("iphone14pro_hlg_noaudio_opengop_rot90.mov", marks=pytest.mark.slow),
        "h264_fullrange_webcam.mkv",
        "samsung_sef_slowmotion.mp4",
    ],
)
def test_the_packets_are_those_the_segments_were_made_from(name: str, tmp_path: Path) -> None:
    path = CLIPS / name
    plan = plan_file(path, segment_seconds=Fraction(1), longest_gop_seconds=Fraction(1))
    made = {segment.index: encode(path, plan, [segment], tmp_path)[0] for segment in plan.segments[:3]}
    digests = _digests(path, plan)
    assert len(digests) == len(plan.segments)
    assert [digests[index] for index in made] == [done.input_sha256 for done in made.values()]


def test_one_byte_of_one_packet_shows_in_its_segment_only(tmp_path: Path) -> None:
    path = CLIPS / "flower_540p_5s.mp4"
    plan = plan_file(path, segment_seconds=Fraction(1))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    touched = tmp_path / "touched.mp4"
    touched.write_bytes(data)
    before, after = _digests(path, plan), _digests(touched, plan)
    assert len(before) > 2
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
