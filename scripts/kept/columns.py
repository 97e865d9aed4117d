"""The columns: what is compared, how, and which words of a report may name a difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kept import tags
from kept.facts import FileFacts, Packet, is_cover
from kept.pair import Difference, Pair
from kept.programs import COLUMNS, ROWS

#: mean squared difference, in code values of 255, from which on two pictures differ visibly
VISIBLE = 1.0
#: a result may be so many times as large as its source
LARGEST = Fraction(3, 2)
#: so many differences of a kind are told; the rest are counted
_TOLD = 4
_COLOUR = ("color_range", "color_space", "color_transfer", "color_primaries", "chroma_location")
_MEANT = {"color_range": "tv", "chroma_location": "left"}
_UNTOLD = {None, "unknown", "reserved", "unspecified"}
#: side data of frames that is of a high dynamic range
_HDR = ("Mastering", "Content light", "HDR", "Dolby", "Ambient")
#: side data of frames that the encoder or the reader writes, not the camera
_NOT_COMPARED = ("H.26[45] User Data Unregistered", "3x3 displaymatrix", "Film grain", "GOP timecode")

Finder = Callable[[Pair], Iterator[Difference]]


@dataclass(frozen=True)
class Column:
    """One thing that a result has to keep."""

    name: str
    find: Finder
    #: categories of the report that may name a difference of it, without their prefix
    named_by: tuple[str, ...] = ()
    #: tells whether a source has anything of it
    applies: Callable[[FileFacts], bool] = lambda _: True


def _frames(pair: Pair) -> Iterator[Difference]:
    before, after = len(pair.source.frames), len(pair.result.frames)
    if before != after:
        yield Difference(pair.source.main, f"{before} frames became {after}")


def _pictures(pair: Pair) -> Iterator[Difference]:
    """Each picture must be more like its own than like a neighbour that differs visibly."""
    source, result = _cells(pair.source.decoded[0]), _cells(pair.result.decoded[0])
    wrong = []
    for k in range(min(len(source), len(result))):
        own = _far(source[k], result[k])
        for other in (k - 1, k + 1):
            if 0 <= other < len(source) and _far(source[other], source[k]) >= VISIBLE:
                if _far(source[other], result[k]) <= own:
                    wrong.append(k)
                break
    if wrong:
        yield Difference(
            pair.source.main, f"{len(wrong)} pictures are more like a neighbour: {wrong[:_TOLD]}"
        )


def _time_stamps(pair: Pair) -> Iterator[Difference]:
    before, after = pair.source.frame_times, pair.result.frame_times
    other = [(a, b) for a, b in zip_longest(before, after) if a != b]
    if other:
        told = ", ".join(f"{a} → {b}" for a, b in other[:_TOLD])
        yield Difference(pair.source.main, f"{len(other)} frames have another time: {told}")


def _durations(pair: Pair) -> Iterator[Difference]:
    main = pair.source.main
    ends = [
        max((p.pts or Fraction(0)) + p.duration for p in facts.packets[facts.main])
        for facts in (pair.source, pair.result)
    ]
    if ends[0] != ends[1]:
        yield Difference(main, f"the last frame ends at {ends[1]} s, not {ends[0]} s")
    for a, b in pair.places.items():
        if (changed := _changed(pair.source.streams[a], pair.result.streams[b], "duration")) is not None:
            yield Difference(a, f"duration {changed}")
    if (changed := _changed(pair.source.format, pair.result.format, "duration")) is not None:
        yield Difference(None, f"duration of the file {changed}")
    yield from _of_tags("durations")(pair)


def _sound(pair: Pair) -> Iterator[Difference]:
    return _packets(pair, "audio")


def _other_packets(pair: Pair) -> Iterator[Difference]:
    for kind in ("video", "subtitle", "data"):
        yield from _packets(pair, kind)
    yield from _of_tags("other packets")(pair)


def _packets(pair: Pair, kind: str) -> Iterator[Difference]:
    """Compare the packets of copied tracks: bytes and times, with the edit list and without."""
    for stream in pair.source.streams:
        index = stream["index"]
        if stream.get("codec_type") != kind or index == pair.source.main:
            continue
        if index not in pair.places:
            yield Difference(index, f"its {len(pair.source.all_packets[index])} packets are gone")
            continue
        yield from _track_packets(pair, index, pair.places[index])


def _track_packets(pair: Pair, index: int, place: int) -> Iterator[Difference]:
    if pair.source.identity(index) != pair.result.identity(place):
        a, b = len(pair.source.all_packets[index]), len(pair.result.all_packets[place])
        yield Difference(index, f"{a} packets became {b}" if a != b else f"other bytes in its {a} packets")
        return
    rows = [("", pair.source.packets[index], pair.result.packets[place])]
    if pair.source.is_iso == pair.result.is_iso:
        without = " without the edit list"
        rows.append((without, pair.source.all_packets[index], pair.result.all_packets[place]))
    for told, before, after in rows:
        grouped = pair.source.is_grouped(index)
        both = zip_longest(before[:1], after[:1]) if grouped else zip_longest(before, after)
        other = [(a, b) for a, b in both if not _at_one_time(a, b, grouped=grouped)]
        if other:
            a, b = other[0]
            seen = [f"{p.pts}+{p.duration} {p.skipped}" if p else "none" for p in (a, b)]
            yield Difference(index, f"{len(other)} packets{told} have another time: {seen[0]} → {seen[1]}")


def _at_one_time(a: Packet | None, b: Packet | None, *, grouped: bool) -> bool:
    if a is None or b is None:
        return False
    return a.pts == b.pts and (grouped or (a.duration, a.skipped) == (b.duration, b.skipped))


def _tracks(pair: Pair) -> Iterator[Difference]:
    for stream in pair.source.streams:
        index = stream["index"]
        if index not in pair.places:
            yield Difference(index, f"{_track_name(stream)} is gone")
            continue
        made = pair.result.streams[pair.places[index]]
        for name, mark in stream.get("disposition", {}).items():
            alone = sum(s.get("codec_type") == stream.get("codec_type") for s in pair.source.streams) == 1
            if name == "default" and alone:  # of one track, it says nothing
                continue
            if mark != made.get("disposition", {}).get(name):
                yield Difference(
                    index, f"the mark {name} became {made.get('disposition', {}).get(name)}", name
                )
    if list(pair.places.values()) != sorted(pair.places.values()):
        yield Difference(None, f"the tracks are in another order: {list(pair.places.values())}")
    yield from _of_tags("tracks")(pair)
    yield from _references(pair)


def _references(pair: Pair) -> Iterator[Difference]:
    """Compare references by the tracks they mean, not by their numbers."""
    before, after = pair.source.boxes, pair.result.boxes
    if not before:
        return
    places = [{track.track_id: k for k, track in enumerate(tracks)} for tracks in (before, after)]
    for index, place in pair.places.items():
        if index >= len(before) or place >= len(after):
            continue
        wanted = {
            kind: tuple(pair.places.get(places[0].get(n, -1)) for n in ids)
            for kind, ids in before[index].references.items()
        }
        made = {kind: tuple(places[1].get(n) for n in ids) for kind, ids in after[place].references.items()}
        if wanted != {kind: made.get(kind) for kind in wanted}:
            yield Difference(index, f"references {before[index].references} became {after[place].references}")
        if before[index].handler != after[place].handler:
            yield Difference(index, f"handler {before[index].handler} became {after[place].handler}")


def _sample_entries(pair: Pair) -> Iterator[Difference]:
    for index, place in pair.places.items():
        a, b = pair.source.streams[index], pair.result.streams[place]
        same_container = pair.source.is_iso == pair.result.is_iso
        for name in ("codec_tag_string", "codec_name") if same_container else ("codec_name",):
            if (changed := _changed(a, b, name)) is not None:
                yield Difference(index, f"{name} {changed}")
        if index == pair.source.main:
            yield from _extensions(pair, index, place)
        elif (changed := _changed(a, b, "extradata_hash")) is not None:
            yield Difference(index, f"other codec configuration {changed}")
        elif pair.source.boxes and _box_value(pair.source, index, "stsd") != _box_value(
            pair.result, place, "stsd"
        ):
            yield Difference(index, "other bytes in its sample description")


def _box_value(facts: FileFacts, index: int, name: str) -> bytes:
    """Return bytes of a track's boxes; nothing where there are none."""
    value: bytes = getattr(facts.boxes[index], name) if index < len(facts.boxes) else b""
    return value


