"""What a sample table's rows say: sizes, durations and other numbers, a row for many samples or one for each."""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.iso.boxes import Box, broken, unpack
from videoprocess_server.media.iso.samples import Ticks, constant

_COUNT: Final = struct.Struct(">I")
_COMPACT_SIZES: Final = struct.Struct(">3xBI")
_SIZES: Final = struct.Struct(">II")
#: times beyond it would not add up in 64 bits
MOST_TICKS: Final = 1 << 61
_TABLE_AT: Final = 4


class SampleSizes:
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


class DecodeTimes:
    """Decode times, from runs of one duration; after the last run its duration goes on."""

    def __init__(self, rows: NDArray[Any]) -> None:
        counts, self._durations = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        if float(np.dot(counts.astype(np.float64), self._durations.astype(np.float64))) >= MOST_TICKS:
            raise broken("stts", "holds times that no clock reaches")
        self._counts = counts
        self._first = starts_of(counts)
        self._starts = starts_of(counts * self._durations)

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
        duration = expanded(self._counts, self._durations, count, after=after)
        dts = np.cumsum(duration)
        dts -= duration
        return dts, duration


def read_sizes(table: Box | None, compact: Box | None) -> SampleSizes:
    """The bytes of each sample, of an stsz or an stz2.

    Raises:
        MediaFault: the box is shorter than it says.
    """
    if table is not None:
        each, count = unpack(_SIZES, table, _TABLE_AT)
        rows = None if each else rows_of(table, ">u4", 1, at=_TABLE_AT + _COUNT.size)[:, 0]
        return SampleSizes(count, each, rows)
    if compact is None:
        return SampleSizes(0, 0, None)
    sizes = _compact_sizes(compact)
    return SampleSizes(len(sizes), 0, sizes)


def starts_of(amounts: Ticks) -> Ticks:
    """Where each amount begins if they follow each other."""
    starts = np.cumsum(amounts)
    starts -= amounts
    return starts


def expanded(counts: Ticks, values: Ticks, count: int, after: int) -> Ticks:
    """Each value as often as its count says, cut or filled to a length."""
    begins = np.minimum(starts_of(np.minimum(counts, count)), count)
    repeats = np.minimum(counts, count - begins)
    expanded = np.repeat(values, repeats)
    missing = count - len(expanded)
    return np.concatenate((expanded, constant(after, missing))) if missing else expanded


def rows_of(box: Box, number: str, columns: int, at: int = _TABLE_AT) -> NDArray[Any]:
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


def _compact_sizes(box: Box) -> NDArray[Any]:
    bits, count = unpack(_COMPACT_SIZES, box, _TABLE_AT)
    table = box.body[_TABLE_AT + _COMPACT_SIZES.size :]
    if bits not in {4, 8, 16} or (count * bits + 7) // 8 > len(table):
        raise broken("stz2", f"says it has {count} entries of {bits} bits and has {len(table)} bytes")
    if bits == 16:
        return np.frombuffer(table, dtype=">u2", count=count)
    packed = np.frombuffer(table, dtype=np.uint8, count=(count * bits + 7) // 8)
    if bits == 8:
        return packed
    return np.stack((packed >> 4, packed & 0xF), axis=1).reshape(-1)[:count]
