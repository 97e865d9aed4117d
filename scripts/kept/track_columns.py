"""What became of the tracks beside the picture: packets, marks, references, descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import zip_longest
from typing import Any

from kept.facts import Packet, is_cover
from kept.pair import Difference, Pair, box_value, changed_value, same_timing
from kept.tag_columns import of_tags

#: what of a sample entry readers tell, whatever the container
_DESCRIBED = ("codec_name", "sample_rate", "channels", "channel_layout")
#: another name of a sample entry → why it says the same
_SAME_ENTRIES: Mapping[str | None, str] = {
    "hev1 → hvc1": "hev1 allows parameter sets among the pictures, hvc1 says that the sample entry has them all, as it has; "
    "Apple's players play no hev1",
}


def sound(pair: Pair) -> Iterator[Difference]:
    """Compare all packets of sound."""
    return _packets(pair, "audio")


def other_packets(pair: Pair) -> Iterator[Difference]:
    """Compare packets of all other tracks but the picture."""
    for kind in ("video", "subtitle", "data"):
        yield from _packets(pair, kind)
    yield from of_tags("other packets")(pair)


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
    if same_timing(pair, index, place):
        return
    if pair.source.is_fragmented and pair.result.boxes:
        yield from _fragmented_lengths(pair, index, place)
    rows = [("", pair.source.packets[index], pair.result.packets[place])]
    if pair.same_container:
        without = " without the edit list"
        rows.append((without, pair.source.all_packets[index], pair.result.all_packets[place]))
    for told, before, after in rows:
        # Without the edit list a reader guesses how long the last packet is, and in fragments how long all are.
        grouped = pair.source.is_grouped(index)
        starts_only = bool(told) or grouped or pair.source.is_fragmented
        same = _starts if starts_only else _same_times if pair.same_container else _sounds_the_same
        stream = pair.source.streams[index]
        both = zip_longest(*(row[: 1 if grouped else None] for row in (before, after)))
        other = [(a, b) for a, b in both if not (a and b and same(a, b, stream))]
        if other:
            seen = [f"{p.pts}+{p.duration} {p.skipped}" if p else "none" for p in other[0]]
            yield Difference(index, f"{len(other)} packets{told} have another time: {seen[0]} → {seen[1]}")


def _fragmented_lengths(pair: Pair, index: int, place: int) -> Iterator[Difference]:
    before, after = (facts.boxes[k].steps for facts, k in ((pair.source, index), (pair.result, place)))
    if before != after:
        yield Difference(index, f"its samples have other lengths: {before[:4]} → {after[:4]}")


def _starts(a: Packet, b: Packet, stream: dict[str, Any]) -> bool:  # noqa: ARG001 - one of several
    return a.pts == b.pts


def _same_times(a: Packet, b: Packet, stream: dict[str, Any]) -> bool:  # noqa: ARG001 - one of several
    return (a.pts, a.duration, a.skipped) == (b.pts, b.duration, b.skipped)


def _sounds_the_same(a: Packet, b: Packet, stream: dict[str, Any]) -> bool:
    """Tell whether two packets in different containers begin at one time and are played to the same, but for a tick.

    Where one container tells what of a packet is not played, the other may give it a time before 0, or a shorter length.
    """
    rate = Fraction(stream.get("sample_rate", 1))
    ends = [(p.pts or 0) + p.duration - p.skipped[1] / rate for p in (a, b)]
    hidden = -rate * min(a.pts or 0, 0)
    return (
        a.pts == b.pts
        and abs(ends[1] - ends[0]) <= Fraction(stream["time_base"])
        and b.skipped[0] in (a.skipped[0], hidden)
    )


def tracks(pair: Pair) -> Iterator[Difference]:
    """Compare which there are, their order, marks, names, languages and references."""
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
    yield from of_tags("tracks")(pair)
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


def sample_entries(pair: Pair) -> Iterator[Difference]:
    """Compare codecs and sample descriptions."""
    for index, place in pair.places.items():
        a, b = pair.source.streams[index], pair.result.streams[place]
        names = ("codec_tag_string", *_DESCRIBED) if pair.same_container else _DESCRIBED
        for name in names:
            if (changed := changed_value(a, b, name)) is not None:
                yield Difference(index, f"{name} {changed}", remark=_SAME_ENTRIES.get(changed, ""))
        if index == pair.source.main:
            yield from _extensions(pair, index, place)
        elif (changed := changed_value(a, b, "extradata_hash")) is not None:
            yield Difference(index, f"other codec configuration {changed}")
        elif pair.source.boxes and box_value(pair.source, index, "stsd") != box_value(
            pair.result, place, "stsd"
        ):
            yield Difference(index, "other bytes in its sample description")


def _extensions(pair: Pair, index: int, place: int) -> Iterator[Difference]:
    """Compare the boxes within the processed track's sample entry, but for the codec's own."""
    if not pair.source.boxes or not pair.result.boxes:
        return
    own = {"avcC", "hvcC", "av1C", "vpcC", "d263", "esds", "btrt", "free", "mjpg", "jpeg"}
    kept = pair.result.boxes[place].extensions
    for kind in sorted(set(pair.source.boxes[index].extensions) - own - set(kept)):
        yield Difference(index, f"box {kind} of the sample entry is gone", kind)


def cover_art(pair: Pair) -> Iterator[Difference]:
    """Compare pictures and files that belong to the file."""
    for stream in pair.source.streams:
        index = stream["index"]
        if not (is_cover(stream) or stream.get("codec_type") == "attachment"):
            continue
        place = pair.places.get(index)
        if place is None or pair.source.identity(index) != pair.result.identity(place):
            yield Difference(index, "the picture or file is gone or another")
        elif not is_cover(pair.result.streams[place]) and is_cover(stream):
            yield Difference(index, "it is no longer marked as a cover picture")
    yield from of_tags("cover art")(pair)


def offset(pair: Pair) -> Iterator[Difference]:
    """Compare when each track begins, from the first frame on."""
    first = [facts.frame_times[0] if facts.frame_times else None for facts in (pair.source, pair.result)]
    for index, place in pair.copied:
        packets = pair.source.packets[index], pair.result.packets[place]
        begins = [row[0].pts if row else None for row in packets]
        seen = [a - b for a, b in zip(begins, first, strict=True) if a is not None and b is not None]
        if len(seen) == 2 and seen[0] != seen[1]:
            yield Difference(index, f"it begins {seen[1]} s after the picture, not {seen[0]} s")
    yield from of_tags("sound offset")(pair)


def _track_name(stream: dict[str, Any]) -> str:
    codec = stream.get("codec_name") or stream.get("codec_tag_string", "")
    return f"track {stream['index']} ({stream.get('codec_type')} {codec})"
