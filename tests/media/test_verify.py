"""Nothing is published that is not what was planned."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from joining import Joined, checked, compared, joined, verified
from media_factory import make_clip
from videoprocess_server.execution.executor import TaskFailedError
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.model.media_info import Colour
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Joined:
    folder = tmp_path_factory.mktemp("made")
    clip = make_clip(folder / "clip.mp4", width=128, height=96, frames=45, gop=12, audio="aac", noise_sigma=3)
    return joined(clip.path, folder)


def _refused(made: Joined, data: bytes | None = None) -> str:
    with pytest.raises(MediaFault) as caught:
        compared(made, data)
    assert caught.value.reason == "VERIFY_FAILED"
    return caught.value.message


def test_a_result_as_planned_is_described(made: Joined) -> None:
    found = verified(made)
    assert found.frame_count == 45
    assert found.duration_us == 1_500_000
    assert found.noise.frame_count == 24
    assert 0 < found.noise.sigma_y < 2


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(
    "rates", [None, FrameRateRange(min_fps=24, max_fps=24)], ids=["as recorded", "24 fps"]
)
def test_a_result_is_made_of_the_very_packets_that_were_checked(
    name: str, codec: str, rates: FrameRateRange | None, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / name, width=64, height=48, frames=60, gop=12, codec=codec, audio="pcm_s16le")
    made = joined(clip.path, tmp_path, Fraction(2, 5), setting=ModeSetting(frame_rate_range=rates))
    assert len(made.plan.segments) > 3
    checks = checked(made)
    assert compared(made).packets_sha256 == tuple(video.packets_sha256 for video in checks)
    assert verified(made).frame_count == made.plan.frame_count


def _is_seen(made: Joined, data: bytes) -> bool:
    """Whether other bytes than the result's are refused."""
    try:
        verified(made, data)
    except (MediaFault, TaskFailedError) as fault:
        return fault.reason == "VERIFY_FAILED"
    return False


@pytest.mark.parametrize("key", [0, 1, 3])
def test_a_damaged_frame_is_seen_even_if_the_digest_is_right(key: int, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", width=64, height=48, frames=60, gop=12)
    made = joined(clip.path, tmp_path, Fraction(2, 5))
    assert not _is_seen(made, made.path.read_bytes())
    assert _is_seen(made, _with_a_damaged_key_frame(made.path, key))


def test_one_bit_of_one_packet_is_seen(made: Joined) -> None:
    data = bytearray(made.path.read_bytes())
    with av.open(str(made.path)) as container:
        packet = [packet for packet in container.demux(container.streams.video[0]) if packet.size][20]
    assert packet.pos is not None
    data[packet.pos + packet.size - 1] ^= 1
    usual, found = compared(made).packets_sha256, compared(made, bytes(data)).packets_sha256
    assert [a == b for a, b in zip(usual, found, strict=True)].count(False) == 1


@pytest.mark.parametrize("segment", [0, 1])
def test_a_damaged_segment_is_refused(made: Joined, segment: int, tmp_path: Path) -> None:
    paths = list(made.segment_paths)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(_with_a_damaged_key_frame(Path(paths[segment]), 0))
    paths[segment] = str(damaged)
    with pytest.raises(MediaFault, match="decode") as caught:
        checked(replace(made, segment_paths=tuple(paths)))
    assert caught.value.reason == "VERIFY_FAILED"


def test_a_segment_with_a_frame_less_is_refused(made: Joined) -> None:
    first = made.plan.segments[0]
    one_more = replace(first, frame_count=first.frame_count + 1)
    plan = replace(made.plan, segments=(one_more, *made.plan.segments[1:]))
    with pytest.raises(MediaFault, match="frames decode"):
        checked(replace(made, plan=plan))


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


def _with_a_damaged_key_frame(path: Path, key: int) -> bytes:
    """The file with most of one of its key frames overwritten."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
        damaged = [p for p in packets if p.is_keyframe][key]
        place, size = damaged.pos, damaged.size
    assert place is not None
    data = bytearray(path.read_bytes())
    data[place + size // 3 : place + size] = bytes(size - size // 3)
    return bytes(data)
