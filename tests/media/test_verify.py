"""Nothing is published that is not what was planned."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.container import InputContainer
from av.video.stream import VideoStream

from joining import Joined, joined, verified
from media_factory import make_clip
from videoprocess_server.media import verify
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.model.media_info import Colour
from videoprocess_server.model.noise import estimate_of
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting
from videoprocess_server.model.tasks import VerifyResult


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Joined:
    folder = tmp_path_factory.mktemp("made")
    clip = make_clip(folder / "clip.mp4", width=128, height=96, frames=45, gop=12, audio="aac", noise_sigma=3)
    return joined(clip.path, folder)


def _refused(made: Joined, data: bytes | None = None) -> str:
    with pytest.raises(MediaFault) as caught:
        verified(made, data)
    assert caught.value.reason == "VERIFY_FAILED"
    return caught.value.message


def test_a_result_as_planned_is_described(made: Joined) -> None:
    found = verified(made)
    assert found.frame_count == 45
    assert found.duration_us == 1_500_000
    assert len(found.noise) == 24
    assert 0 < estimate_of(found.noise).sigma_y < 2


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mov"])
def test_other_containers_are_verified_too(name: str, tmp_path: Path) -> None:
    sound = "pcm_s16le"
    clip = make_clip(tmp_path / name, width=128, height=96, frames=30, fps=Fraction(30000, 1001), audio=sound)
    made = joined(clip.path, tmp_path)
    assert verified(made).frame_count == 30


def _of_many_segments(folder: Path, name: str = "clip.mp4", **asked: Any) -> Joined:
    clip = make_clip(folder / name, width=64, height=48, frames=90, gop=12, noise_sigma=3)
    made = joined(clip.path, folder, Fraction(2, 5), **asked)
    assert len(made.plan.segments) > 4
    return made


def _parts(made: Joined, count: int, data: bytes | None = None) -> list[VerifyResult]:
    return [verified(made, data, part=part, part_count=count) for part in range(count)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov"])
@pytest.mark.parametrize(
    "rates", [None, FrameRateRange(min_fps=24, max_fps=24)], ids=["as recorded", "24 fps"]
)
def test_parts_together_are_the_whole(name: str, rates: FrameRateRange | None, tmp_path: Path) -> None:
    made = _of_many_segments(tmp_path, name, setting=ModeSetting(frame_rate_range=rates))
    whole = verified(made)
    segments = len(made.plan.segments)
    for count in (2, 3, segments):
        parts = _parts(made, count)
        assert sum(part.frame_count for part in parts) == whole.frame_count == made.plan.frame_count
        assert tuple(each for part in parts for each in part.noise) == whole.noise
        assert parts[0].duration_us == whole.duration_us


def test_a_part_is_found_where_a_seek_leads_past_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _of_many_segments(tmp_path)
    segments = len(made.plan.segments)
    usual = _parts(made, segments)
    sought = []

    def lead_past(container: InputContainer, stream: VideoStream, ticks: int, time_base: Fraction) -> None:
        sought.append(ticks)
        seek_near(container, stream, ticks + round(1 / time_base), time_base)

    seek_near = verify.seek_near
    monkeypatch.setattr(verify, "seek_near", lead_past)
    assert [part.frame_count for part in _parts(made, segments)] == [part.frame_count for part in usual]
    assert sought


@pytest.mark.parametrize("where", [0, 1, 2])
def test_damage_is_found_by_the_part_that_has_it(where: int, tmp_path: Path) -> None:
    made = _of_many_segments(tmp_path)
    keys = sum(part.frame_count for part in _parts(made, 3)[:where]) // 12
    data = _damaged(made, key=keys + 1)
    told = []
    for part in range(3):
        try:
            verified(made, data, part=part, part_count=3)
        except MediaFault as fault:
            told.append((part, fault.reason))
    assert told == [(where, "VERIFY_FAILED")]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"frame_count": 44}, "45 frames"),
        ({"pts_sha256": "0" * 64}, "time stamps"),
        ({"end_pts": 99_999_999}, "ends at"),
    ],
)
def test_another_plan_is_refused(made: Joined, change: dict[str, object], told: str) -> None:
    assert told in _refused(replace(made, plan=replace(made.plan, **change)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"width": 130}, "picture"),
        ({"codec": "hevc"}, "h264"),
        ({"pixel_format": "yuv422p"}, "picture"),
        ({"colour": Colour(primaries=9, transfer=16, matrix=9, range=1)}, "colour"),
        ({"colour": Colour(primaries=2, transfer=2, matrix=2, range=2)}, "range"),
        ({"sample_aspect_ratio": Fraction(4, 3)}, "pixels"),
        ({"options": {"x264-params": "chromaloc=2"}}, "chromaloc=2"),
    ],
)
def test_another_picture_is_refused(made: Joined, change: dict[str, object], told: str) -> None:
    rendition = made.plan.renditions[0]
    encoder = replace(rendition.encoder, **change)  # type: ignore[arg-type]
    plan = replace(made.plan, renditions=(replace(rendition, encoder=encoder),))
    assert told in _refused(replace(made, plan=plan))


def test_a_missing_packet_of_sound_is_refused(made: Joined) -> None:
    tracks = [
        replace(track, packet_count=track.packet_count + (track.kind == "audio"))
        for track in made.result.tracks
    ]
    assert "packets" in _refused(replace(made, result=replace(made.result, tracks=tuple(tracks))))


def test_a_missing_track_is_refused(made: Joined) -> None:
    tracks = (*made.result.tracks, made.result.tracks[-1])
    assert "tracks" in _refused(replace(made, result=replace(made.result, tracks=tracks)))


def test_changed_bytes_are_refused(made: Joined, tmp_path: Path) -> None:
    data = bytearray(made.path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "changed.mp4").write_bytes(data)
    assert "bytes" in _refused(replace(made, path=tmp_path / "changed.mp4"))


def _damaged(made: Joined, key: int = 1) -> bytes:
    """The file with most of one of its key frames overwritten."""
    with av.open(str(made.path)) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
        damaged = [p for p in packets if p.is_keyframe][key]
        place, size = damaged.pos, damaged.size
    assert place is not None
    data = bytearray(made.path.read_bytes())
    data[place + size // 3 : place + size] = bytes(size - size // 3)
    return bytes(data)


def test_a_damaged_frame_is_refused_even_if_the_digest_is_right(made: Joined) -> None:
    assert "decode" in _refused(made, _damaged(made))
