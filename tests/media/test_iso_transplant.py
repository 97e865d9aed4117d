"""A file whose own picture is put into it again is the same file to every reader, but for where things lie."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from iso_files import (
    HandTrack,
    Transplanted,
    box,
    boxes_without_places,
    facts_of,
    full,
    hand_made,
    hashed_by_program,
    movie_of,
    new_picture,
    packets_by_id,
    payloads_of,
    picture_track,
    plain_entry,
    same_picture,
    transplanted,
    u16,
    u32,
    visual_entry,
)
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import child
from videoprocess_server.media.iso.interleaving import with_times
from videoprocess_server.media.iso.layout import Layout, Run
from videoprocess_server.media.iso.samples import Ticks
from videoprocess_server.model.losses import Loss

CLIPS = [
    "android14_hlg_main10_1080p.mp4",
    "dog_720p30_10s.mp4",
    pytest.param("flir_thermal_vfr_7fps_bframes.mp4", marks=pytest.mark.slow),
    "flower_540p_5s.mp4",
    "iphone12pm_hlg_main10_mebx.mp4",
    "iphone14pro_hlg_noaudio_opengop_rot90.mov",
    "nasa_2video_2audio_2subs.mp4",
    "phone_2004_h263_amr_vfr.3gp",
    "rot90_iphone_3f.mov",
    "samsung_sef_slowmotion.mp4",
    "hostile/audio_missing_stsd.mp4",
]


@pytest.mark.parametrize("name", CLIPS)
def test_every_packet_and_all_that_is_told_of_it_stay(name: str, clips: Path, tmp_path: Path) -> None:
    source = clips / name
    picture = same_picture(source)
    moov_first = len(name) % 2 == 0
    made = transplanted(source, picture, tmp_path / source.name, moov_first=moov_first)
    assert made.left == ()
    assert made.movie.moov_first is moov_first
    assert sum(made.beats) == len(made.data)
    before, after = packets_by_id(source), packets_by_id(made.path)
    assert _shown(after.pop(picture.track_id)) == _shown(before.pop(picture.track_id))
    assert after == before
    before, after = (packets_by_id(path, ignore_edit_list=True) for path in (source, made.path))
    assert {k: v for k, v in after.items() if k != picture.track_id} == {
        k: v for k, v in before.items() if k != picture.track_id
    }
    assert facts_of(made.path) == facts_of(source)
    _assert_other_boxes_are_equal(source, made, picture.track_id)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-ignore_editlist", "1")], ids=["edits", "no edits"])
@pytest.mark.parametrize("name", CLIPS[:-1])
def test_an_independent_program_reads_the_same(
    name: str, options: tuple[str, ...], clips: Path, tmp_path: Path
) -> None:
    source = clips / name
    picture = same_picture(source)
    made = transplanted(source, picture, tmp_path / source.name)
    lines, expected = (_without_durations(hashed_by_program(path, *options)) for path in (made.path, source))
    shown = {
        str(pts) for pts in picture.pts.tolist()
    }  # the program also writes what is decoded and not shown
    expected = [line for line in expected if line[0] != "0" or line.split(",")[1] in shown]
    if options:  # without its edit list a picture begins where its own decode times do
        lines, expected = ([line for line in told if not line.startswith("0,")] for told in (lines, expected))
    assert sorted(lines) == sorted(expected)


def test_the_same_call_gives_the_same_bytes(clips: Path, tmp_path: Path) -> None:
    source = clips / "flower_540p_5s.mp4"
    first, second = (transplanted(source, same_picture(source), tmp_path / name) for name in ("a", "b"))
    assert first.data == second.data


def test_boxes_beside_the_media_stay_in_their_order(tmp_path: Path) -> None:
    early, late = box("uuid", b"0123456789abcdef", b"early"), box("uuid", b"0123456789abcdef", b"late")
    ending = box("sefd", b"Samsung's, which is found from the end")
    source = hand_made(
        tmp_path / "source.mp4",
        picture_track(),
        before=box("free", bytes(20)) + early + box("free", b"\0\0GPS N48 E16") + box("wide"),
        after=late + box("free") + ending,
    )
    data = transplanted(source, new_picture(), tmp_path / "made.mp4", moov_first=True).data
    assert (
        data.index(early)
        < data.index(b"GPS N48")
        < data.index(b"moov")
        < data.index(b"mdat")
        < data.index(late)
    )
    assert data.endswith(ending)
    assert box("free", bytes(20)) not in data
    assert box("wide") not in data


def test_what_follows_the_last_box_stays_at_the_end(tmp_path: Path) -> None:
    ending = b"\xff\xff\xff\xff\xff 8db42d694ccc418790edff439fe026bf"
    source = hand_made(tmp_path / "source.mp4", picture_track(), after=ending)
    for moov_first in (False, True):
        assert transplanted(
            source, new_picture(), tmp_path / "made.mp4", moov_first=moov_first
        ).data.endswith(ending)


def test_other_boxes_of_the_movie_stay_where_they_are(tmp_path: Path) -> None:
    user_data = box("udta", box("\xa9xyz", u16(18, 0x15C7), b"+48.2000+016.3700/"), bytes(4))
    more = box("free", b"in the movie") + user_data + box("iods", b"12345")
    source = hand_made(tmp_path / "source.mov", picture_track(more=user_data), moov_more=more, brand="qt  ")
    made = transplanted(source, new_picture(), tmp_path / "made.mov")
    assert made.data.endswith(more)
    assert bytes(made.movie.tracks[0].box.data).endswith(user_data)


@pytest.mark.parametrize("media_box", ["to the end", "64 bits", "several"])
def test_media_boxes_of_every_form_are_read(media_box: str, tmp_path: Path) -> None:
    media = HandTrack(track_id=2)
    source = hand_made(tmp_path / "source.mp4", picture_track(), media, media_box=media_box)
    assert payloads_of(source, 2) == [*media.payloads]
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert payloads_of(made.path, 2) == [*media.payloads]
    assert payloads_of(made.path, 1) == [b"new frame 0", b"new frame 1", b"new frame 2"]
    assert made.data.count(b"mdat") == 1


def test_a_track_of_several_entries_and_compact_sizes_stays_byte_equal(tmp_path: Path) -> None:
    sizes = full("stz2", bytes(3) + b"\x04", u32(3), b"\x34\x50")
    chunks = full("stsc", u32(2, 1, 2, 1, 2, 1, 2))
    other = HandTrack(
        track_id=2,
        entries=(plain_entry("mett"), plain_entry("urim")),
        per_chunk=2,
        tables={
            "stsz": sizes,
            "stsc": chunks,
            "sbgp": full("sbgp", b"roll", u32(1, 3, 1)),
            "subs": full("subs", u32(0)),
        },
        edits=box("edts", full("elst", u32(3, 50, -1, 1 << 16, 100, 100, 1 << 16, 100, 0, 1 << 15))),
    )
    source = hand_made(tmp_path / "source.mp4", picture_track(), other)
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert payloads_of(made.path, 2) == [*other.payloads]
    assert made.movie.tracks[1].samples().description.tolist() == [1, 1, 2]
    assert len(made.movie.tracks[1].edits) == 3
    _assert_other_boxes_are_equal(source, made, 1)


def test_a_track_in_another_file_keeps_its_places_and_is_named(tmp_path: Path) -> None:
    elsewhere = HandTrack(
        track_id=2,
        references=full("url ", b"file:///etc/passwd\0"),
        tables={"stco": full("stco", u32(3, 7_000_000, 8_000_000, 9_000_000))},
    )
    source = hand_made(tmp_path / "source.mp4", picture_track(), elsewhere)
    assert movie_of(source).tracks[1].is_external
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert bytes(made.movie.tracks[1].box.data) == bytes(movie_of(source).tracks[1].box.data)
    assert [(one.what, one.track_id) for one in made.left] == [(Loss.EXTERNAL_REFERENCE, 2)]


def test_a_picture_in_another_file_becomes_one_of_this(tmp_path: Path) -> None:
    source = hand_made(
        tmp_path / "source.mp4",
        picture_track(references=full("alis", b"elsewhere") + full("url ", flags=1), reference_count=2),
    )
    made = transplanted(source, new_picture(entry=visual_entry(reference=2)), tmp_path / "made.mp4")
    assert not made.movie.tracks[0].is_external
    dref = child(made.movie.tracks[0].box, b"mdia", b"minf", b"dinf", b"dref")
    assert dref is not None
    assert bytes(dref.data) == full("dref", u32(1), full("url ", flags=1))


def test_chunks_without_times_stay_behind_what_they_were_behind() -> None:
    picture = Run(size=_ticks(40, 40, 40), seconds=np.array([0.0, 0.5, 1.0]), read=lambda: iter(()))
    recovery = Run(size=_ticks(1, 1, 1, 1), seconds=np.zeros(4), offset=_ticks(5, 105, 106, 205))
    runs = with_times([picture, recovery], _ticks(10, 110, 210), picture.seconds)
    assert runs[0] is picture
    assert runs[1].seconds.tolist() == [0.0, 0.0, 0.0, 0.5]
    layout = Layout(runs, (), file_size=300)
    assert [positions.tolist() for positions in layout.positions[:2]] == [[3, 44, 84], [0, 1, 2, 43]]


def test_chunks_of_one_time_stay_in_their_track_s_order() -> None:
    large_first = Run(size=_ticks(9, 1), seconds=np.array([0.0, 0.0]), offset=_ticks(0, 9))
    assert Layout([large_first], (), file_size=10).positions[0].tolist() == [0, 9]


def test_a_chunk_beyond_the_end_is_refused(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(), HandTrack(track_id=2, per_chunk=3))
    cut = tmp_path / "cut.mp4"
    data = source.read_bytes()
    at = data.index(b"stco", data.rindex(b"trak")) + 12
    cut.write_bytes(data[:at] + u32(len(data) - 5) + data[at + 4 :])
    with pytest.raises(MediaFault, match="beyond the end"):
        transplanted(cut, new_picture(), tmp_path / "made.mp4")


@pytest.mark.parametrize(
    "pieces", [[b"new frame 0new", b" frame 1n", b"", b"ew frame 2"], [b"new frame 0" * 3]]
)
def test_a_picture_may_come_in_any_pieces(pieces: list[bytes], tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track())
    made = transplanted(source, new_picture(read=lambda: iter(pieces)), tmp_path / "made.mp4")
    assert b"".join(payloads_of(made.path, 1)) == b"".join(pieces)


@pytest.mark.parametrize("pieces", [[b"new frame 0"], [b"new frame 0" * 3, b"!"]], ids=["few", "many"])
def test_a_picture_of_other_bytes_than_it_says_is_refused(pieces: list[bytes], tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track())
    with pytest.raises(MediaFault, match="JOIN_FAILED: The picture"):
        transplanted(source, new_picture(read=lambda: iter(pieces)), tmp_path / "made.mp4")


@pytest.mark.parametrize(
    "wrong",
    [
        {"pts": ()},
        {"dts": (0, 0, 80)},
        {"dts": (0, 41, 80)},
        {"shown_until": 80},
        {"timescale": 0},
        {"track_id": 7},
    ],
)
def test_a_picture_that_cannot_be_is_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track())
    with pytest.raises(MediaFault, match="JOIN_FAILED"):
        transplanted(source, new_picture(**wrong), tmp_path / "made.mp4")  # type: ignore[arg-type]


def test_a_larger_picture_is_shown_larger_and_its_apertures_with_it(tmp_path: Path) -> None:
    aperture = box("tapt", *(full(kind, u32(64 << 16, 48 << 16)) for kind in ("clef", "prof", "enof")))
    source = hand_made(tmp_path / "source.mov", picture_track(more=aperture), brand="qt  ")
    matrix = (0, 1 << 16, 0, -(1 << 16), 0, 0, 96 << 16, 0, 1 << 30)
    picture = new_picture(width=128, height=96, sample_aspect_ratio=Fraction(1), matrix=matrix)
    track = transplanted(source, picture, tmp_path / "made.mov").movie.tracks[0]
    assert (track.width, track.height, track.matrix) == (128, 96, matrix)
    assert box("tapt", *(full(kind, u32(128 << 16, 96 << 16)) for kind in ("clef", "prof", "enof"))) in bytes(
        track.box.data
    )


def test_wide_pixels_stay_wide_at_another_size(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(size=(128, 48)))
    picture = new_picture(width=32, height=24, sample_aspect_ratio=Fraction(2))
    track = transplanted(source, picture, tmp_path / "made.mp4").movie.tracks[0]
    assert (track.width, track.height) == (64, 24)


def test_brands_that_became_untrue_go_and_others_stay(tmp_path: Path) -> None:
    source = hand_made(
        tmp_path / "source.mp4",
        picture_track(entries=(visual_entry("av01", 64, 48, box("dvvC", bytes(24))),)),
    )
    data = source.read_bytes()
    ftyp = box("ftyp", b"dby1", u32(7), b"isomav01mp42dby13gp6")
    source.write_bytes(ftyp + data[int.from_bytes(data[:4], "big") :])
    made = transplanted(source, new_picture(), tmp_path / "made.mp4", false_brands={"3gp6"})
    assert made.data.startswith(box("ftyp", b"isom", u32(7), b"isommp42"))


def _ticks(*numbers: int) -> Ticks:
    return np.array(numbers, dtype=np.int64)


def _shown(packets: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Presentation time, size, key frame and digest of what is shown."""
    return [(row[0], row[3], row[4], row[5]) for row in packets if row[4] in {(True, False), (False, False)}]


def _without_durations(lines: list[str]) -> list[str]:
    """Stream, presentation time, size and digest; decode times of a picture are rebuilt."""
    found = []
    for line in lines:
        if not line.startswith("#"):
            stream, dts, pts, duration, size, digest = (word.strip() for word in line.split(",")[:6])
            found.append(",".join((stream, pts, size, digest) + ((dts, duration) if stream != "0" else ())))
    return found


def _assert_other_boxes_are_equal(source: Path, made: Transplanted, picture_id: int) -> None:
    before, after = movie_of(source), made.movie
    for old, new in zip(before.tracks, after.tracks, strict=True):
        if old.track_id != picture_id:
            assert boxes_without_places(new.box) == boxes_without_places(old.box)
