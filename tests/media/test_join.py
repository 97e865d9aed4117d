"""The joined file has every frame once and in time, and what else the source had, or says what it has not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from iso_files import facts_of, movie_of, packets_by_id
from joining import (
    Joined,
    display_matrix,
    join_again,
    joined,
    losses_of,
    messages_of_ffmpeg,
    packets_of,
    verified,
)
from media_factory import Clip, Colours, make_clip, read_beeps, read_flashes, read_frame_numbers
from videoprocess_server.media.faults import MediaFault

SMALL = {"width": 128, "height": 96, "frames": 45, "gop": 12, "b_frames": 3}


def _constant(folder: Path) -> Clip:
    return make_clip(folder / "constant.mp4", **SMALL, audio="aac")


def _ntsc_hevc_turned(folder: Path) -> Clip:
    return make_clip(
        folder / "ntsc.mov",
        **SMALL,
        fps=Fraction(30000, 1001),
        codec="libx265",
        pix_fmt="yuv420p10le",
        open_gop=True,
        audio="pcm_s16le",
        rotation=90,
        colours=Colours(primaries=9, transfer=18, matrix=9),
    )


def _variable_rate(folder: Path) -> Clip:
    steps = [20, 40, 19, 21, 60, 20, 20, 150, 20, 33]
    pts = [sum(steps[j % len(steps)] for j in range(k)) for k in range(45)]
    return make_clip(
        folder / "vfr.mp4", width=128, height=96, gop=12, pts=pts, time_base=Fraction(1, 600), audio="aac"
    )


def _late_start(folder: Path) -> Clip:
    return make_clip(folder / "late.mp4", **SMALL, start_pts=29, time_base=Fraction(1, 600), audio="aac")


def _edit_list_within_a_gop(folder: Path) -> Clip:
    return make_clip(folder / "edit.mp4", **SMALL, hidden_frames=5, audio="aac")


def _full_range_with_wide_pixels(folder: Path) -> Clip:
    return make_clip(
        folder / "full.mp4",
        **SMALL,
        pix_fmt="yuvj420p",
        colours=Colours(range=2),
        sample_aspect_ratio=Fraction(4, 3),
    )


def _matroska(folder: Path) -> Clip:
    return make_clip(folder / "clip.mkv", **SMALL, fps=Fraction(25), audio="pcm_s16le")


MAKERS = [
    _constant,
    _ntsc_hevc_turned,
    _variable_rate,
    _late_start,
    _edit_list_within_a_gop,
    _full_range_with_wide_pixels,
    _matroska,
]


@pytest.mark.parametrize("make", MAKERS)
def test_every_frame_is_there_once_at_its_exact_time(make: Callable[[Path], Clip], tmp_path: Path) -> None:
    """Read by PyAV, and decoded without a word by another build of FFmpeg; made twice, the bytes are the same."""
    clip = make(tmp_path)
    made = joined(clip.path, tmp_path)
    assert len(made.plan.segments) > 1
    assert read_frame_numbers(made.path) == list(zip(clip.times, clip.numbers, strict=True))
    assert messages_of_ffmpeg(made.path) == ""
    again = join_again(clip.path, made.media, made.plan, made.segment_paths, tmp_path / "again")
    assert again.sha256 == made.result.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert made.result.size_bytes == made.path.stat().st_size


@pytest.mark.parametrize("make", MAKERS)
def test_sound_is_the_sources_packet_by_packet(make: Callable[[Path], Clip], tmp_path: Path) -> None:
    clip = make(tmp_path)
    made = joined(clip.path, tmp_path)
    assert packets_of(made.path, "audio") == packets_of(clip.path, "audio")
    assert losses_of(made) == ({("PACKETS_OUTSIDE_EDIT", 0, 5)} if make is _edit_list_within_a_gop else set())
    assert verified(made).frame_count == len(clip.times)


@pytest.mark.slow
@pytest.mark.parametrize("sound", ["aac", "pcm_s16le"])
def test_flash_and_beep_keep_their_distance(sound: str, tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "clip.mov", width=128, height=96, frames=65, gop=20, audio=sound, flash_and_beep=True
    )
    made = joined(clip.path, tmp_path)
    assert read_flashes(made.path) == list(clip.flashes)
    assert read_beeps(made.path) == read_beeps(clip.path)


def test_turned_colour_pixels_and_tags_are_kept(tmp_path: Path) -> None:
    clip = _ntsc_hevc_turned(tmp_path)
    made = joined(clip.path, tmp_path)
    assert display_matrix(made.path) == display_matrix(clip.path) is not None
    with av.open(str(made.path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.codec_tag == "hvc1"
        assert (stream.codec_context.color_primaries, stream.codec_context.color_trc) == (9, 18)
    wide = joined(_full_range_with_wide_pixels(tmp_path).path, tmp_path / "wide")
    with av.open(str(wide.path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        assert next(container.decode(video=0)).color_range == 2


def test_metadata_of_the_container_is_kept(tmp_path: Path) -> None:
    tags = {"com.apple.quicktime.make": "Apple", "com.android.capture.fps": "240.000000", "title": "Läufer"}
    tags["creation_time"] = "2021-05-25T16:21:51.000000Z"
    made = joined(make_clip(tmp_path / "tags.mp4", **SMALL, metadata=tags).path, tmp_path)
    with av.open(str(made.path)) as container:
        assert tags.items() <= container.metadata.items()
    assert made.result.not_kept == ()


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        pytest.param("iphone12pm_hlg_main10_mebx.mp4", set(), marks=pytest.mark.slow),
        ("rot90_iphone_3f.mov", set()),
        ("samsung_sef_slowmotion.mp4", {("PACKETS_OUTSIDE_EDIT", 1, 1)}),
        pytest.param("nasa_2video_2audio_2subs.mp4", set(), marks=pytest.mark.slow),
        ("phone_2004_h263_amr_vfr.3gp", set()),
        pytest.param("flir_thermal_vfr_7fps_bframes.mp4", set(), marks=pytest.mark.slow),
    ],
)
def test_a_real_clip_keeps_all_but_the_pictures_that_its_edit_list_hides(
    name: str, lost: set[tuple[str, int | None, int]], clips: Path, tmp_path: Path
) -> None:
    """Every other track's packets with and without edit lists, and all that FFmpeg tells of file and tracks."""
    source = clips / name
    made = joined(source, tmp_path, Fraction(4))
    assert verified(made).frame_count == made.plan.frame_count
    assert losses_of(made) == lost
    assert messages_of_ffmpeg(made.path) == ""
    assert display_matrix(made.path) == display_matrix(source)
    picture = movie_of(source).tracks[made.media.video.index].track_id
    for ignore in (True, False):
        before, after = (packets_by_id(path, ignore_edit_list=ignore) for path in (source, made.path))
        assert before.keys() == after.keys()
        assert all(before[track] == after[track] for track in before if track != picture)
    (tags, chapters, *tracks), (made_tags, made_chapters, *made_tracks) = map(facts_of, (source, made.path))
    assert (tags, chapters) == (made_tags, made_chapters)
    for old, new in zip(tracks, made_tracks, strict=True):
        assert old == new or (old[:2], old[3]) == (new[:2], new[3]) == ((picture, "video"), new[3])


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Joined:
    folder = tmp_path_factory.mktemp("made")
    return joined(_constant(folder).path, folder)


