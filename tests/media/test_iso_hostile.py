"""Whatever a file's boxes say, reading and rewriting them works or is refused, within memory and time."""

from __future__ import annotations

import os
import random
import resource
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iso_files import HandTrack, box, full, hand_made, new_picture, opened, picture_track, u16, u32, u64
from soaking import SOAKING
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.movie import read_movie
from videoprocess_server.media.iso.sample_entries import extension_kinds, merge_sample_entry
from videoprocess_server.media.iso.transplant import transplant
from videoprocess_server.media.iso.user_keys import UserValue

CASES = 20_000 if SOAKING else 100
SEED = random.SystemRandom().getrandbits(32) if SOAKING else 4
SECONDS = 10.0
#: more than the process has before
MEMORY = 1 << 30
CONTAINERS = (
    b"moov",
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"edts",
    b"dinf",
    b"udta",
    b"mvex",
    b"moof",
    b"traf",
)
NUMBERS = (0, 1, 2, 3, 7, 8, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)


@pytest.fixture(name="seeds", scope="module")
def _seeds(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> list[bytes]:
    """Small files that have every box that is read."""
    folder = tmp_path_factory.mktemp("seeds")
    names = ("rot90_iphone_3f.mov", "samsung_sef_slowmotion.mp4", "iphone14pro_hlg_noaudio_opengop_rot90.mov")
    return [
        _everything(folder / "all.mp4"),
        _fragments(folder / "fragments.mp4"),
        *((clips / name).read_bytes() for name in names),
    ]


def test_changed_boxes_do_no_harm(seeds: list[bytes], tmp_path: Path) -> None:
    draw = random.Random(SEED)
    path = tmp_path / "changed.mp4"
    outcomes = {"works": 0, "refused": 0}
    with _bounded_memory():
        for case in range(CASES):
            data = draw.choice(seeds)
            for _ in range(draw.choice((1, 1, 2, 5))):
                data = draw.choice(CHANGES)(data, draw) or b"\0"
            path.write_bytes(data)
            outcomes[_try(path, f"seed {SEED}, case {case}")] += 1
    print(f"count boxes_changed = {CASES}")
    assert min(outcomes.values()) > CASES // 20, "the changes are all harmless, or all fatal at once"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_movie_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.mp4"
    path.write_bytes(box("moov", data))
    assert _try(path, "") == "refused"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_sample_entry_or_refused(data: bytes) -> None:
    entry = box("avc1", bytes(78), data)
    for told in (data, entry):
        try:
            assert merge_sample_entry(entry, told, extension_kinds(told))
        except MediaFault:
            continue


@pytest.mark.parametrize(
    "table",
    [
        {"stsz": full("stsz", u32(0, 0xFFFF_FFFF))},
        {"stsz": full("stsz", u32(1, 0xFFFF_FFFF)), "stsc": full("stsc", u32(1, 1, 0xFFFF_FFFF, 1))},
        {
            "stsz": full("stsz", u32(0xFFFF_FFFF, 0xFFFF_FFFF)),
            "stsc": full("stsc", u32(1, 1, 0xFFFF_FFFF, 1)),
        },
        {"stsz": full("stz2", u32(16, 0xFFFF_FFFF))},
        {"stsz": full("stz2", u32(5, 1))},
        {"stco": full("stco", u32(0xFFFF_FFFF))},
        {"stco": full("co64", u32(3), u64(1 << 63, 1, 2))},
        {"stco": full("stco", u32(3, 0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF))},
        {"stsc": full("stsc", u32(2, 1, 1, 1, 1, 1, 1))},
        {"stsc": full("stsc", u32(1, 2, 1, 1))},
        {"stsc": b""},
        {"stts": full("stts", u32(2, 0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF))},
        {"stts": full("stts", u32(0x2000_0000))},
    ],
)
def test_tables_that_lie_are_refused_and_nothing_is_allocated_for_them(
    table: dict[str, bytes], tmp_path: Path
) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(), HandTrack(track_id=2, tables=table))
    with _bounded_memory(), pytest.raises(MediaFault, match="JOIN_FAILED"):
        _run(source)


