"""Reads a sample table (stbl): chunks without looking at each sample, and samples where they are asked for."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import Box, broken, child, unpack
from videoprocess_server.media.iso.samples import MOST_SAMPLES, Samples, Ticks, constant
from videoprocess_server.media.iso.sound import SoundChunks

_COUNT: Final = struct.Struct(">I")
_SIZES: Final = struct.Struct(">II")
_COMPACT_SIZES: Final = struct.Struct(">3xBI")
#: times beyond it would not add up in 64 bits
_MOST_TICKS: Final = 1 << 61
_TABLE_AT: Final = 4


@dataclass(frozen=True)
class Chunks:
    """Of one track, in their order."""

    #: in the file, in bytes
    offset: Ticks
    #: number of the first sample, from 0
    first: Ticks
    samples: Ticks
    #: number of the sample entry, from 1
    description: Ticks
    #: in bytes
    size: Ticks
    #: decode time of the first sample
    dts: Ticks


class SampleTable:
    """A track's stbl."""

    def __init__(
        self,
        stbl: Box | None,
        file_size: int,
        sound: SoundChunks | None = None,
        *,
        is_uncompressed: bool = False,
    ) -> None:
        """Remember the box; tables are read when they are asked for.

        Args:
            stbl: a track's, None where it has none.
            file_size: in bytes, which samples of one size cannot exceed together.
            sound: how QuickTime counts this track's bytes, where it is uncompressed sound or the like.
            is_uncompressed: whether it is such sound in ISO's way, of which the table tells the bytes.
        """
        self._stbl = stbl
        self._file_size = file_size
        self._sound = sound
        self._is_uncompressed = is_uncompressed

    def chunks(self) -> Chunks:
        """All chunks.

        Raises:
            MediaFault: the tables contradict themselves.
        """
        offset = self._offsets()
        sizes = self._sizes()
        per_chunk, description = self._sample_counts(len(offset))
        first = _starts(per_chunk)
        samples = np.clip(sizes.count - first, 0, per_chunk)
        points = self._points(sizes)
        size = points.size_of(samples) if points else sizes.of_runs(first, samples)
        return Chunks(
            offset, first, samples, description, size, self._times().at(np.minimum(first, sizes.count))
        )

    def samples(self) -> Samples:
        """All samples that lie in chunks; where they are points in time, packets of them as FFmpeg reads them.

        Raises:
            MediaFault: the tables contradict themselves, or there are more than can be handled.
        """
        chunks = self.chunks()
        sizes = self._sizes()
        if points := self._points(sizes):
            return _packets(chunks, points)
        count = int(chunks.samples.sum())
        _admit(count)
        if count * sizes.each > self._file_size:
            raise broken("stsz", f"says it has {count} samples of {sizes.each} bytes")
        before = sizes.before(np.arange(count, dtype=np.int64))
        kept = np.flatnonzero(chunks.samples)
        counts = chunks.samples[kept]
        base = chunks.offset[kept] - before[chunks.first[kept]]
        dts, duration = self._times().expand(count)
        return Samples(
            offset=np.repeat(base, counts) + before,
            size=sizes.expand(count),
            dts=dts,
            pts=dts + self._composition_offsets(count),
            duration=duration,
            sync=self._sync(count),
            description=np.repeat(chunks.description[kept], counts),
        )

    def _offsets(self) -> Ticks:
        wide = child(self._stbl, b"co64")
        box = child(self._stbl, b"stco") or wide
        if box is None:
            return constant(0, 0)
        offset = _rows(box, ">u8" if box is wide else ">u4", 1)[:, 0]
        if len(offset) and int(offset.max()) >= _MOST_TICKS:
            raise broken(box.name, "holds an offset that no file reaches")
        return offset.astype(np.int64)

    def _sample_counts(self, chunks: int) -> tuple[Ticks, Ticks]:
        """Samples and sample entry of each chunk."""
        box = child(self._stbl, b"stsc")
        if box is None:
            if chunks:
                raise broken("stsc", "is not there")
            return constant(0, 0), constant(1, 0)
        rows = _rows(box, ">u4", 3).astype(np.int64)
        if chunks and (not len(rows) or rows[0, 0] != 1 or np.any(np.diff(rows[:, 0]) <= 0)):
            raise broken("stsc", "does not number the chunks in order")
        bounds = np.minimum(np.append(rows[:, 0], chunks + 1), chunks + 1)
        repeats = np.diff(bounds) if chunks else np.zeros(len(rows), dtype=np.int64)
        return np.repeat(rows[:, 1], repeats), np.repeat(rows[:, 2], repeats)

    def _sizes(self) -> _SampleSizes:
        box = child(self._stbl, b"stsz")
        if box is not None:
            each, count = unpack(_SIZES, box, _TABLE_AT)
            if each:
                return _SampleSizes(count, each, None)
            return _SampleSizes(count, 0, _rows(box, ">u4", 1, at=_TABLE_AT + 4)[:, 0])
        box = child(self._stbl, b"stz2")
        if box is None:
            return _SampleSizes(0, 0, None)
        bits, count = unpack(_COMPACT_SIZES, box, _TABLE_AT)
        return _SampleSizes(count, 0, _compact_sizes(box, bits, count))

    def _times(self) -> _Times:
        box = child(self._stbl, b"stts")
        return _Times(_rows(box, ">u4", 2) if box is not None else np.zeros((0, 2), dtype=">u4"))

    def _points(self, sizes: _SampleSizes) -> SoundChunks | None:
        """How samples are counted that are points in time; None where they are not."""
        box = child(self._stbl, b"stts")
        rows = _rows(box, ">u4", 2) if box is not None else np.zeros((0, 2))
        if not sizes.is_constant or len(rows) != 1 or int(rows[0, 1]) != 1:
            return None
        if self._is_uncompressed and sizes.each:
            return SoundChunks(1, sizes.each)
        return self._sound

    def _composition_offsets(self, count: int) -> Ticks:
        box = child(self._stbl, b"ctts")
        if box is None:
            return constant(0, count)
        rows = _rows(box, ">u4", 2)
        # Signed in version 0 too: QuickTime writes it so, and FFmpeg reads it so.
        values = rows[:, 1].astype(np.uint32).view(np.int32).astype(np.int64)
        return _expand(rows[:, 0].astype(np.int64), values, count, after=0)

    def _sync(self, count: int) -> NDArray[np.bool_]:
        box = child(self._stbl, b"stss")
        if box is None:
            return np.broadcast_to(np.True_, (count,))
        numbers = _rows(box, ">u4", 1)[:, 0].astype(np.int64) - 1
        sync = np.zeros(count, dtype=np.bool_)
        sync[numbers[(numbers >= 0) & (numbers < count)]] = True
        return sync


