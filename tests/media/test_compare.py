"""A result that differs from its source in anything that its report does not name is not published."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from box_places import body_of, changed
from iso_files import movie_of, plain_entry, run_ffmpeg, same_picture, transplanted
from joining import Joined, joined, losses_of, verified
from videoprocess_server.media.differences import Difference, unnamed
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.added import NewTrack
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.plan import NotKept

SUBTITLES = "1\n00:00:00,200 --> 00:00:00,900\nHello\n\n2\n00:00:01,000 --> 00:00:01,400\nWorld\n"
CHAPTERS = (
    ";FFMETADATA1\ntitle=A film\ncom.android.model=Pixel\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=700\ntitle=Chapter one\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=700\nEND=1500\ntitle=Chapter two\n"
)
INPUTS = ("-f", "lavfi", "-i", "testsrc2=s=128x96:r=30", "-f", "lavfi", "-i", "sine=440:r=48000")
TRACKS = ("-t", "1.5", "-map", "0", "-map", "1", "-map", "2", "-map_metadata", "3", "-map_chapters", "3")


def rich_source(folder: Path) -> Path:
    """Picture, sound, subtitles, chapters, a user key, and a track of timed metadata that describes the picture."""
    (folder / "said.srt").write_text(SUBTITLES)
    (folder / "told.txt").write_text(CHAPTERS)
    texts = ("-i", folder / "said.srt", "-i", folder / "told.txt")
    codecs = ("-c:v", "libx264", "-g", "12", "-bf", "2", "-c:a", "aac", "-c:s", "mov_text")
    more = ("-metadata:s:a:0", "language=deu", "-metadata:s:a:0", "handler_name=The sound")
    plain = folder / "plain.mp4"
    run_ffmpeg(*INPUTS, *texts, *TRACKS, *codecs, *more, "-movflags", "use_metadata_tags", plain)
    told = NewTrack(
        handler="meta",
        name="told",
        timescale=1000,
        sample_entry=plain_entry("mett", b"\0text/plain\0"),
        times=np.array([0, 500]),
        durations=np.array([500, 500]),
        payloads=[b"first sample", b"second one"],
        reference=(b"cdsc", 1),
    )
    return transplanted(plain, same_picture(plain), folder / "rich.mp4", added=[told]).path


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Joined:
    folder = tmp_path_factory.mktemp("rich")
    return joined(rich_source(folder), folder)


def test_nothing_of_a_rich_source_is_lost(made: Joined) -> None:
    assert verified(made).frame_count == 45
    assert losses_of(made) == set()
    assert [report.kind for report in made.result.tracks] == ["video", "audio", "subtitle", "data", "data"]
    assert all(report.kept for report in made.result.tracks)


def _in_sound(data: bytes) -> bytes:
    with av.open(io.BytesIO(data)) as container:
        packet = [packet for packet in container.demux(audio=0) if packet.size][5]
    assert packet.pos is not None
    return changed(data, packet.pos + 9, bytes([data[packet.pos + 9] ^ 1]))


def _at(*path: str, offset: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: changed(data, body_of(data, *path).start + offset, new)


def _text(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_in_sound, "track 1 has other packets"),
        (_at("moov", "trak:1", "mdia", "mdhd", offset=20, new=b"\x15\xc7"), "metadata of track 1"),
        (_at("moov", "trak:1", "tkhd", offset=3, new=b"\x02"), "disposition of track 1"),
        (_at("moov", "trak:1", "mdia", "minf", "stbl", "stts", offset=12, new=b"\0\0\4\1"), "track 1"),
        (_at("moov", "trak:1", "edts", "elst", offset=12, new=b"\0\0\0\0"), "track 1"),
        (_at("moov", "trak:2", "tkhd", offset=40, new=b"\0\2"), "matrix of track 2"),
        (_at("moov", "trak:4", "tref", "cdsc", offset=0, new=b"\0\0\0\2"), "references of track 4"),
        (_at("moov", "trak:0", "tkhd", offset=40, new=b"\xff\xff"), "display matrix"),
        (_at("moov", "trak:0", "edts", "elst", offset=12, new=b"\0\0\0\0"), "frames where the plan has 45"),
        (_text(b"The sound", b"The noise"), "metadata of track 1"),
        (_text(b"Pixel", b"Nexus"), "com.android.model"),
        (_text(b"Chapter two", b"Chapter six"), "chapters"),
        (_text(b"World", b"words"), "track 2 has other packets"),
        (_text(b"second one", b"second two"), "track 4 has other"),
        (_text(b"text/plain", b"text/plane"), "sample entries of track 4"),
    ],
)
def test_a_change_of_anything_is_refused(made: Joined, change: Callable[[bytes], bytes], told: str) -> None:
    with pytest.raises(MediaFault) as caught:
        verified(made, change(made.path.read_bytes()))
    assert caught.value.reason == "VERIFY_FAILED"
    assert told in caught.value.message


def test_a_difference_counts_unless_its_kind_is_named_for_its_track() -> None:
    found = Difference(what=Loss.TIME_STAMPS, track_index=1, text="later")
    named = NotKept(what=Loss.TIME_STAMPS, track_index=1, count=3, reason="Rounded.")
    assert list(unnamed([found], [named])) == []
    assert list(unnamed([found], [replace(named, track_index=2)])) == [found]
    assert list(unnamed([found], [replace(named, what=Loss.METADATA)])) == [found]
    assert list(unnamed([replace(found, what=None)], [replace(named, what=Loss.METADATA)])) != []


def test_a_gap_between_fragments_lengthens_the_sample_before(tmp_path: Path) -> None:
    """So does the standard say; FFmpeg tells the length that the fragment has, and only of a file in fragments."""
    path = tmp_path / "gaps.mp4"
    codecs = ("-c:v", "libx264", "-g", "10", "-c:a", "aac", "-movflags", "frag_every_frame")
    run_ffmpeg(*INPUTS, "-t", "0.5", *codecs, path)
    before = movie_of(path).tracks[1].samples()
    assert (np.diff(before.dts) > before.duration[:-1]).any()
    made = joined(path, tmp_path)
    assert verified(made).frame_count == made.plan.frame_count
    assert losses_of(made) == set()
    after = movie_of(made.path).tracks[1].samples()
    assert np.array_equal(after.dts - after.dts[0], before.dts - before.dts[0])
    assert after.duration[-1] == before.duration[-1]
