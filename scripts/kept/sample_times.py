"""When samples of an ISO file's track are decoded and shown, worked out from its tables, or its fragments, and its edit list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise, repeat

#: bytes of a box before its entries: size, letters, version, flags, count
_HEAD = 16
#: a media time that says that nothing is shown
_EMPTY = -1
#: flags of a fragment's header whose fields come before the default length, with their bytes
_BEFORE_LENGTH = ((0x1, 8), (0x2, 4))
_HAS_LENGTH = 0x8
#: flags of a run's fields before its samples, and of the fields of each sample
_OF_RUN = (0x1, 0x4)
_OF_SAMPLE = (0x100, 0x200, 0x400, 0x800)


@dataclass(frozen=True)
class Sample:
    """A sample, in ticks of its track."""

    decoded: int
    #: from decoding to showing
    offset: int
    length: int


@dataclass(frozen=True)
class Fragment:
    """The boxes of one track in one fragment, and the length that its samples have where nothing else tells it."""

    tfhd: bytes
    tfdt: bytes
    truns: Sequence[bytes]
    default_length: int


def table_samples(stts: bytes, ctts: bytes) -> Iterator[Sample]:
    """Give the samples that the boxes of decode steps and of offsets tell; the latter may be empty."""
    decoded = 0
    offsets = chain(_runs(ctts, signed=True), repeat(0))
    for length, offset in zip(_runs(stts), offsets, strict=False):
        yield Sample(decoded, offset, length)
        decoded += length


def fragment_samples(fragments: Iterable[Fragment]) -> Iterator[Sample]:
    """Give the samples that fragments tell."""
    decoded = 0
    for fragment in fragments:
        decoded = int.from_bytes(fragment.tfdt[12:]) if fragment.tfdt else decoded
        default = _default_length(fragment)
        for run in fragment.truns:
            flags, count = int.from_bytes(run[9:12]), int.from_bytes(run[12:16])
            place = _HEAD + 4 * sum(bool(flags & flag) for flag in _OF_RUN)
            for _ in range(count):
                fields = {}
                for flag in _OF_SAMPLE:
                    if flags & flag:
                        fields[flag] = int.from_bytes(run[place : place + 4], signed=flag == _OF_SAMPLE[-1])
                        place += 4
                sample = Sample(decoded, fields.get(_OF_SAMPLE[-1], 0), fields.get(_OF_SAMPLE[0], default))
                decoded += sample.length
                yield sample


def steps(samples: Sequence[Sample]) -> Iterator[int]:
    """Give the time from each sample to the next, and the length of the last."""
    yield from (after.decoded - sample.decoded for sample, after in pairwise(samples))
    yield from (sample.length for sample in samples[-1:])


def presentation_end(
    samples: Sequence[Sample], media_scale: int, elst: bytes, movie_scale: int
) -> Fraction | None:
    """Return the second at which the last sample is no longer shown; None without samples.

    That is where the edit list ends, or the media if that is earlier; without an edit list it is the media's end.

    Args:
        samples: of the track.
        media_scale: ticks of the samples a second.
        elst: the whole edit list box; may be empty.
        movie_scale: ticks of the edit list's durations a second.
    """
    if not samples:
        return None
    media_end = Fraction(
        max(sample.decoded + sample.offset + sample.length for sample in samples), media_scale
    )
    shown, edits = Fraction(0), list(_edits(elst))
    for length, media_time in edits:
        begins, there = shown, shown + media_end - Fraction(media_time, media_scale)
        shown = begins + Fraction(length, movie_scale)
        if media_time != _EMPTY:
            shown = min(shown, there) if length else there
    return shown if edits else media_end


def hidden_count(samples: Sequence[Sample], media_scale: int, elst: bytes, movie_scale: int) -> int:
    """Count the samples that are shown at a time that is in no edit."""
    edits = [
        (Fraction(begins, media_scale), Fraction(begins, media_scale) + Fraction(length, movie_scale))
        for length, begins in _edits(elst)
        if begins != _EMPTY and length
    ]
    if not edits:
        return 0
    times = (Fraction(sample.decoded + sample.offset, media_scale) for sample in samples)
    return sum(not any(begins <= time < ends for begins, ends in edits) for time in times)


def _default_length(fragment: Fragment) -> int:
    flags = int.from_bytes(fragment.tfhd[9:12])
    place = _HEAD + sum(size for flag, size in _BEFORE_LENGTH if flags & flag)
    return (
        int.from_bytes(fragment.tfhd[place : place + 4]) if flags & _HAS_LENGTH else fragment.default_length
    )


def _runs(box: bytes, *, signed: bool = False) -> Iterator[int]:
    """Give each sample's value of a box of counts and values."""
    for place in range(_HEAD, len(box), 8):
        count, value = box[place : place + 4], box[place + 4 : place + 8]
        yield from repeat(int.from_bytes(value, signed=signed), int.from_bytes(count))


def _edits(box: bytes) -> Iterator[tuple[int, int]]:
    """Give length and media time of each edit."""
    width = 8 if box[8:9] == b"\1" else 4
    for place in range(_HEAD, len(box), 2 * width + 4):
        middle = place + width
        yield (
            int.from_bytes(box[place:middle]),
            int.from_bytes(box[middle : middle + width], signed=True),
        )