class _SampleSizes:
    """Bytes of each sample: one number for all, or a table."""

    def __init__(self, count: int, each: int, table: NDArray[Any] | None) -> None:
        self.count = count
        self.each = each
        self._table = table
        self._ends = None if table is None else np.concatenate(([0], np.cumsum(table, dtype=np.int64)))

    @property
    def is_constant(self) -> bool:
        """Whether all are alike."""
        return self._table is None

    def before(self, samples: Ticks) -> Ticks:
        """Bytes of all samples before each of these."""
        return samples * self.each if self._ends is None else self._ends[samples]

    def of_runs(self, first: Ticks, samples: Ticks) -> Ticks:
        """Bytes of runs of samples."""
        if self._ends is None:
            return samples * self.each
        begin = np.minimum(first, self.count)
        return self._ends[begin + samples] - self._ends[begin]

    def expand(self, count: int) -> Ticks:
        """Bytes of each of the first samples."""
        return constant(self.each, count) if self._table is None else self._table[:count].astype(np.int64)


class _Times:
    """Decode times, from runs of one duration; after the last run its duration goes on."""

    def __init__(self, rows: NDArray[Any]) -> None:
        counts, self._durations = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        if float(np.dot(counts.astype(np.float64), self._durations.astype(np.float64))) >= _MOST_TICKS:
            raise broken("stts", "holds times that no clock reaches")
        self._counts = counts
        self._first = _starts(counts)
        self._starts = _starts(counts * self._durations)

    def at(self, samples: Ticks) -> Ticks:
        """Decode times of samples."""
        if not len(self._counts):
            return constant(0, len(samples))
        run = np.searchsorted(self._first, samples, side="right") - 1
        times = self._starts[run] + (samples - self._first[run]) * self._durations[run]
        if len(times) and int(times.min()) < 0:
            raise broken("stts", "holds times that no clock reaches")
        return times

    def expand(self, count: int) -> tuple[Ticks, Ticks]:
        """Decode times and durations of the first samples."""
        if len(self._counts) == 1:
            return np.arange(count, dtype=np.int64) * self._durations[0], constant(
                int(self._durations[0]), count
            )
        after = int(self._durations[-1]) if len(self._durations) else 0
        duration = _expand(self._counts, self._durations, count, after=after)
        dts = np.cumsum(duration)
        dts -= duration
        return dts, duration


