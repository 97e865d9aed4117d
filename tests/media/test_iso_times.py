"""A new picture is shown at exactly the times it was given, to the tick, by edit lists that say what the source's said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from iso_files import (
    HandTrack,
    box,
    full,
    hand_made,
    new_picture,
    picture_track,
    same_picture,
    transplanted,
    u16,
    u32,
)
from media_factory import make_clip
from videoprocess_server.media.iso.added import NewPicture
from videoprocess_server.media.iso.boxes import child
from videoprocess_server.media.iso.edit_list import Edit, rescaled
from videoprocess_server.media.iso.timing import finer_scale
from videoprocess_server.media.timestamps import rebuild_dts_array
from videoprocess_server.model.losses import Loss


@pytest.fixture(name="clip", scope="module")
def _clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures without B frames, whose payloads any time stamps may have."""
    path = tmp_path_factory.mktemp("times") / "clip.mp4"
    make_clip(path, frames=12, width=64, height=48, gop=12, b_frames=0, audio="aac")
    return path


@pytest.mark.parametrize("timescale", [600, 12800, 30000, 90000])
@pytest.mark.parametrize("start", [0, 1, 601, 90001])
def test_ffmpeg_reads_each_time_exactly(start: int, timescale: int, clip: Path, tmp_path: Path) -> None:
    steps = [17, 41, 20, 150, 1, 33, 20, 20, 999, 20, 21]
    shown = [start + sum(steps[:k]) for k in range(12)]
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 11, 10]
    picture = _with_times(clip, [shown[k] for k in order], shown[-1] + 37, timescale)
    made = transplanted(clip, picture, tmp_path / "made.mp4")
    assert made.left == ()
    with av.open(str(made.path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base == Fraction(1, timescale)
        assert [packet.pts for packet in container.demux(stream) if packet.size] == picture.pts.tolist()
    shown_ticks = sum(edit.duration for edit in made.movie.tracks[0].edits)
    assert Fraction(shown_ticks, made.movie.timescale) == Fraction(shown[-1] + 37, timescale)
    assert made.movie.tracks[0].media_header.number == timescale


def test_a_picture_that_begins_before_time_0_has_no_edit_list(clip: Path, tmp_path: Path) -> None:
    picture = _with_times(clip, [k * 20 - 30 for k in range(12)], 210, 600)
    made = transplanted(clip, picture, tmp_path / "made.mp4")
    assert made.movie.tracks[0].edits == ()
    with av.open(str(made.path)) as container:
        pts = [packet.pts for packet in container.demux(container.streams.video[0]) if packet.size]
    assert pts == picture.pts.tolist()


@pytest.mark.parametrize(
    ("edits", "pts", "shown_until", "expected"),
    [
        ((Edit(120, 7),), (0, 40, 80), 120, (Edit(120, 0),)),
        ((Edit(121, 7),), (0, 40, 80), 120, (Edit(120, 0),)),
        (
            (Edit(7, -1), Edit(5, -1), Edit(120, 7)),
            (12, 52, 92),
            132,
            (Edit(7, -1), Edit(5, -1), Edit(120, 0)),
        ),
        ((Edit(7, -1), Edit(120, 7)), (12, 52, 92), 132, (Edit(12, -1), Edit(120, 0))),
        ((Edit(60, 7), Edit(60, 0)), (0, 40, 80), 120, (Edit(120, 0),)),
        ((), (0, 40, 80), 120, ()),
        ((), (5, 40, 80), 120, (Edit(5, -1), Edit(115, 0))),
        ((), (0, 80, 40), 120, (Edit(120, 1),)),
    ],
)
def test_the_source_s_edits_stay_where_they_mean_the_same(
    edits: Sequence[Edit],
    pts: Sequence[int],
    shown_until: int,
    expected: tuple[Edit, ...],
    tmp_path: Path,
) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(edits=_edit_box(edits)))
    made = transplanted(source, new_picture(pts, shown_until=shown_until), tmp_path / "made.mp4")
    assert made.movie.tracks[0].edits == expected
    assert made.movie.tracks[0].header.duration == sum(edit.duration for edit in expected) or shown_until


def test_a_duration_that_the_movie_s_ticks_cannot_tell_stays_as_near_as_it_was(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(edits=_edit_box([Edit(100, 2002)])))
    picture = new_picture((0, 1001, 2002), shown_until=3003, timescale=30000)
    made = transplanted(source, picture, tmp_path / "made.mp4")
    assert (made.movie.timescale, made.movie.tracks[0].edits) == (1000, (Edit(100, 0),))


def test_a_duration_that_would_hide_the_last_frame_does_not_stay(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(edits=_edit_box([Edit(2, 0)])), timescale=30)
    picture = new_picture((0, 33, 67), shown_until=99, timescale=1000)
    assert transplanted(source, picture, tmp_path / "made.mp4").movie.tracks[0].edits == (Edit(297, 0),)


def test_a_finer_movie_changes_no_time_of_any_track(tmp_path: Path) -> None:
    other = HandTrack(track_id=2, edits=_edit_box([Edit(50, -1), Edit(250, 3)]))
    source = hand_made(tmp_path / "source.mp4", picture_track(), other)
    picture = new_picture((1, 2, 3), shown_until=4, timescale=90_000)
    movie = transplanted(source, picture, tmp_path / "made.mp4").movie
    assert movie.timescale == 90_000
    assert movie.track(2).edits == (Edit(4500, -1), Edit(22500, 3))
    assert movie.track(2).header.duration == 27_000
    assert movie.track(1).edits == (Edit(1, -1), Edit(3, 0))
    assert movie.header.duration == 27_000


def test_a_time_that_no_scale_can_tell_is_rounded_and_named(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(), timescale=2_000_000_000)
    made = transplanted(source, new_picture((1, 2, 3), shown_until=4, timescale=7), tmp_path / "made.mp4")
    assert [(one.what, one.count) for one in made.left] == [(Loss.EDIT_LIST, 2)]
    assert made.movie.timescale == 2_000_000_000


def test_long_times_take_boxes_of_64_bits(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(), timescale=90_000)
    late = 1 << 33
    picture = new_picture((late, late + 1, late + 2), shown_until=late + 3, timescale=90_000)
    movie = transplanted(source, picture, tmp_path / "made.mp4").movie
    assert movie.track(1).edits == (Edit(late, -1), Edit(3, 0))
    assert (movie.header.version, movie.track(1).header.version) == (1, 1)
    assert movie.header.duration == late + 3


def test_the_media_is_as_long_as_it_is_shown(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track())
    picture = new_picture((100, 700, 300, 400, 1500), shown_until=1600, dts=(98, 99, 100, 300, 400))
    made = transplanted(source, picture, tmp_path / "made.mp4").movie.tracks[0]
    assert made.media_header.duration == 1500
    assert made.edits == (Edit(100, -1), Edit(1500, 2))


def test_a_last_frame_that_an_edit_cuts_does_not_change_the_rate(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(edits=_edit_box([Edit(113, 0)])))
    made = transplanted(source, new_picture(shown_until=113), tmp_path / "made.mp4").movie.tracks[0]
    assert made.samples().duration.tolist() == [40, 40, 40]
    assert (made.media_header.duration, made.edits, made.header.duration) == (120, (Edit(113, 0),), 113)


def test_the_media_header_keeps_creation_time_and_language(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track())
    data = bytearray(source.read_bytes())
    at = data.index(b"mdhd") + 8
    data[at : at + 8] = u32(3_575_302_077, 3_575_302_078)
    data[at + 16 : at + 18] = u16((10 << 10) | (16 << 5) | 14)
    source.write_bytes(data)
    picture = new_picture((0, 10, 20), shown_until=30, timescale=25)
    header = transplanted(source, picture, tmp_path / "made.mp4").movie.tracks[0].media_header
    assert (header.creation_time, header.modification_time) == (3_575_302_077, 3_575_302_078)
    assert (header.language, header.number, header.duration) == ("jpn", 25, 30)


def test_a_constant_rate_takes_one_row(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track())
    pts = [0, 3003, 1001, 2002, 4004]
    track = transplanted(
        source,
        new_picture(pts, shown_until=5005, timescale=30000, dts=[-1001, 0, 1001, 2002, 3003]),
        tmp_path / "made.mp4",
    ).movie.tracks[0]
    durations = child(track.box, b"mdia", b"minf", b"stbl", b"stts")
    assert durations is not None
    assert bytes(durations.body[4:]) == u32(1, 5, 1001)


@pytest.mark.parametrize(
    ("ticks", "to", "base", "expected"),
    [(1, 1, 2, 1), (-1, 1, 2, -1), (1, 1, 3, 0), (2, 1, 3, 1), (9643, 30000, 1000, 289290)],
)
def test_times_are_rounded_as_ffmpeg_rounds(ticks: int, to: int, base: int, expected: int) -> None:
    assert rescaled(ticks, to, base) == expected


def test_the_smallest_scale_is_taken() -> None:
    assert finer_scale(600, [Fraction(1, 900), Fraction(7, 1200)]) == (6, 0)
    assert finer_scale(600, [Fraction(1, 600)]) == (1, 0)


def _edit_box(edits: Sequence[Edit]) -> bytes:
    rows = b"".join(u32(edit.duration, edit.media_time, 1 << 16) for edit in edits)
    return box("edts", full("elst", u32(len(edits)), rows)) if edits else b""


def _with_times(clip: Path, pts: list[int], shown_until: int, timescale: int) -> NewPicture:
    ticks = np.array(pts, dtype=np.int64)
    return replace(
        same_picture(clip),
        pts=ticks,
        dts=rebuild_dts_array(ticks, 1),
        shown_until=shown_until,
        timescale=timescale,
    )
