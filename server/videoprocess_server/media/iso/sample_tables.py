"""Reads a sample table (stbl): chunks without looking at each sample, and samples where they are asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import Box, broken, child
from videoprocess_server.media.iso.sample_runs import (
    MOST_TICKS,
    DecodeTimes,
    SampleSizes,
    expanded,
    read_sizes,
    rows_of,
    starts_of,
)
from videoprocess_server.media.iso.samples import MOST_SAMPLES, Samples, Ticks, constant
from videoprocess_server.media.iso.sound import SoundChunks


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
        first = starts_of(per_chunk)
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
        offset = rows_of(box, ">u8" if box is wide else ">u4", 1)[:, 0]
        if len(offset) and int(offset.max()) >= MOST_TICKS:
            raise broken(box.name, "holds an offset that no file reaches")
        return offset.astype(np.int64)

    def _sample_counts(self, chunks: int) -> tuple[Ticks, Ticks]:
        """Samples and sample entry of each chunk."""
        box = child(self._stbl, b"stsc")
        if box is None:
            if chunks:
                raise broken("stsc", "is not there")
            return constant(0, 0), constant(1, 0)
        rows = rows_of(box, ">u4", 3).astype(np.int64)
        if chunks and (not len(rows) or rows[0, 0] != 1 or np.any(np.diff(rows[:, 0]) <= 0)):
            raise broken("stsc", "does not number the chunks in order")
        bounds = np.minimum(np.append(rows[:, 0], chunks + 1), chunks + 1)
        repeats = np.diff(bounds) if chunks else np.zeros(len(rows), dtype=np.int64)
        return np.repeat(rows[:, 1], repeats), np.repeat(rows[:, 2], repeats)

    def _sizes(self) -> SampleSizes:
        return read_sizes(child(self._stbl, b"stsz"), child(self._stbl, b"stz2"))

    def _times(self) -> DecodeTimes:
        box = child(self._stbl, b"stts")
        return DecodeTimes(rows_of(box, ">u4", 2) if box is not None else np.zeros((0, 2), dtype=">u4"))

    def _points(self, sizes: SampleSizes) -> SoundChunks | None:
        """How samples are counted that are points in time; None where they are not."""
        box = child(self._stbl, b"stts")
        rows = rows_of(box, ">u4", 2) if box is not None else np.zeros((0, 2))
        if not sizes.is_constant or len(rows) != 1 or int(rows[0, 1]) != 1:
            return None
        if self._is_uncompressed and sizes.each:
            return SoundChunks(1, sizes.each)
        return self._sound

    def _composition_offsets(self, count: int) -> Ticks:
        box = child(self._stbl, b"ctts")
        if box is None:
            return constant(0, count)
        rows = rows_of(box, ">u4", 2)
        # Signed in version 0 too: QuickTime writes it so, and FFmpeg reads it so.
        values = rows[:, 1].astype(np.uint32).view(np.int32).astype(np.int64)
        return expanded(rows[:, 0].astype(np.int64), values, count, after=0)

    def _sync(self, count: int) -> NDArray[np.bool_]:
        box = child(self._stbl, b"stss")
        if box is None:
            return np.broadcast_to(np.True_, (count,))
        numbers = rows_of(box, ">u4", 1)[:, 0].astype(np.int64) - 1
        sync = np.zeros(count, dtype=np.bool_)
        sync[numbers[(numbers >= 0) & (numbers < count)]] = True
        return sync


def _packets(chunks: Chunks, points: SoundChunks) -> Samples:
    """Points in time, as many at once as FFmpeg reads."""
    most = points.samples_per_packet
    counts = -(-chunks.samples // most)
    total = int(counts.sum())
    _admit(total)
    before = (np.arange(total, dtype=np.int64) - np.repeat(starts_of(counts), counts)) * most
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
