"""What became of the file as a whole: chapters, size, and whether others object to it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import zip_longest
from typing import Any

from kept.facts import FileFacts
from kept.pair import Difference, Pair
from kept.tag_columns import of_tags

#: a result may be so many times as large as its source
LARGEST = Fraction(3, 2)


def chapters(pair: Pair) -> Iterator[Difference]:
    """Compare times and titles."""
    before, after = (
        [(_seconds(c, "start"), _seconds(c, "end"), c.get("tags", {}).get("title")) for c in facts.chapters]
        for facts in (pair.source, pair.result)
    )
    if before != after:
        told = next((f"{a} → {b}" for a, b in zip_longest(before, after) if a != b), "")
        yield Difference(None, f"{len(before)} chapters became {len(after)}: {told}")
    yield from of_tags("chapters")(pair)


def _seconds(chapter: dict[str, Any], name: str) -> Fraction:
    return Fraction(chapter[name]) * Fraction(chapter["time_base"])


def readable(pair: Pair) -> Iterator[Difference]:
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


def file_size(pair: Pair) -> Iterator[Difference]:
    """Find a result that is much larger than its source."""
    before, after = pair.source.path.stat().st_size, pair.result.path.stat().st_size
    if after > before * LARGEST:
        yield Difference(None, f"{after / before:.2f} times the source's size")
