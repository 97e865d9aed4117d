"""User metadata, sample entries and tracks of our own."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from iso_files import (
    HandTrack,
    box,
    full,
    hand_made,
    movie_of,
    new_picture,
    opened,
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
from videoprocess_server.media.iso.added import NewTrack
from videoprocess_server.media.iso.edit_list import Edit
from videoprocess_server.media.iso.movie import read_movie
from videoprocess_server.media.iso.new_movie import write_movie
from videoprocess_server.media.iso.sample_entries import extension_kinds, merge_sample_entry
from videoprocess_server.media.iso.user_keys import UserValue
from videoprocess_server.model.losses import Loss

NEW_KEYS = {
    "com.openharmony.scalingfactor": UserValue.float32(1.5),
    "com.openharmony.note": UserValue.text("größer"),
}


def keys_box(values: dict[str, str], quicktime: bool = False, more: bytes = b"") -> bytes:
    names = b"".join(u32(len(name) + 8) + b"mdta" + name.encode() for name in values)
    items = b""
    for k, value in enumerate(values.values(), 1):
        items += box(
            k.to_bytes(4, "big").decode("latin-1"), box("data", u32(1, 0x0000_55C4) + value.encode())
        )
    handler = full("hdlr", bytes(4) + b"mdta" + bytes(13))
    parts = handler, full("keys", u32(len(values)), names), box("ilst", items), more
    return box("meta", *parts) if quicktime else full("meta", *parts)


@pytest.mark.parametrize(
    "name",
    [
        "iphone12pm_hlg_main10_mebx.mp4",
        "android14_hlg_main10_1080p.mp4",
        "dog_720p30_10s.mp4",
        "rot90_iphone_3f.mov",
    ],
)
def test_keys_are_added_to_those_of_the_source_and_ffmpeg_reads_all(
    name: str, clips: Path, tmp_path: Path
) -> None:
    source = clips / name
    made = transplanted(source, same_picture(source), tmp_path / name, keys=NEW_KEYS)
    assert made.left == ()
    assert dict(made.movie.user_keys) == {**movie_of(source).user_keys, **NEW_KEYS}
    assert made.movie.user_keys["com.openharmony.scalingfactor"].as_float32() == 1.5
    with av.open(str(source)) as before, av.open(str(made.path)) as after:
        added = dict(after.metadata)
        assert float(added.pop("com.openharmony.scalingfactor")) == 1.5
        assert added.pop("com.openharmony.note") == "größer"
        assert added == before.metadata


@pytest.mark.parametrize("quicktime", [False, True])
def test_a_key_of_the_same_name_is_replaced_and_the_others_stay_byte_equal(
    quicktime: bool, tmp_path: Path
) -> None:
    more = box("free", b"stays") + bytes(4)
    old = keys_box({"a": "first", "com.openharmony.note": "old", "c": "third"}, quicktime, more)
    source = hand_made(tmp_path / "source.mp4", picture_track(), moov_more=old)
    made = transplanted(
        source, new_picture(), tmp_path / "made.mp4", keys={"com.openharmony.note": UserValue.text("new")}
    )
    values = made.movie.user_keys
    assert list(values) == ["a", "c", "com.openharmony.note"]
    assert [value.as_text() for value in values.values()] == ["first", "third", "new"]
    assert values["a"].locale == 0x55C4
    assert made.data.endswith(more)


def test_a_meta_box_of_another_kind_is_left_alone_and_that_is_named(tmp_path: Path) -> None:
    other = full("meta", full("hdlr", bytes(4) + b"ID32" + bytes(13)), full("ID32", b"..."))
    source = hand_made(tmp_path / "source.mp4", picture_track(), moov_more=other)
    made = transplanted(source, new_picture(), tmp_path / "made.mp4", keys=NEW_KEYS)
    assert made.data.endswith(other)
    assert [(one.what, one.count) for one in made.left] == [(Loss.METADATA, 2)]


@pytest.mark.parametrize(
    "wrong", [full("keys", u32(0xFFFF_FFFF)), full("keys", u32(1, 4)), box("ilst", u32(1))]
)
def test_metadata_that_cannot_be_read_stays_as_it_is(wrong: bytes, tmp_path: Path) -> None:
    other = full("meta", full("hdlr", bytes(4) + b"mdta" + bytes(13)), wrong)
    source = hand_made(tmp_path / "source.mp4", picture_track(), moov_more=other)
    assert movie_of(source).user_keys == {}
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert made.data.endswith(other)
    assert made.left == ()


def test_the_encoder_s_entry_gets_the_source_s_boxes_that_hold() -> None:
    colour, spacing, rate = (
        box("colr", b"nclx", u16(9, 18, 9), b"\0"),
        box("pasp", u32(4, 3)),
        box("btrt", u32(1, 2, 3)),
    )
    source = _named(
        visual_entry("hvc1", 64, 48, box("hvcC", b"old"), colour, box("dvvC", bytes(24)), spacing, rate),
        b"\x04HEVC",
    )
    encoded = visual_entry(
        "hvc1", 128, 96, box("hvcC", b"new"), box("colr", b"nclx", u16(1, 1, 1), b"\0"), rate
    )
    assert extension_kinds(source) == ("hvcC", "colr", "dvvC", "pasp", "btrt")
    merged = merge_sample_entry(encoded, source, {"colr", "pasp", "btrt"})
    assert merged == _named(visual_entry("hvc1", 128, 96, box("hvcC", b"new"), colour, spacing), b"\x04HEVC")


def test_a_source_without_a_colour_box_gets_none() -> None:
    """GStreamer 1.22 reads full range in it as limited; without it, it asks the parameter sets, as for the source."""
    coded, colour = box("avcC", b"own"), box("colr", b"nclx", bytes(7))
    merged = merge_sample_entry(
        visual_entry("avc1", 64, 48, coded, colour), visual_entry("avc1", 64, 48, coded), {"colr"}
    )
    assert extension_kinds(merged) == ("avcC",)


def test_the_name_of_another_compressor_does_not_stay() -> None:
    source = _named(visual_entry("s263"), b"\x09Sorenson!")
    assert merge_sample_entry(visual_entry("avc1"), source, ()) == visual_entry("avc1")


@pytest.mark.parametrize("entry", [b"", box("avc1", bytes(20)), visual_entry()[:-1] + b""])
def test_what_is_no_sample_entry_is_refused(entry: bytes) -> None:
    with pytest.raises(MediaFault):
        extension_kinds(entry)


@pytest.mark.parametrize("brand", ["isom", "qt  "])
def test_an_added_track_is_there_with_its_reference(brand: str, tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(), HandTrack(track_id=5), brand=brand)
    made = transplanted(
        source, new_picture(), tmp_path / "made.mp4", added=[_maker((0, 40, 80)), _maker((20, 40, 80))]
    )
    first, late = made.movie.tracks[2:]
    assert (first.track_id, late.track_id, made.movie.header.next_track_id) == (9, 10, 11)
    assert (first.handler, first.timescale, first.references, first.language) == (
        "meta",
        1000,
        {"cdsc": (1,)},
        "und",
    )
    assert payloads_of(made.path, 9) == [b"{0}", b"{1}", b"{2}"]
    assert first.samples().dts.tolist() == [0, 40, 80]
    assert late.edits == (Edit(20, -1), Edit(100, 0))
    assert made.left == ()
    assert made.movie.header.duration == 300


def test_ffmpeg_finds_an_added_track(clips: Path, tmp_path: Path) -> None:
    source = clips / "dog_720p30_10s.mp4"
    made = transplanted(source, same_picture(source), tmp_path / "made.mp4", added=[_maker((0, 40, 80))])
    with av.open(str(made.path)) as container:
        data = [(s.type, s.time_base.denominator) for s in container.streams if s.id == 4 and s.time_base]
        packets = [(p.pts, bytes(p)) for p in container.demux() if p.size and p.stream.id == 4]
    assert data == [("data", 1000)]
    assert packets == [(0, b"{0}"), (40, b"{1}"), (80, b"{2}")]


def test_a_file_of_our_own_track_alone_is_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    write_movie(out, [_maker((20, 40, 80), reference=None)], keys=NEW_KEYS)
    path = tmp_path / "maker.mp4"
    path.write_bytes(out.getvalue())
    movie = movie_of(path)
    assert movie.moov_first
    assert dict(movie.user_keys) == NEW_KEYS
    assert payloads_of(path, 1) == [b"{0}", b"{1}", b"{2}"]
    with av.open(str(path)) as container:
        assert [(p.pts, bytes(p)) for p in container.demux() if p.size] == [
            (20, b"{0}"),
            (40, b"{1}"),
            (80, b"{2}"),
        ]


@pytest.mark.parametrize("times", [(), (40, 0, 80), (-1, 0, 40)])
def test_an_added_track_that_cannot_be_is_refused(times: tuple[int, ...], tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track())
    with pytest.raises(MediaFault):
        transplanted(source, new_picture(), tmp_path / "made.mp4", added=[_maker(times)])


def test_a_compressed_movie_box_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.mov"
    path.write_bytes(box("moov", box("cmov", box("dcom", b"zlib"))))
    with pytest.raises(MediaFault, match="compressed"), opened(path) as fd:
        read_movie(fd)


def test_uncompressed_sound_of_quicktime_is_counted_as_it_lies(tmp_path: Path) -> None:
    entry = box("sowt", bytes(6) + u16(1, 0, 0) + bytes(4) + u16(2, 16, 0, 0) + u32(48_000 << 16))
    sound = HandTrack(
        track_id=2,
        handler="soun",
        timescale=48_000,
        entries=(entry,),
        payloads=(b"12345678", b"abcd"),
        tables={
            "stts": full("stts", u32(1, 3, 1)),
            "stsz": full("stsz", u32(1, 3)),
            "stsc": full("stsc", u32(2, 1, 2, 1, 2, 1, 1)),
        },
    )
    source = hand_made(tmp_path / "source.mov", picture_track(), sound, brand="qt  ")
    assert payloads_of(source, 2) == [b"12345678", b"abcd"]
    made = transplanted(source, new_picture(), tmp_path / "made.mov")
    assert payloads_of(made.path, 2) == [b"12345678", b"abcd"]
    assert made.movie.track(2).samples().duration.tolist() == [2, 1]


def _named(entry: bytes, name: bytes) -> bytes:
    """A sample entry with a compressor's name and another depth."""
    return entry[:50] + name.ljust(32, b"\0") + struct.pack(">H", 24) + entry[84:]


def _maker(times: tuple[int, ...], reference: tuple[bytes, int] | None = (b"cdsc", 1)) -> NewTrack:
    return NewTrack(
        handler="meta",
        name="Maker",
        timescale=1000,
        sample_entry=plain_entry("mett", b"\0application/json\0"),
        times=np.array(times, dtype=np.int64),
        durations=np.full(len(times), 40),
        payloads=[b"{%d}" % k for k in range(len(times))],
        reference=reference,
    )
