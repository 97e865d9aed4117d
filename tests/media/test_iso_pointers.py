"""Whatever points to bytes of the file points to the same bytes of the new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from iso_files import HandTrack, box, full, hand_made, new_picture, picture_track, transplanted, u16, u32, u64
from videoprocess_server.media.iso.boxes import Box, child, parse
from videoprocess_server.media.iso.item_locations import item_extents
from videoprocess_server.model.losses import Loss

COVER = b"a cover picture that lies in the media data box"
#: where the tests write a place that only the finished file knows
HERE = 0x1234_5678


def iloc(
    version: int, *, base: bool = False, method: int = 0, reference: int = 0, length: int = len(COVER)
) -> bytes:
    """One item of two extents: the cover, and its first ten bytes."""
    sizes = u16(0x4440 if base else 0x4400)
    count = u16(1) if version < 2 else u32(1)
    item = u16(7) if version < 2 else u32(7)
    item += (u16(method) if version else b"") + u16(reference)
    item += (u32(HERE - 4) if base else b"") + u16(2)
    places = (4, 4) if base else (HERE, HERE)
    return full("iloc", sizes + count + item + u32(places[0], length, places[1], 10), version=version)


def meta(*more: bytes, quicktime: bool = False) -> bytes:
    handler = full("hdlr", bytes(4) + b"pict" + bytes(13))
    return box("meta", handler, *more) if quicktime else full("meta", handler, *more)


def placed(data: bytes, extra_at: int) -> bytes:
    return data.replace(u32(HERE), u32(extra_at)).replace(u32(HERE - 4), u32(extra_at - 4))


@pytest.mark.parametrize("moov_first", [False, True])
@pytest.mark.parametrize("where", ["file", "movie", "user data", "track", "track's user data"])
def test_items_are_found_wherever_their_meta_box_is(where: str, moov_first: bool, tmp_path: Path) -> None:
    found = meta(iloc(1))
    user_data = box("udta", found)
    source = hand_made(
        tmp_path / "source.mp4",
        picture_track(more={"track": found, "track's user data": user_data}.get(where, b"")),
        HandTrack(track_id=2),
        moov_more={"movie": found, "user data": user_data}.get(where, b""),
        before=found if where == "file" else b"",
        extra=b"of nobody" + COVER,
        patch=lambda data, at: placed(data, at + 9),
    )
    made = transplanted(source, new_picture(), tmp_path / "made.mp4", moov_first=moov_first)
    assert made.left == ()
    _assert_found(made.data)


@pytest.mark.parametrize("quicktime", [False, True])
@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("version", [0, 1, 2])
def test_items_of_every_form_are_found(version: int, base: bool, quicktime: bool, tmp_path: Path) -> None:
    source = hand_made(
        tmp_path / "source.mp4",
        picture_track(),
        moov_more=meta(iloc(version, base=base), quicktime=quicktime),
        extra=COVER,
        patch=placed,
    )
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    _assert_found(made.data)


def test_an_item_that_is_a_sample_is_not_copied_twice(tmp_path: Path) -> None:
    track = HandTrack(track_id=2, payloads=(b"first", COVER))
    source = hand_made(
        tmp_path / "source.mp4",
        picture_track(),
        track,
        moov_more=meta(iloc(1)),
        patch=lambda data, at: placed(data, at - len(COVER)),
    )
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    _assert_found(made.data)
    assert made.data.count(COVER) == 1


@pytest.mark.parametrize(
    "location",
    [iloc(1, method=1), iloc(1, reference=1), full("iloc", u16(0x4400, 9), version=1)],
    ids=["idat", "elsewhere", "broken"],
)
def test_items_that_are_not_in_the_file_stay_as_they_are(location: bytes, tmp_path: Path) -> None:
    source = hand_made(tmp_path / "source.mp4", picture_track(), moov_more=meta(location), extra=COVER)
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert meta(location) in made.data
    assert made.left == ()


def test_an_item_without_an_end_is_named(tmp_path: Path) -> None:
    location = iloc(1, length=0)
    source = hand_made(tmp_path / "source.mp4", picture_track(), moov_more=meta(location), extra=COVER)
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert meta(location) in made.data
    assert [one.what for one in made.left] == [Loss.METADATA]


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("inside", [False, True], ids=["beside", "in chunks"])
def test_auxiliary_information_is_found(inside: bool, typed: bool, tmp_path: Path) -> None:
    kind, flags = (b"cenc" + u32(0), 1) if typed else (b"", 0)
    secret = b"0123456789abcdef"
    saiz = full("saiz", kind, b"\x00", u32(3), bytes([8, 4, 4]), flags=flags)
    saio = full("saio", kind, u32(1, HERE), flags=flags)
    track = HandTrack(
        track_id=2,
        payloads=(b"one", b"two", secret) if inside else (b"one", b"two", b"three"),
        tables={"saiz": saiz, "saio": saio},
    )
    source = hand_made(
        tmp_path / "source.mp4",
        picture_track(),
        track,
        extra=b"" if inside else secret,
        patch=lambda data, at: placed(data, at - 16 if inside else at),
    )
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert made.left == ()
    found = child(made.movie.track(2).box, b"mdia", b"minf", b"stbl", b"saio")
    assert found is not None
    at = int.from_bytes(found.body[-4:], "big")
    assert made.data[at : at + 16] == secret
    assert made.data.count(secret) == 1


def test_auxiliary_information_of_each_chunk_is_found(tmp_path: Path) -> None:
    saiz = full("saiz", b"\x05", u32(3))
    saio = full("saio", u32(3), u64(HERE << 32), u64(5), u64(10), version=1)
    track = HandTrack(track_id=2, tables={"saiz": saiz, "saio": saio})

    def patch(data: bytes, at: int) -> bytes:
        return data.replace(u64(HERE << 32) + u64(5) + u64(10), u64(at, at + 5, at + 10))

    source = hand_made(tmp_path / "source.mp4", picture_track(), track, extra=b"aaaaabbbbbccccc", patch=patch)
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    found = child(made.movie.track(2).box, b"mdia", b"minf", b"stbl", b"saio")
    assert found is not None
    places = [int.from_bytes(found.body[k : k + 4], "big") for k in (8, 12, 16)]
    assert [made.data[at : at + 5] for at in places] == [b"aaaaa", b"bbbbb", b"ccccc"]


def test_auxiliary_information_that_is_not_there_is_dropped_and_named(tmp_path: Path) -> None:
    tables = {"saiz": full("saiz", b"\x05", u32(3)), "saio": full("saio", u32(1, 0xF000_0000))}
    source = hand_made(tmp_path / "source.mp4", picture_track(), HandTrack(track_id=2, tables=tables))
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    assert [(one.what, one.track_id) for one in made.left] == [(Loss.METADATA, 2)]
    assert b"saio" not in made.data
    assert b"saiz" not in made.data


def test_a_dash_camera_s_places_are_found(tmp_path: Path) -> None:
    places = [box("free", b"GPS one"), box("free", b"GPS second")]
    rows = u32(HERE, len(places[0]), HERE + 1, len(places[1]), 0, 0, 0xFFFF_0000, 9)
    source = hand_made(
        tmp_path / "source.mp4",
        picture_track(),
        moov_more=box("gps ", u32(0x101, 4), rows, b"end"),
        extra=b"?" + b"".join(places),
        patch=lambda data, at: data.replace(u32(HERE), u32(at + 1)).replace(
            u32(HERE + 1), u32(at + 1 + len(places[0]))
        ),
    )
    made = transplanted(source, new_picture(), tmp_path / "made.mp4", moov_first=True)
    found = child(made.movie.box, b"gps ")
    assert found is not None
    numbers = [int.from_bytes(found.body[k : k + 4], "big") for k in range(0, 40, 4)]
    assert [made.data[at : at + size] for at, size in (numbers[2:4], numbers[4:6])] == places
    assert (numbers[:2], numbers[6:]) == ([0x101, 4], [0, 0, 0xFFFF_0000, 9])
    assert bytes(found.body).endswith(b"end")


def _assert_found(data: bytes) -> None:
    at = data.rindex(b"meta", 0, data.index(b"iloc")) - 4
    found: Box = parse(data[at:])
    cover, begin = item_extents(found)
    assert data[cover.offset : cover.offset + cover.size] == COVER
    assert data[begin.offset : begin.offset + begin.size] == COVER[:10]
