"""Nothing is published that is not what was planned."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from joining import Joined, joined, verified
from media_factory import make_clip
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.model.media_info import Colour


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
    assert found.noise.frame_count == 24
    assert 0 < found.noise.sigma_y < 2


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mov"])
def test_other_containers_are_verified_too(name: str, tmp_path: Path) -> None:
    sound = "pcm_s16le"
    clip = make_clip(tmp_path / name, width=128, height=96, frames=30, fps=Fraction(30000, 1001), audio=sound)
    made = joined(clip.path, tmp_path)
    assert verified(made).frame_count == 30


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


def test_a_damaged_frame_is_refused_even_if_the_digest_is_right(made: Joined) -> None:
    with av.open(str(made.path)) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
        damaged = [p for p in packets if p.is_keyframe][1]
        place, size = damaged.pos, damaged.size
    assert place is not None
    data = bytearray(made.path.read_bytes())
    data[place + size // 3 : place + size] = bytes(size - size // 3)
    assert "decode" in _refused(made, bytes(data))