def _extensions(pair: Pair, index: int, place: int) -> Iterator[Difference]:
    """Compare the boxes within the processed track's sample entry, but for the codec's own."""
    if not pair.source.boxes or not pair.result.boxes:
        return
    own = {"avcC", "hvcC", "av1C", "vpcC", "d263", "esds", "btrt", "free", "mjpg", "jpeg"}
    kept = pair.result.boxes[place].extensions
    for kind in sorted(set(pair.source.boxes[index].extensions) - own - set(kept)):
        yield Difference(index, f"box {kind} of the sample entry is gone", kind)


def _rotation(pair: Pair) -> Iterator[Difference]:
    before, after = _side(pair.source, "Display Matrix"), _side(pair.result, "Display Matrix")
    if before != after:
        yield Difference(pair.source.main, f"the matrix {before} became {after}")
    for index, place in pair.places.items():
        if pair.source.boxes and _box_value(pair.source, index, "matrix") != _box_value(
            pair.result, place, "matrix"
        ):
            yield Difference(index, "its header has another matrix")
    yield from _of_tags("rotation")(pair)


def _size(pair: Pair) -> Iterator[Difference]:
    a, b = pair.source.streams[pair.source.main], pair.result.streams[pair.result.main]
    for name in ("width", "height"):
        if (changed := _changed(a, b, name)) is not None:
            yield Difference(pair.source.main, f"{name} {changed}")
    ratios = [s.get("sample_aspect_ratio", "0:1").replace("1:1", "0:1") for s in (a, b)]
    if ratios[0] != ratios[1]:
        yield Difference(pair.source.main, f"sample aspect ratio {ratios[0]} → {ratios[1]}")
    for index, place in pair.places.items():
        before, after = (
            _box_value(facts, k, "display_size").hex()
            for facts, k in ((pair.source, index), (pair.result, place))
        )
        if before != after and pair.source.boxes:
            yield Difference(index, f"shown size {before} → {after}")
    yield from _of_tags("size")(pair)


