"""A source and what was made of it, track beside track."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kept.facts import FileFacts, is_cover
from kept.tags import Tag, compared


@dataclass(frozen=True)
class Difference:
    """Something that the result has not as the source has it."""

    #: of the source; None for the whole file
    track: int | None
    what: str
    #: the name of what was lost, which a report that names it has to tell; empty where a count says enough
    word: str = ""
    #: why it is no loss; empty where it is one
    remark: str = ""


class Pair:
    """Two files, and which track of the result is which of the source."""

    def __init__(self, source: FileFacts, result: FileFacts) -> None:
        self.source = source
        self.result = result
        #: track of the source → of the result
        self.places = dict(sorted(_matched(source, result)))

    @cached_property
    def tags(self) -> list[Tag]:
        """Each tag of the source that may not change."""
        return list(compared(self.source, self.result, self.places))

    @property
    def same_container(self) -> bool:
        """Whether both are ISO files, or both are not."""
        return self.source.is_iso == self.result.is_iso

    @property
    def copied(self) -> Iterator[tuple[int, int]]:
        """Tracks that both have, but for the processed one."""
        return ((a, b) for a, b in self.places.items() if a != self.source.main)


def changed_value(before: dict[str, Any], after: dict[str, Any], name: str) -> str | None:
    """Tell how a value of a source changed; None if it has not, or was not there."""
    if before.get(name) == after.get(name) or before.get(name) is None:
        return None
    return f"{before.get(name)} → {after.get(name)}"


def box_value(facts: FileFacts, index: int, name: str) -> bytes:
    """Return bytes of a track's boxes; nothing where there are none."""
    value: bytes = getattr(facts.boxes[index], name) if index < len(facts.boxes) else b""
    return value


def same_timing(pair: Pair, index: int, place: int) -> bool:
    """Tell whether a copied track's boxes of time are equal, byte for byte; whatever a reader makes of the file is then no loss."""
    timing = box_value(pair.source, index, "timing")
    return bool(timing) and timing == box_value(pair.result, place, "timing")


def _matched(source: FileFacts, result: FileFacts) -> Iterator[tuple[int, int]]:
    """Pair tracks: the processed one, then those of the same bytes, then those of one kind, in order."""
    yield source.main, result.main
    theirs = [s["index"] for s in result.streams if s["index"] != result.main]
    ours = [s["index"] for s in source.streams if s["index"] != source.main]
    for same in (_same_bytes, _same_codec, _same_kind):
        for index in list(ours):
            found = next((other for other in theirs if same(source, index, result, other)), None)
            if found is not None:
                ours.remove(index)
                theirs.remove(found)
                yield index, found


def _same_bytes(source: FileFacts, index: int, result: FileFacts, other: int) -> bool:
    if not _same_codec(source, index, result, other):
        return False
    return source.identity(index) == result.identity(other)


def _same_codec(source: FileFacts, index: int, result: FileFacts, other: int) -> bool:
    a, b = source.streams[index], result.streams[other]
    tags = [str(s.get("codec_tag_string", "")) for s in (a, b)]
    same = a.get("codec_name") == b.get("codec_name") and (a.get("codec_name") or tags[0] == tags[1])
    return bool(same) and _same_kind(source, index, result, other)


def _same_kind(source: FileFacts, index: int, result: FileFacts, other: int) -> bool:
    a, b = source.streams[index], result.streams[other]
    return a.get("codec_type") == b.get("codec_type") and is_cover(a) == is_cover(b)
