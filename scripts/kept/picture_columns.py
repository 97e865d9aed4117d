"""What became of the picture: frames, times, size, colour, side data."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kept.facts import FileFacts
from kept.pair import Difference, Pair, box_value, changed_value, same_timing
from kept.programs import COLUMNS, ROWS
from kept.tag_columns import has_tags, of_tags

#: mean squared difference, in code values of 255, from which on two pictures differ visibly
VISIBLE = 1.0
#: a picture is taken for a neighbour where it is nearer to that by this part of what lies between the two
MISSING = 0.5
#: so many differences of a kind are told; the rest are counted
_TOLD = 4
_COLOUR = ("color_range", "color_space", "color_transfer", "color_primaries", "chroma_location")
_UNTOLD = {None, "unknown", "reserved", "unspecified"}
#: what leaving it out means: H.264 and H.265 say so, and readers of other codecs take it so
_MEANT = {"color_range": "tv", "chroma_location": "left"}
#: side data of frames that is of a high dynamic range
_HDR = ("Mastering", "Content light", "HDR", "Dolby", "Ambient")
#: side data of frames that the encoder or the reader writes, not the camera
_NOT_COMPARED = ("H.26[45] User Data Unregistered", "3x3 displaymatrix", "Film grain", "GOP timecode")


def frames(pair: Pair) -> Iterator[Difference]:
    """Compare how many are shown, and how many the edit list hides."""
    before, after = len(pair.source.frames), len(pair.result.frames)
    if before != after:
        yield Difference(pair.source.main, f"{before} frames became {after}")
    hidden = [facts.boxes[facts.main].hidden if facts.boxes else 0 for facts in (pair.source, pair.result)]
    if hidden[0] != hidden[1]:
        yield Difference(
            pair.source.main, f"{hidden[0]} pictures that the edit list hides became {hidden[1]}"
        )


def pictures(pair: Pair) -> Iterator[Difference]:
    """Each picture must be more like its own than like a neighbour that differs visibly."""
    source, result = _cells(pair.source.decoded[0]), _cells(pair.result.decoded[0])
    wrong = [k for k in range(min(len(source), len(result))) if _is_a_neighbour(source, k, result[k])]
    if wrong:
        yield Difference(
            pair.source.main, f"{len(wrong)} pictures are more like a neighbour: {wrong[:_TOLD]}"
        )


def _is_a_neighbour(source: NDArray[np.float64], k: int, made: NDArray[np.float64]) -> bool:
    """Tell whether a picture is a neighbour of its own rather than itself.

    Of a picture in another's place the two distances differ by all that the neighbours differ. Where an encoder has few bytes a
    change comes late: up to half of it may be missing in the first picture that has it.
    """
    own = _far(source[k], made)
    for other in (k - 1, k + 1):
        if 0 <= other < len(source):
            apart = _far(source[other], source[k])
            if apart >= VISIBLE and _far(source[other], made) + MISSING * apart <= own:
                return True
    return False


def time_stamps(pair: Pair) -> Iterator[Difference]:
    """Compare when each frame is shown."""
    before, after = pair.source.frame_times, pair.result.frame_times
    other = [(a, b) for a, b in zip_longest(before, after) if a != b]
    if other:
        told = ", ".join(f"{a} → {b}" for a, b in other[:_TOLD])
        yield Difference(pair.source.main, f"{len(other)} frames have another time: {told}")


def durations(pair: Pair) -> Iterator[Difference]:
    """Compare when the last frame, each track and the file end."""
    main = pair.source.main
    if pair.source.end != pair.result.end:
        yield Difference(main, f"the last frame ends at {pair.result.end} s, not {pair.source.end} s")
    for a, b in pair.places.items():
        if same_timing(pair, a, b) or pair.source.is_fragmented:
            continue
        if (changed := changed_value(pair.source.streams[a], pair.result.streams[b], "duration")) is not None:
            yield Difference(a, f"duration {changed}")
    changed = changed_value(pair.source.format, pair.result.format, "duration")
    if changed is not None and pair.same_container:
        yield Difference(None, f"duration of the file {changed}")
    yield from of_tags("durations")(pair)


def rotation(pair: Pair) -> Iterator[Difference]:
    """Compare all nine numbers of display matrices."""
    before, after = _side(pair.source, "Display Matrix"), _side(pair.result, "Display Matrix")
    if before != after:
        yield Difference(pair.source.main, f"the matrix {before} became {after}")
    for index, place in pair.places.items():
        if pair.source.boxes and box_value(pair.source, index, "matrix") != box_value(
            pair.result, place, "matrix"
        ):
            yield Difference(index, "its header has another matrix")
    yield from of_tags("rotation")(pair)


def size(pair: Pair) -> Iterator[Difference]:
    """Compare coded, sample and display sizes."""
    a, b = pair.source.streams[pair.source.main], pair.result.streams[pair.result.main]
    for name in ("width", "height"):
        if (changed := changed_value(a, b, name)) is not None:
            yield Difference(pair.source.main, f"{name} {changed}")
    ratios = [s.get("sample_aspect_ratio", "0:1").replace("1:1", "0:1") for s in (a, b)]
    if ratios[0] != ratios[1]:
        yield Difference(pair.source.main, f"sample aspect ratio {ratios[0]} → {ratios[1]}")
    for index, place in pair.places.items():
        before, after = (
            box_value(facts, k, "display_size").hex()
            for facts, k in ((pair.source, index), (pair.result, place))
        )
        if before != after and pair.source.boxes:
            yield Difference(index, f"shown size {before} → {after}")
    yield from of_tags("size")(pair)


def pixels(pair: Pair) -> Iterator[Difference]:
    """Compare layout, depth and fields."""
    a, b = pair.source.streams[pair.source.main], pair.result.streams[pair.result.main]
    formats = [str(s.get("pix_fmt", "")).replace("yuvj", "yuv") for s in (a, b)]
    if formats[0] != formats[1]:
        yield Difference(pair.source.main, f"pixels {formats[0]} → {formats[1]}")
    for name in ("interlaced_frame", "top_field_first"):
        seen = [[frame.get(name) for frame in facts.frames] for facts in (pair.source, pair.result)]
        if any(x and x != y for x, y in zip(*seen, strict=False)):
            yield Difference(pair.source.main, f"{name} is not kept")
    yield from of_tags("pixels")(pair)


def colour(pair: Pair) -> Iterator[Difference]:
    """Compare what the file says and what the frames say."""
    a, b = pair.source.streams[pair.source.main], pair.result.streams[pair.result.main]
    for name in _COLOUR:
        before, after = ({_told(name, s)} for s in (a, b))
        frames = [{_told(name, frame) for frame in facts.frames} for facts in (pair.source, pair.result)]
        # A reader of the container, and one of the frames, which differ in some sources.
        if before != after and after != frames[0]:
            yield Difference(pair.source.main, f"{name} {before} → {after}")
        if frames[0] != frames[1] and frames[1] != before:
            yield Difference(pair.source.main, f"{name} of frames {frames[0]} → {frames[1]}")
    yield from of_tags("colour")(pair)


def _told(name: str, tells: dict[str, Any]) -> str:
    """Return what is told of a colour, or what leaving it out means."""
    value = tells.get(name)
    return _MEANT.get(name, "not told") if value in _UNTOLD else str(value)


def hdr(pair: Pair) -> Iterator[Difference]:
    """Compare static and dynamic metadata of a high dynamic range."""
    kinds = {s["side_data_type"] for s in _side_data(pair.source) if s["side_data_type"] != "Display Matrix"}
    for kind in sorted(kinds):
        if _side(pair.source, kind) != _side(pair.result, kind):
            yield Difference(pair.source.main, f"{kind} of the track")
    yield from _frame_data(pair, _HDR)
    yield from of_tags("HDR")(pair)


def other_frame_data(pair: Pair) -> Iterator[Difference]:
    """Compare what else comes with frames, such as captions and time codes."""
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


def has_hdr(facts: FileFacts) -> bool:
    """Tell whether there is metadata of a high dynamic range."""
    side = [data for frame in facts.frames for data in frame.get("side_data_list", [])]
    told = [data["side_data_type"] for data in (*side, *_side_data(facts))]
    return any(kind.startswith(_HDR) or "DOVI" in kind for kind in told) or has_tags("HDR")(facts)


def has_frame_data(facts: FileFacts) -> bool:
    """Tell whether anything else comes with frames."""
    side = [data["side_data_type"] for frame in facts.frames for data in frame.get("side_data_list", [])]
    return any(not kind.startswith((*_HDR, *_NOT_COMPARED)) for kind in side)


def _side_data(facts: FileFacts) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = facts.streams[facts.main].get("side_data_list", [])
    return found


def _side(facts: FileFacts, kind: str) -> list[dict[str, Any]]:
    return [data for data in _side_data(facts) if data["side_data_type"] == kind]


def _cells(data: bytes) -> NDArray[np.float64]:
    return np.frombuffer(data, np.uint8).reshape(-1, ROWS * COLUMNS).astype(np.float64)


def _far(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.mean((a - b) ** 2))