def _pixels(pair: Pair) -> Iterator[Difference]:
    a, b = pair.source.streams[pair.source.main], pair.result.streams[pair.result.main]
    formats = [str(s.get("pix_fmt", "")).replace("yuvj", "yuv") for s in (a, b)]
    if formats[0] != formats[1]:
        yield Difference(pair.source.main, f"pixels {formats[0]} → {formats[1]}")
    for name in ("interlaced_frame", "top_field_first"):
        seen = [[frame.get(name) for frame in facts.frames] for facts in (pair.source, pair.result)]
        if any(x and x != y for x, y in zip(*seen, strict=False)):
            yield Difference(pair.source.main, f"{name} is not kept")
    yield from _of_tags("pixels")(pair)


def _colour(pair: Pair) -> Iterator[Difference]:
    """Compare what the file says and what the frames say."""
    a, b = pair.source.streams[pair.source.main], pair.result.streams[pair.result.main]
    for name in _COLOUR:
        before, after = ({_told(name, s, s)} for s in (a, b))
        frames = [
            {_told(name, facts.streams[facts.main], frame) for frame in facts.frames}
            for facts in (pair.source, pair.result)
        ]
        # A reader of the container, and one of the frames, which differ in some sources.
        if before != after and after != frames[0]:
            yield Difference(pair.source.main, f"{name} {before} → {after}")
        if frames[0] != frames[1] and frames[1] != before:
            yield Difference(pair.source.main, f"{name} of frames {frames[0]} → {frames[1]}")
    yield from _of_tags("colour")(pair)


def _told(name: str, stream: dict[str, Any], tells: dict[str, Any]) -> str:
    """Return what is told of a colour; what is left out is what the standard of H.264 and H.265 says then."""
    value = tells.get(name)
    if value not in _UNTOLD:
        return str(value)
    return _MEANT.get(name, "not told") if stream.get("codec_name") in {"h264", "hevc"} else "not told"


def _hdr(pair: Pair) -> Iterator[Difference]:
    kinds = {s["side_data_type"] for s in _side_data(pair.source) if s["side_data_type"] != "Display Matrix"}
    for kind in sorted(kinds):
        if _side(pair.source, kind) != _side(pair.result, kind):
            yield Difference(pair.source.main, f"{kind} of the track")
    yield from _frame_data(pair, _HDR)
    yield from _of_tags("HDR")(pair)


