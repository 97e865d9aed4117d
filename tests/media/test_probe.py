"""Prepare says exactly what a file is, or exactly why it is none."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import pytest

from media_factory import Colours, make_clip
from media_tasks import opened, probe_file
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.source import open_source
from videoprocess_server.model.media_info import Colour, TrackKind
from videoprocess_server.model.tasks import MediaLimits


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrongfile_48b.mp4", "NOT_A_VIDEO"),
        ("still_image_heic_as.mp4", "NOT_A_VIDEO"),
        ("minimal_no_streams.mp4", "NO_VIDEO_TRACK"),
        ("audio_only_15s.mp4", "NO_VIDEO_TRACK"),
        ("header_only_297frames.mp4", "NO_DECODABLE_FRAME"),
    ],
)
def test_hostile_files_are_refused_by_name(clips: Path, name: str, reason: str) -> None:
    with pytest.raises(MediaFault) as caught:
        probe_file(clips / "hostile" / name)
    assert caught.value.reason == reason
    assert "fd:" not in caught.value.message


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 4096, b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"],
)
def test_what_is_no_video_is_not_opened(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaFault, match="NOT_A_VIDEO"):
        probe_file(path)


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_matroska_file_that_was_cut_off_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    path = make_clip(tmp_path / f"clip{suffix}", frames=12, codec=codec).path
    assert probe_file(path).size_bytes == path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(MediaFault, match="TRUNCATED_FILE"):
        probe_file(path)


def test_a_matroska_stream_of_untold_size_is_taken(tmp_path: Path) -> None:
    """As live recorders write it."""
    path = make_clip(tmp_path / "clip.mkv", frames=6).path
    whole = path.read_bytes()
    size_at = whole.index(b"\x18\x53\x80\x67") + 4
    path.write_bytes(whole[:size_at] + b"\x01" + b"\xff" * 7 + whole[size_at + 8 :])
    assert probe_file(path).video.codec == "h264"


@pytest.mark.parametrize("suffix", [".ts", ".flv", ".avi"])
def test_other_containers_are_refused(tmp_path: Path, suffix: str) -> None:
    path = make_clip(tmp_path / f"clip{suffix}", frames=3, b_frames=0).path
    with pytest.raises(MediaFault, match="NOT_A_VIDEO"):
        probe_file(path)


def test_an_iphone_clip_is_described(clips: Path) -> None:
    media = probe_file(clips / "iphone12pm_hlg_main10_mebx.mp4")
    video = media.video
    assert (media.major_brand, video.codec, video.profile, video.pixel_format) == (
        "qt",
        "hevc",
        "Main 10",
        "yuv420p10le",
    )
    assert (video.width, video.height, video.bit_depth, video.rotation_degrees) == (1920, 1080, 10, 90)
    assert video.colour == Colour(primaries=9, transfer=18, matrix=9, range=1)
    assert video.time_base == Fraction(1, 600)
    assert [track.kind for track in media.tracks] == [TrackKind.VIDEO, TrackKind.AUDIO, *[TrackKind.DATA] * 3]
    assert media.tracks[0].duration == Fraction(179, 600)
    assert media.size_bytes == 137_646


def test_the_larger_of_two_video_tracks_is_chosen(clips: Path) -> None:
    assert probe_file(clips / "nasa_2video_2audio_2subs.mp4").video.index == 3


def test_full_range_is_told_by_range_not_by_the_format(clips: Path) -> None:
    media = probe_file(clips / "h264_fullrange_webcam.mkv")
    assert media.container == "matroska,webm"
    assert (media.video.pixel_format, media.video.colour.range) == ("yuv420p", 2)


def test_a_tag_that_is_not_utf_8_does_no_harm(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3, metadata={"title": "TITLE"}).path
    path.write_bytes(path.read_bytes().replace(b"TITLE", b"T\xff\xfeLE"))
    assert probe_file(path).video.width == 320


@pytest.mark.parametrize(("rotation", "clockwise"), [(0, 0), (90, 270), (180, 180), (270, 90)])
def test_rotation_is_told_clockwise(tmp_path: Path, rotation: int, clockwise: int) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3, rotation=rotation).path
    assert probe_file(path).video.rotation_degrees == clockwise


def test_shape_and_colour_of_pixels(tmp_path: Path) -> None:
    colours = Colours(primaries=9, transfer=16, matrix=9, range=1)
    path = make_clip(
        tmp_path / "clip.mp4",
        frames=3,
        codec="libx265",
        pix_fmt="yuv420p10le",
        colours=colours,
        sample_aspect_ratio=Fraction(4, 3),
    ).path
    video = probe_file(path).video
    assert video.sample_aspect_ratio == Fraction(4, 3)
    assert video.colour == Colour(primaries=9, transfer=16, matrix=9, range=1)


@pytest.mark.parametrize(
    "limits",
    [MediaLimits(max_pixels=320 * 180 - 1), MediaLimits(max_duration_seconds=0), MediaLimits(max_tracks=0)],
)
def test_limits_hold(tmp_path: Path, limits: MediaLimits) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3).path
    with pytest.raises(MediaFault, match="OVER_LIMITS"):
        probe_file(path, limits)


def test_a_codec_nobody_knows(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3).path
    data = path.read_bytes()
    assert data.count(b"avc1\0") == 1
    path.write_bytes(data.replace(b"avc1\0", b"zzzz\0").replace(b"avcC", b"zzzC"))
    with pytest.raises(MediaFault, match="UNSUPPORTED_CODEC"):
        probe_file(path)


def test_the_descriptor_stays_open_and_is_read_from_its_start(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3).path
    with opened(path) as fd:
        os.lseek(fd, 1000, os.SEEK_SET)
        with open_source(fd) as container:
            assert len(container.streams) == 1
        assert os.fstat(fd).st_size == path.stat().st_size