def _refused(made: Joined, paths: tuple[str, ...], path: Path, plan: object = None) -> str:
    with pytest.raises(MediaFault) as caught:
        join_again(made.source, made.media, plan or made.plan, paths, path)  # type: ignore[arg-type]
    assert caught.value.reason == "JOIN_FAILED"
    return caught.value.message


def test_segments_in_another_order_are_refused(made: Joined, tmp_path: Path) -> None:
    first, second, *rest = made.segment_paths
    _refused(made, (second, first, *rest), tmp_path / "out.mp4")


def test_a_missing_segment_is_refused(made: Joined, tmp_path: Path) -> None:
    assert "files for" in _refused(made, made.segment_paths[:-1], tmp_path / "out.mp4")


def test_time_stamps_of_another_plan_are_refused(made: Joined, tmp_path: Path) -> None:
    plan = replace(made.plan, pts_sha256="0" * 64)
    assert "time stamps" in _refused(made, made.segment_paths, tmp_path / "out.mp4", plan)


def test_other_parameter_sets_are_refused(made: Joined, tmp_path: Path) -> None:
    other = joined(make_clip(tmp_path / "other.mp4", **{**SMALL, "width": 160}).path, tmp_path)
    paths = (made.segment_paths[0], *other.segment_paths[1:])
    assert "parameter sets" in _refused(made, paths, tmp_path / "out.mp4")


def test_an_existing_file_is_not_overwritten(made: Joined) -> None:
    before = made.path.read_bytes()
    with pytest.raises(FileExistsError):
        join_again(made.source, made.media, made.plan, made.segment_paths, made.path)
    assert made.path.read_bytes() == before