def _other_frame_data(pair: Pair) -> Iterator[Difference]:
    others = {
        data["side_data_type"]
        for frame in pair.source.frames
        for data in frame.get("side_data_list", [])
        if not data["side_data_type"].startswith((*_HDR, *_NOT_COMPARED))
    }
    yield from _frame_data(pair, tuple(others))


def _frame_data(pair: Pair, prefixes: tuple[str, ...]) -> Iterator[Difference]:
    seen = [
        [{data["side_data_type"]: data for data in frame.get("side_data_list", [])} for frame in facts.frames]
        for facts in (pair.source, pair.result)
    ]
    kinds = sorted({kind for frame in seen[0] for kind in frame if kind.startswith(prefixes)})
    for kind in kinds:
        other = sum(a[kind] != b.get(kind) for a, b in zip_longest(*seen, fillvalue={}) if kind in a)
        if other:
            yield Difference(pair.source.main, f"{kind} of {other} frames")


def _chapters(pair: Pair) -> Iterator[Difference]:
    before, after = (
        [(_seconds(c, "start"), _seconds(c, "end"), c.get("tags", {}).get("title")) for c in facts.chapters]
        for facts in (pair.source, pair.result)
    )
    if before != after:
        told = next((f"{a} → {b}" for a, b in zip_longest(before, after) if a != b), "")
        yield Difference(None, f"{len(before)} chapters became {len(after)}: {told}")
    yield from _of_tags("chapters")(pair)


def _seconds(chapter: dict[str, Any], name: str) -> Fraction:
    return Fraction(chapter[name]) * Fraction(chapter["time_base"])


def _cover_art(pair: Pair) -> Iterator[Difference]:
    for stream in pair.source.streams:
        index = stream["index"]
        if not (is_cover(stream) or stream.get("codec_type") == "attachment"):
            continue
        place = pair.places.get(index)
        if place is None or pair.source.identity(index) != pair.result.identity(place):
            yield Difference(index, "the picture or file is gone or another")
        elif not is_cover(pair.result.streams[place]) and is_cover(stream):
            yield Difference(index, "it is no longer marked as a cover picture")
    yield from _of_tags("cover art")(pair)


def _offset(pair: Pair) -> Iterator[Difference]:
    """Compare when each track begins, from the first frame on."""
    first = [facts.frame_times[0] if facts.frame_times else None for facts in (pair.source, pair.result)]
    if None in first:
        return
    for index, place in pair.copied:
        before, after = pair.source.packets[index], pair.result.packets[place]
        if not before or not after or before[0].pts is None or after[0].pts is None:
            continue
        seen = [p[0].pts - (t or 0) for p, t in zip((before, after), first, strict=True)]
        if seen[0] != seen[1]:
            yield Difference(index, f"it begins {seen[1]} s after the picture, not {seen[0]} s")
    yield from _of_tags("sound offset")(pair)


def _readable(pair: Pair) -> Iterator[Difference]:
    """What a decoder and MediaInfo object to, and not in the source."""
    for said in sorted(set(pair.result.decoded[1]) - set(pair.source.decoded[1])):
        yield Difference(None, f"ffmpeg: {said}")
    before, after = (set(_complaints(facts)) for facts in (pair.source, pair.result))
    for said in sorted(after - before):
        yield Difference(None, f"MediaInfo: {said}")


def _complaints(facts: FileFacts) -> Iterator[str]:
    """Return MediaInfo's conformance errors, wherever it puts them."""

    def walk(value: object, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from walk(inner, f"{path} {name}")
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner, path)
        elif "Conformance" in path or path.endswith("IsTruncated"):
            yield f"{path.strip()}: {value}"

    for track in facts.mediainfo:
        yield from walk({k: v for k, v in track.items() if k != "@type"}, str(track.get("@type", "")))


def _file_size(pair: Pair) -> Iterator[Difference]:
    before, after = pair.source.path.stat().st_size, pair.result.path.stat().st_size
    if after > before * LARGEST:
        yield Difference(None, f"{after / before:.2f} times the source's size")


def _of_tags(column: str) -> Finder:
    """Return a finder of tags of a column that the result has not, or has otherwise."""

    def find(pair: Pair) -> Iterator[Difference]:
        for tag in pair.tags:
            if tag.column == column and tag.before != tag.after:
                after = "gone" if tag.after is None else tag.after[:60]
                yield Difference(tag.track, f"{tag.name}: {tag.before[:60]} → {after}", tag.word)

    return find


