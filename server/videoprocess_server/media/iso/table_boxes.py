"""Writes a sample table (stbl) from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import U32, UINT32_MAX, Part, Parts, build, build_full
from videoprocess_server.media.iso.samples import Flags, Ticks

_INT32_MAX: Final = 0x7FFF_FFFF
#: chunks a second: as short as cameras write them, so that sound is near its picture
_CHUNKS_PER_SECOND: Final = 2


@dataclass(frozen=True, kw_only=True)
class NewTable:
    """What a sample table says, but for where the chunks are."""

    #: whole stsd
    stsd: Part
    #: ticks from each sample's decode time to the next one's
    durations: Ticks
    #: ticks from decode to presentation time
    composition: Ticks
    size: Ticks
    sync: Flags
    #: number of the first sample of each chunk, from 0
    chunk_starts: Ticks
    #: number of the sample entry of each chunk, from 1
    chunk_description: Ticks
    #: further whole boxes, such as sdtp
    more: Sequence[Part] = ()

    def __post_init__(self) -> None:
        if len(self.size) > UINT32_MAX or _is_outside(self.size, 0, UINT32_MAX):
            raise MediaFault("JOIN_FAILED", "A sample of a track is too large for its stsz box.")
        if _is_outside(self.durations, 0, UINT32_MAX):
            raise MediaFault(
                "JOIN_FAILED", "Decode times of a track go back, or too far ahead for its stts box."
            )
        if _is_outside(self.composition, -_INT32_MAX, _INT32_MAX):
            raise MediaFault(
                "JOIN_FAILED", "A sample is shown too long after it is decoded for its ctts box."
            )

    @property
    def media_ticks(self) -> int:
        """How long the track's media is."""
        return int(self.durations.sum())

    @property
    def samples_per_chunk(self) -> Ticks:
        """Of each chunk."""
        return np.diff(np.append(self.chunk_starts, len(self.size)))

    @property
    def chunk_sizes(self) -> Ticks:
        """Bytes of each chunk."""
        ends = np.concatenate(([0], np.cumsum(self.size, dtype=np.int64)))
        sizes: Ticks = np.diff(ends[np.append(self.chunk_starts, len(self.size))])
        return sizes

    def chunk_seconds(self, dts: Ticks, timescale: int) -> NDArray[np.float64]:
        """Decode time of each chunk's first sample."""
        return seconds_of(dts[self.chunk_starts], timescale)

    def build(self, offsets: Ticks, *, wide: bool) -> Parts:
        """The box.

        Args:
            offsets: of each chunk, in the file.
            wide: whether they take 64 bits.
        """
        parts: Parts = [self.stsd, *_runs(b"stts", self.durations)]
        if np.any(self.composition):
            version = int(int(self.composition.min()) < 0)
            parts += _runs(b"ctts", self.composition, version=version)
        if not self.sync.all():
            parts += _table(b"stss", np.flatnonzero(self.sync) + 1)
        for box in self.more:
            parts.append(box)
        parts += self._chunk_box()
        parts += self._size_box()
        parts += build_offsets(offsets, wide=wide)
        return build(b"stbl", *parts)

    def _chunk_box(self) -> Parts:
        rows = np.stack((self.samples_per_chunk, self.chunk_description), axis=1)
        changed = np.ones(len(rows), dtype=np.bool_)
        changed[1:] = np.any(rows[1:] != rows[:-1], axis=1)
        first = np.flatnonzero(changed)
        return _table(b"stsc", np.column_stack((first + 1, rows[first])))

    def _size_box(self) -> Parts:
        count = len(self.size)
        if count and int(self.size.min()) == int(self.size.max()) > 0:
            return build_full(b"stsz", U32.pack(int(self.size[0])) + U32.pack(count))
        return build_full(b"stsz", bytes(4) + U32.pack(count), self.size.astype(">u4").tobytes())


def build_offsets(offsets: Ticks, *, wide: bool) -> Parts:
    """A co64, or an stco."""
    kind, number = (b"co64", ">u8") if wide else (b"stco", ">u4")
    return build_full(kind, U32.pack(len(offsets)), offsets.astype(number).tobytes())


def build_description(entry: Part) -> bytes:
    """An stsd of one sample entry."""
    return b"".join(build_full(b"stsd", U32.pack(1), entry))


def seconds_of(ticks: Ticks, timescale: int) -> NDArray[np.float64]:
    """Times by which chunks are put in order."""
    return ticks.astype(np.float64) / timescale


def first_of_chunks(dts: Ticks, timescale: int, breaks: Flags | None = None) -> Ticks:
    """The first sample of each chunk of about half a second.

    Args:
        dts: decode times, ascending.
        timescale: their ticks in a second.
        breaks: samples that begin a chunk in any case.
    """
    if not len(dts):
        return np.zeros(0, dtype=np.int64)
    part = (dts - dts[0]) * _CHUNKS_PER_SECOND // timescale
    begins = np.ones(len(dts), dtype=np.bool_)
    begins[1:] = part[1:] != part[:-1]
    if breaks is not None:
        begins |= breaks
    return np.flatnonzero(begins)


def _runs(kind: bytes, values: Ticks, version: int = 0) -> Parts:
    """A table of how often each value comes."""
    changed = np.ones(len(values), dtype=np.bool_)
    changed[1:] = values[1:] != values[:-1]
    first = np.flatnonzero(changed)
    counts = np.diff(np.append(first, len(values)))
    return _table(kind, np.column_stack((counts, values[first])), version)


def _table(kind: bytes, rows: NDArray[Any], version: int = 0) -> Parts:
    # Negative numbers keep their bits.
    return build_full(
        kind, U32.pack(len(rows)), rows.astype(np.uint32).astype(">u4").tobytes(), version=version
    )


def _is_outside(numbers: Ticks, least: int, most: int) -> bool:
    return bool(len(numbers)) and not least <= int(numbers.min()) <= int(numbers.max()) <= most