@pytest.mark.parametrize(
    "edits",
    [
        full("elst", u32(0x1000_0000)),
        full("elst", u32(1, 1, 0, 1), version=2),
        full("elst", u32(2, 1, 0, 0x10000)),
    ],
)
def test_edit_lists_that_lie_are_refused(edits: bytes, tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(edits=box("edts", edits)))
    with pytest.raises(MediaFault, match="elst box"):
        _run(source)


def test_a_small_file_does_not_become_a_huge_one(tmp_path: Path) -> None:
    payload = bytes(100_000)
    count = 10_000
    shared = HandTrack(
        track_id=2,
        payloads=(payload,),
        tables={
            "stsz": full("stsz", u32(len(payload), count)),
            "stco": full("stco", u32(count), u32(60) * count),
        },
    )
    source = hand_made(tmp_path / "source.mp4", picture_track(), shared)
    with pytest.raises(MediaFault, match="JOIN_FAILED"):
        _run(source)


def test_boxes_within_boxes_are_read_to_a_fixed_depth_only(tmp_path: Path) -> None:
    nested = box("moov")
    for _ in range(5_000):
        nested = box("meta", nested)
    source = hand_made(tmp_path / "source.mp4", picture_track(), moov_more=nested)
    assert _try(source, "") == "works"


def _try(path: Path, case: str) -> str:
    began = time.process_time()
    try:
        _run(path)
        outcome = "works"
    except MediaFault as fault:
        outcome = "refused" if fault.reason == "JOIN_FAILED" else fault.reason
    except Exception as error:
        raise AssertionError(case) from error
    assert time.process_time() - began < SECONDS, case
    return outcome


def _run(path: Path) -> None:
    """Everything that is done with a stranger's file."""
    keys = {"com.openharmony.note": UserValue.text("x")}
    with opened(path) as fd, Path(os.devnull).open("wb") as out:
        movie = read_movie(fd)
        for track in movie.tracks:
            _ = track.language, track.matrix, track.references, track.is_external
        picture = new_picture(track_id=movie.tracks[0].track_id if movie.tracks else 1, shown_until=121)
        transplant(fd, out, picture, keys=keys, moov_first=True, beat=lambda _: None)
        for track in movie.tracks:
            track.samples()


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Makes allocations fail that a small file does not justify."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# Changes


def _places(data: bytes, kinds: tuple[bytes, ...] = CONTAINERS) -> list[tuple[int, int]]:
    """Offset and size of all boxes in containers, in any depth."""
    found: list[tuple[int, int]] = []
    waiting = [(0, len(data))]
    while waiting:
        at, end = waiting.pop()
        while end - at >= 8:
            size, kind = struct.unpack_from(">I4s", data, at)
            if not 8 <= size <= end - at:
                break
            found.append((at, size))
            if kind in kinds:
                waiting.append((at + 8, at + size))
            at += size
    return [place for place in found if data[place[0] + 4 : place[0] + 8] != b"mdat"] or [(0, len(data))]