def _packets(chunks: Chunks, points: SoundChunks) -> Samples:
    """Points in time, as many at once as FFmpeg reads."""
    most = points.samples_per_packet
    counts = -(-chunks.samples // most)
    total = int(counts.sum())
    _admit(total)
    before = (np.arange(total, dtype=np.int64) - np.repeat(_starts(counts), counts)) * most
    duration = np.minimum(np.repeat(chunks.samples, counts) - before, most)
    dts = np.repeat(chunks.first, counts) + before
    return Samples(
        offset=np.repeat(chunks.offset, counts) + points.size_of(before),
        size=points.size_of(duration),
        dts=dts,
        pts=dts,
        duration=duration,
        sync=np.broadcast_to(np.True_, (total,)),
        description=np.repeat(chunks.description, counts),
    )


def _admit(count: int) -> None:
    if count > MOST_SAMPLES:
        raise MediaFault("JOIN_FAILED", f"A track has {count} samples, {MOST_SAMPLES} can be handled.")


def _starts(amounts: Ticks) -> Ticks:
    """Where each amount begins if they follow each other."""
    starts = np.cumsum(amounts)
    starts -= amounts
    return starts


def _expand(counts: Ticks, values: Ticks, count: int, after: int) -> Ticks:
    """Each value as often as its count says, cut or filled to a length."""
    begins = np.minimum(_starts(np.minimum(counts, count)), count)
    repeats = np.minimum(counts, count - begins)
    expanded = np.repeat(values, repeats)
    missing = count - len(expanded)
    return np.concatenate((expanded, constant(after, missing))) if missing else expanded


def _rows(box: Box, number: str, columns: int, at: int = _TABLE_AT) -> NDArray[Any]:
    """A table of numbers, without copying it.

    Raises:
        MediaFault: the box is shorter than it says.
    """
    (count,) = unpack(_COUNT, box, at)
    kind = np.dtype(number)
    table = box.body[at + _COUNT.size :]
    if count * columns * kind.itemsize > len(table):
        raise broken(box.name, f"says it has {count} entries and has {len(table)} bytes")
    return np.frombuffer(table, dtype=kind, count=count * columns).reshape(count, columns)


def _compact_sizes(box: Box, bits: int, count: int) -> NDArray[Any]:
    table = box.body[_TABLE_AT + _COMPACT_SIZES.size :]
    if bits not in {4, 8, 16} or (count * bits + 7) // 8 > len(table):
        raise broken("stz2", f"says it has {count} entries of {bits} bits and has {len(table)} bytes")
    if bits == 16:
        return np.frombuffer(table, dtype=">u2", count=count)
    packed = np.frombuffer(table, dtype=np.uint8, count=(count * bits + 7) // 8)
    if bits == 8:
        return packed
    return np.stack((packed >> 4, packed & 0xF), axis=1).reshape(-1)[:count]