def _has_tags(column: str) -> Callable[[FileFacts], bool]:
    return lambda facts: column in tags.columns_of(facts)


def _has(kind: str) -> Callable[[FileFacts], bool]:
    return lambda facts: any(s.get("codec_type") == kind for s in facts.streams)


def _has_others(facts: FileFacts) -> bool:
    return any(s["index"] != facts.main and s.get("codec_type") != "audio" for s in facts.streams)


def _has_hdr(facts: FileFacts) -> bool:
    side = [data for frame in facts.frames for data in frame.get("side_data_list", [])]
    told = [data["side_data_type"] for data in (*side, *_side_data(facts))]
    return any(kind.startswith(_HDR) or "DOVI" in kind for kind in told) or _has_tags("HDR")(facts)


def _has_frame_data(facts: FileFacts) -> bool:
    side = [data["side_data_type"] for frame in facts.frames for data in frame.get("side_data_list", [])]
    return any(not kind.startswith((*_HDR, *_NOT_COMPARED)) for kind in side)


def _has_cover(facts: FileFacts) -> bool:
    return any(is_cover(s) or s.get("codec_type") == "attachment" for s in facts.streams)


def _changed(before: dict[str, Any], after: dict[str, Any], name: str) -> str | None:
    if before.get(name) == after.get(name) or before.get(name) is None:
        return None
    return f"{before.get(name)} → {after.get(name)}"


def _side_data(facts: FileFacts) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = facts.streams[facts.main].get("side_data_list", [])
    return found


def _side(facts: FileFacts, kind: str) -> list[dict[str, Any]]:
    return [data for data in _side_data(facts) if data["side_data_type"] == kind]


def _cells(data: bytes) -> NDArray[np.float64]:
    return np.frombuffer(data, np.uint8).reshape(-1, ROWS * COLUMNS).astype(np.float64)


def _far(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.mean((a - b) ** 2))


def _track_name(stream: dict[str, Any]) -> str:
    codec = stream.get("codec_name") or stream.get("codec_tag_string", "")
    return f"track {stream['index']} ({stream.get('codec_type')} {codec})"


#: every column of the table, in its order
TABLE: Sequence[Column] = (
    Column("frames", _frames, ("FRAME",)),
    Column("pictures", _pictures),
    Column("time stamps", _time_stamps, ("TIMESTAMP", "FRAME")),
    Column("durations", _durations, ("TIMESTAMP", "PACKET", "EDIT_LIST", "FRAME")),
    Column("audio packets", _sound, ("PACKET", "EDIT_LIST", "TIMESTAMP"), _has("audio")),
    Column("other packets", _other_packets, ("PACKET", "TIMESTAMP"), _has_others),
    Column("tracks", _tracks, ("USER_METADATA",)),
    Column("sample entries", _sample_entries, ("CODEC", "HDR_METADATA")),
    Column("sound offset", _offset, ("TIMESTAMP", "EDIT_LIST"), lambda facts: len(facts.streams) > 1),
    Column("rotation", _rotation, ("ROTATION",)),
    Column("size", _size, ("PICTURE_SIZE",)),
    Column("pixels", _pixels, ("OTHER",)),
    Column("colour", _colour, ("COLOR",)),
    Column("HDR", _hdr, ("HDR_METADATA",), _has_hdr),
    Column("frame data", _other_frame_data, ("SIDE_DATA", "HDR_METADATA"), _has_frame_data),
    Column("creation time", _of_tags("creation time"), ("CREATION_TIME", "USER_METADATA"), _has_tags("creation time")),
    Column("location", _of_tags("location"), ("LOCATION", "USER_METADATA"), _has_tags("location")),
    Column("make, model", _of_tags("make, model"), ("DEVICE", "USER_METADATA"), _has_tags("make, model")),
    Column("user keys", _of_tags(tags.USER_KEYS), ("USER_METADATA",), _has_tags(tags.USER_KEYS)),
    Column("time code", _of_tags("time code"), ("TRACK", "USER_METADATA"), _has_tags("time code")),
    Column("chapters", _chapters, ("CHAPTER",), lambda facts: bool(facts.chapters)),
    Column("cover art", _cover_art, (), _has_cover),
    Column("readable", _readable),
    Column("file size", _file_size),
)  # fmt: skip