def _put(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def _number(data: bytes, draw: random.Random) -> bytes:
    at, size = draw.choice(_places(data))
    place = at + 4 * draw.randrange(max(1, min(size, 400) // 4))
    old = int.from_bytes(data[place : place + 4], "big")
    new = draw.choice((*NUMBERS, old + 1, old - 1, old * 2, draw.getrandbits(32)))
    return _put(data, place, u32(new))


def _bit(data: bytes, draw: random.Random) -> bytes:
    at, size = draw.choice(_places(data))
    place = min(len(data) - 1, at + draw.randrange(max(1, size)))
    return _put(data, place, bytes((data[place] ^ 1 << draw.randrange(8),)))


def _kind(data: bytes, draw: random.Random) -> bytes:
    (at, _), (other, _) = draw.choice(_places(data)), draw.choice(_places(data))
    return _put(data, at + 4, data[other + 4 : other + 8])


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _without(data: bytes, draw: random.Random) -> bytes:
    """Turn a box into free space, so that the sizes around it stay."""
    return _put(data, draw.choice(_places(data))[0] + 4, b"free")


def _again(data: bytes, draw: random.Random) -> bytes:
    """One box's bytes over another's."""
    (at, size), (other, other_size) = draw.choice(_places(data)), draw.choice(_places(data))
    return _put(data, other, data[at : at + min(size, other_size)])[: len(data)]


def _moved(data: bytes, draw: random.Random) -> bytes:
    """A box of the outermost level at the end once more."""
    at, size = draw.choice(_places(data, kinds=()))
    return data + data[at : at + size]


CHANGES = (_number, _number, _number, _bit, _kind, _cut, _without, _again, _moved)


def _everything(path: Path) -> bytes:
    location = full("iloc", u16(0x4400, 1, 7, 0, 0, 1), u32(30, 5), version=1)
    meta = full("meta", full("hdlr", bytes(4) + b"pict" + bytes(13)), location)
    keys = full("keys", u32(1), u32(12), b"mdtaname"[:8]) + box(
        "ilst", box("\0\0\0\1", box("data", u32(1, 0) + b"value"))
    )
    user = full("meta", full("hdlr", bytes(4) + b"mdta" + bytes(13)), keys)
    picture = picture_track(
        edits=box("edts", full("elst", u32(2, 10, -1, 0x10000, 120, 0, 0x10000))),
        more=box("tapt", full("clef", u32(1, 1))),
    )
    sound = HandTrack(
        track_id=2,
        handler="soun",
        entries=(box("sowt", bytes(6) + u16(1, 0, 0) + bytes(4) + u16(2, 16, 0, 0) + u32(48_000 << 16)),),
        payloads=(b"12345678", b"abcd"),
        tables={
            "stts": full("stts", u32(1, 3, 1)),
            "stsz": full("stsz", u32(1, 3)),
            "stsc": full("stsc", u32(2, 1, 2, 1, 2, 1, 1)),
        },
    )
    other = HandTrack(
        track_id=3,
        tables={
            "stsz": full("stz2", bytes(3) + b"\x04", u32(3), b"\x34\x50"),
            "ctts": full("ctts", u32(1, 3, 5)),
            "stss": full("stss", u32(1, 1)),
            "saiz": full("saiz", b"\x05", u32(3)),
            "saio": full("saio", u32(1, 40)),
        },
        more=meta + box("tref", box("cdsc", u32(1))),
    )
    hand_made(
        path,
        picture,
        sound,
        other,
        moov_more=user + box("udta", meta) + box("gps ", u32(0, 1, 60, 5)),
        extra=bytes(64),
        after=meta + b"tail",
    )
    return path.read_bytes()


def _fragments(path: Path) -> bytes:
    description = full("sgpd", b"roll", u32(2, 1), b"\xff\xff", version=1) + full(
        "sbgp", b"roll", u32(1, 2, 0x10001)
    )
    run = full("trun", u32(2, 40, 10, 4, 0, 0, 20, 5, 0x10000, 3), flags=0xF01)
    second = full("trun", u32(1, 10), flags=0x1)
    traf = box(
        "traf",
        full("tfhd", u32(2), flags=0x20000),
        full("tfdt", u64(50), version=1),
        run,
        second,
        description,
    )
    other = box("traf", full("tfhd", u32(3), u64(30), u32(1, 100, 1, 0), flags=0x3B), run)
    moof = box("moof", full("mfhd", u32(1)), traf, other) + box("mdat", bytes(40))
    mvex = box("mvex", full("trex", u32(2, 1, 100, 1, 0)), full("trex", u32(3, 1, 100, 1, 0)))
    empty = [
        HandTrack(track_id=k, payloads=(), edits=box("edts", full("elst", u32(1, 0, 20, 0x10000))))
        for k in (2, 3)
    ]
    hand_made(path, picture_track(), *empty, moov_more=mvex, after=full("emsg", bytes(8)) + moof + moof)
    return path.read_bytes()
