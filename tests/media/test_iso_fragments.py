"""A movie in fragments becomes one without: the same samples at the same times."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from iso_files import (
    HandTrack,
    box,
    full,
    hand_made,
    movie_of,
    new_picture,
    packets_by_id,
    payloads_of,
    picture_track,
    run_ffmpeg,
    same_picture,
    transplanted,
    u32,
    u64,
)
from media_factory import make_clip
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import child
from videoprocess_server.media.iso.edit_list import Edit
from videoprocess_server.model.losses import Loss

MOVFLAGS = [
    "frag_keyframe+empty_moov",
    "frag_keyframe+empty_moov+default_base_moof",
    "frag_keyframe+empty_moov+separate_moof",
    "frag_keyframe",
    "frag_keyframe+delay_moov",
    "frag_keyframe+empty_moov+negative_cts_offsets",
    "frag_keyframe+empty_moov+omit_tfhd_offset",
    "dash+frag_keyframe+empty_moov",
    "cmaf+frag_keyframe+delay_moov",
]


@pytest.fixture(name="clip", scope="module")
def _clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fragments") / "clip.mp4"
    make_clip(path, frames=30, width=64, height=48, gop=10, fps=Fraction(30000, 1001), audio="aac")
    return path


@pytest.mark.parametrize("movflags", MOVFLAGS)
def test_what_ffmpeg_fragments_is_put_together(movflags: str, clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "fragments.mp4"
    run_ffmpeg("-i", clip, "-c", "copy", "-movflags", movflags, source)
    assert movie_of(source).is_fragmented
    picture = same_picture(source)
    made = transplanted(source, picture, tmp_path / "made.mp4", moov_first=True)
    assert made.left == ()
    assert not made.movie.is_fragmented
    assert b"moof" not in made.data
    before, after = packets_by_id(source), packets_by_id(made.path)
    assert [(row[0], row[3], row[5]) for row in after[1]] == [(row[0], row[3], row[5]) for row in before[1]]
    # FFmpeg hides by an edit list what it shows of fragments before time 0.
    assert [row for row in after[2] if row[0] >= 0] == [row for row in before[2] if row[0] >= 0]
    before, after = (packets_by_id(path, ignore_edit_list=True) for path in (source, made.path))
    assert [(row[3], row[5]) for row in after[2]] == [(row[3], row[5]) for row in before[2]]
    assert made.movie.header.duration is not None
    assert made.movie.header.duration > 0


def test_fragments_without_times_follow_each_other(tmp_path: Path) -> None:
    source = _fragmented(tmp_path, _moof(2, [b"one", b"two"]), _moof(2, [b"three"]))
    samples = movie_of(source).track(2).samples()
    assert samples.dts.tolist() == [0, 100, 200]
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    track = made.movie.track(2)
    assert payloads_of(made.path, 2) == [b"one", b"two", b"three"]
    assert track.samples().dts.tolist() == [0, 100, 200]
    assert track.samples().duration.tolist() == [100, 100, 100]
    assert (track.edits, track.header.duration, track.media_header.duration) == ((), 300, 300)


def test_a_gap_between_fragments_stays(tmp_path: Path) -> None:
    source = _fragmented(tmp_path, _moof(2, [b"one", b"two"], time=0), _moof(2, [b"three"], time=5000))
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    samples = made.movie.track(2).samples()
    assert samples.dts.tolist() == [0, 100, 5000]
    assert samples.duration.tolist() == [100, 4900, 100]


def test_a_first_fragment_after_the_begin_becomes_an_empty_edit(tmp_path: Path) -> None:
    source = _fragmented(tmp_path, _moof(2, [b"one", b"two"], time=7301), _moof(2, [b"three"], time=7501))
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    track = made.movie.track(2)
    assert track.samples().dts.tolist() == [0, 100, 200]
    assert track.edits == (Edit(7301, -1), Edit(300, 0))
    assert made.movie.header.duration == 7601


def test_a_begin_between_two_ticks_makes_the_movie_finer(tmp_path: Path) -> None:
    source = _fragmented(tmp_path, _moof(2, [b"one"], time=1), timescale=600)
    made = transplanted(source, new_picture(shown_until=120, timescale=600), tmp_path / "made.mp4")
    assert made.movie.timescale == 3000
    assert made.movie.track(2).edits == (Edit(3, -1), Edit(300, 0))


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ((Edit(0, 150),), (Edit(250, 50),)),
        ((Edit(0, 30),), (Edit(70, -1), Edit(300, 0))),
        ((Edit(40, -1), Edit(0, 100)), (Edit(40, -1), Edit(300, 0))),
        ((Edit(80, 120), Edit(0, 350)), (Edit(80, 20), Edit(50, 250))),
    ],
    ids=["within", "before", "later", "two"],
)
def test_edits_of_fragments_count_from_the_new_begin(
    edits: Sequence[Edit], expected: tuple[Edit, ...], tmp_path: Path
) -> None:
    rows = b"".join(u32(edit.duration, edit.media_time, 1 << 16) for edit in edits)
    source = _fragmented(
        tmp_path,
        _moof(2, [b"one", b"two", b"three"], time=100),
        edits=box("edts", full("elst", u32(len(edits)), rows)),
    )
    assert transplanted(source, new_picture(), tmp_path / "made.mp4").movie.track(2).edits == expected


def test_samples_of_the_movie_come_before_those_of_fragments(tmp_path: Path) -> None:
    source = _fragmented(
        tmp_path,
        _moof(2, [b"three"], time=200),
        own=(b"one", b"two"),
        edits=box("edts", full("elst", u32(1, 200, 0, 1 << 16))),
    )
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert payloads_of(made.path, 2) == [b"one", b"two", b"three"]
    assert made.movie.track(2).samples().dts.tolist() == [0, 100, 200]
    assert made.movie.track(2).edits == (Edit(300, 0),)


def test_flags_of_samples_become_tables(tmp_path: Path) -> None:
    run = full("trun", u32(3), u32(0x2000000), flags=0x4)
    source = _fragmented(tmp_path, _moof(2, [b"a", b"b", b"c"], run=run, flags=0x1010000, size=1))
    track = transplanted(source, new_picture(), tmp_path / "made.mp4").movie.track(2)
    assert track.samples().sync.tolist() == [True, False, False]
    dependencies = child(track.box, b"mdia", b"minf", b"stbl", b"sdtp")
    assert dependencies is not None
    assert bytes(dependencies.body[4:]) == b"\x20\x10\x10"


def test_negative_composition_offsets_stay(tmp_path: Path) -> None:
    run = full("trun", u32(3, 1, 200, 1, -100, 1, -100), version=1, flags=0xA00)
    source = _fragmented(tmp_path, _moof(2, [b"a", b"b", b"c"], run=run))
    samples = transplanted(source, new_picture(), tmp_path / "made.mp4").movie.track(2).samples()
    assert samples.pts.tolist() == [200, 0, 100]


def test_groups_of_fragments_become_one_table(tmp_path: Path) -> None:
    description = full("sgpd", b"roll", u32(2, 1), b"\xff\xff", version=1)

    def groups(*rows: int) -> bytes:
        return description + full("sbgp", b"roll", u32(len(rows) // 2, *rows))

    source = _fragmented(
        tmp_path,
        _moof(2, [b"one", b"two"], more=groups(1, 0x10001)),
        _moof(2, [b"three"], more=groups(1, 0x10001)),
    )
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert made.left == ()
    stbl = child(made.movie.track(2).box, b"mdia", b"minf", b"stbl")
    assert stbl is not None
    assert full("sbgp", b"roll", u32(3, 1, 1, 1, 0, 1, 1)) in bytes(stbl.data)
    assert description in bytes(stbl.data)


def test_groups_that_cannot_be_one_are_named(tmp_path: Path) -> None:
    def groups(distance: bytes) -> bytes:
        description = full("sgpd", b"roll", u32(2, 1), distance, version=1)
        return description + full("sbgp", b"roll", u32(1, 1, 0x10001))

    source = _fragmented(
        tmp_path,
        _moof(2, [b"one"], more=groups(b"\xff\xff")),
        _moof(2, [b"two"], more=groups(b"\xff\xfe") + full("senc", bytes(4))),
    )
    left = transplanted(source, new_picture(), tmp_path / "made.mp4").left
    assert [(one.what, one.track_id) for one in left] == [(Loss.METADATA, 2), (Loss.METADATA, 2)]
    assert sorted(one.reason.split()[1] for one in left) == ["roll", "senc"]


def test_events_and_clock_times_of_fragments_are_named_and_events_with_their_own_time_stay(
    tmp_path: Path,
) -> None:
    own_time = full("emsg", u32(1000), u64(5), u32(10, 1), b"urn:x\0\0hello", version=1)
    relative = full("emsg", b"urn:x\0\0", u32(1000, 5, 10, 1), b"lost")
    clock = full("prft", u32(1), u64(1), u32(0))
    source = _fragmented(tmp_path, own_time, relative, clock, box("sidx", bytes(24)), _moof(2, [b"one"]))
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert own_time in made.data
    assert not any(kind in made.data for kind in (b"lost", b"prft", b"sidx"))
    assert len(made.left) == 2


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        (box("moof", box("traf", full("trun", u32(1)))), "traf box has no tfhd"),
        (box("moof", box("traf", full("tfhd", u32(2)), full("trun", u32(0xFFFF_FFFF)))), "trun box says"),
        (
            box("moof", box("traf", full("tfhd", u32(2)), full("trun", u32(9, 1), flags=0x200))),
            "trun box says",
        ),
        (box("moof", box("traf", full("tfhd", u32(2), flags=0x1))), "tfhd box ends"),
        (
            box("moof", box("traf", full("tfhd", u32(2)), full("tfdt", u64(1 << 63), version=1))),
            "tfdt box holds a time",
        ),
    ],
)
def test_fragments_that_contradict_themselves_are_refused(
    fragment: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(MediaFault, match=message):
        transplanted(_fragmented(tmp_path, fragment), new_picture(), tmp_path / "made.mp4")


def test_decode_times_that_go_back_are_refused(tmp_path: Path) -> None:
    source = _fragmented(tmp_path, _moof(2, [b"one"], time=500), _moof(2, [b"two"], time=100))
    with pytest.raises(MediaFault, match="Decode times of a track go back"):
        transplanted(source, new_picture(), tmp_path / "made.mp4")


def _fragmented(
    folder: Path, *fragments: bytes, own: Sequence[bytes] = (), edits: bytes = b"", timescale: int = 1000
) -> Path:
    """A picture in the movie itself, and a track 2 in fragments of one duration."""
    mvex = box("mvex", full("trex", u32(2, 1, 100, 0, 0)))
    tracks = picture_track(), HandTrack(track_id=2, payloads=own, edits=edits, movie_duration=0)
    after = b"".join(fragments)
    return hand_made(folder / "source.mp4", *tracks, moov_more=mvex, after=after, timescale=timescale)


def _moof(
    track_id: int,
    payloads: Sequence[bytes],
    *,
    time: int | None = None,
    run: bytes = b"",
    more: bytes = b"",
    **known: Any,
) -> bytes:
    """A fragment whose media follows it."""
    fields = u32(known["size"]) if "size" in known else b""
    fields += u32(known["flags"]) if "flags" in known else b""
    flags = 0x20000 | (0x10 if "size" in known else 0) | (0x20 if "flags" in known else 0)
    header = full("tfhd", u32(track_id), fields, flags=flags)
    decode_time = b"" if time is None else full("tfdt", u32(time))
    run = run or full("trun", u32(len(payloads), *(len(payload) for payload in payloads)), flags=0x200)

    def moof(data_at: int) -> bytes:
        flags = int.from_bytes(run[9:12], "big") | 0x1
        placed = full("trun", run[12:16], u32(data_at), run[16:], version=run[8], flags=flags)
        return box("moof", full("mfhd", u32(1)), box("traf", header, decode_time, placed, more))

    return moof(len(moof(0)) + 8) + box("mdat", *payloads)
