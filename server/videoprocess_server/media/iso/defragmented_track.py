"""A track of a movie in fragments, written as one of a movie without."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Final

import numpy as np

from videoprocess_server.media.iso.boxes import Box, Change, Part, Parts, build_full, child, rewrite, split
from videoprocess_server.media.iso.edit_list import EMPTY, Edit, build_edit_box, rescaled, shown_ticks
from videoprocess_server.media.iso.fragments import FragmentedTrack
from videoprocess_server.media.iso.layout import Run
from videoprocess_server.media.iso.movie import Movie, Track
from videoprocess_server.media.iso.sample_groups import merge_groups
from videoprocess_server.media.iso.samples import Samples, Ticks
from videoprocess_server.media.iso.table_boxes import NewTable, first_of_chunks
from videoprocess_server.media.iso.timing import to_ticks

#: boxes of a sample table that are written anew, or merged
_REBUILT: Final = frozenset(
    {
        b"stsd",
        b"stts",
        b"ctts",
        b"stss",
        b"stsc",
        b"stsz",
        b"stz2",
        b"stco",
        b"co64",
        b"sdtp",
        b"sbgp",
        b"sgpd",
    }
)


class DefragmentedTrack:
    """A trak with the samples of the movie and of all its fragments."""

    def __init__(self, movie: Movie, track: Track, fragmented: FragmentedTrack) -> None:
        self._movie, self._track = movie, track
        samples = track.samples()
        stbl = child(track.box, b"mdia", b"minf", b"stbl")
        own_count = len(samples) - len(fragmented.size)
        self._own_end = int(samples.dts[own_count - 1] + samples.duration[own_count - 1]) if own_count else 0
        #: media time of the source that is media time 0 here
        self._zero = int(samples.dts[0]) if len(samples) else 0
        self._end = int((samples.pts + samples.duration).max()) if len(samples) else 0
        breaks = _breaks(samples)
        chunks = first_of_chunks(samples.dts, track.timescale, breaks)
        groups, lost_groups = merge_groups(stbl, fragmented.groups, own_count, len(samples))
        boxes = split(stbl.body, "stbl")[0] if stbl is not None else []
        stsd: Part = next((box.data for box in boxes if box.kind == b"stsd"), b"")
        unread = {kind.decode("latin-1"): count for kind, count in fragmented.unread.items()}
        unread |= dict.fromkeys(lost_groups, 1)
        if own_count:
            unread |= {box.name: 1 for box in boxes if box.kind not in _REBUILT}
        #: kinds of boxes that speak of samples and are not carried over, and how many
        self.unread = unread
        self._table = NewTable(
            stsd=stsd,
            durations=np.append(np.diff(samples.dts), samples.duration[-1:]),
            composition=samples.pts - samples.dts,
            size=samples.size,
            sync=samples.sync,
            chunk_starts=chunks,
            chunk_description=samples.description[chunks],
            more=[*_dependencies(boxes, fragmented, own_count), *groups],
        )
        self.run = Run(
            size=self._table.chunk_sizes,
            seconds=self._table.chunk_seconds(samples.dts, track.timescale),
            offset=samples.offset[chunks],
        )

    @property
    def inexact(self) -> list[Fraction]:
        """Seconds that must be ticks of the movie."""
        return [time for time, _, known in self._pieces() if known is None]

    def duration(self, scale: int) -> int:
        """Ticks of the finer movie that it is shown."""
        edits = self._edits(scale)
        if edits:
            return shown_ticks(edits)
        return to_ticks(
            Fraction(self._table.media_ticks, self._track.timescale), self._movie.timescale * scale
        )

    def build(
        self, offsets: Ticks, *, wide: bool, scale: int, changes: dict[tuple[bytes, ...], Change]
    ) -> Parts:
        """The trak.

        Args:
            offsets: where its chunks are.
            wide: whether offsets take 64 bits.
            scale: ticks of the movie for one of the source's.
            changes: what else becomes of boxes in it.
        """
        header = replace(self._track.header, duration=self.duration(scale))
        media_header = replace(self._track.media_header, duration=self._table.media_ticks)
        changes = {
            (b"tkhd",): lambda _: header.build() + build_edit_box(self._edits(scale)),
            (b"edts",): lambda _: [],
            (b"mdia", b"mdhd"): lambda _: media_header.build(),
            (b"mdia", b"minf", b"stbl"): lambda _: self._table.build(offsets, wide=wide),
            **changes,
        }
        return rewrite(self._track.box, changes)

    def _edits(self, scale: int) -> tuple[Edit, ...]:
        timescale = self._movie.timescale * scale
        return tuple(
            replace(edit, duration=to_ticks(time, timescale) if known is None else known * scale)
            for time, edit, known in self._pieces()
        )

    def _pieces(self) -> list[tuple[Fraction, Edit, int | None]]:
        """The edit list: how long each edit is, the edit, and its duration where the source tells it."""
        source, timescale = self._track.edits, self._track.timescale
        if not source and not self._zero:
            return []
        pieces: list[tuple[Fraction, Edit, int | None]] = []
        for k, edit in enumerate(source or (Edit(0, 0),)):
            seconds = Fraction(edit.duration, self._movie.timescale)
            known: int | None = edit.duration
            if edit.is_empty:
                pieces.append((seconds, edit, known))
                continue
            if k >= len(source) - 1 and self._goes_on(edit):
                known, seconds = None, Fraction(max(0, self._end - edit.media_time), timescale)
            before = min(seconds, Fraction(max(0, self._zero - edit.media_time), timescale))
            if before:
                pieces.append((before, Edit(0, EMPTY), None))
                known, seconds = None, seconds - before
            moved = replace(edit, media_time=max(0, edit.media_time - self._zero))
            if seconds:
                pieces.append((seconds, moved, known))
        return pieces

    def _goes_on(self, edit: Edit) -> bool:
        """Whether the last edit shows the fragments too: it has no length, or that of the movie without them."""
        if not edit.duration:
            return True
        end = edit.media_time + rescaled(edit.duration, self._track.timescale, self._movie.timescale)
        return self._own_end > 0 and end <= self._own_end


def _breaks(samples: Samples) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Samples that do not follow the one before in the file, or are described otherwise."""
    breaks = np.zeros(len(samples), dtype=np.bool_)
    breaks[1:] = samples.offset[1:] != (samples.offset + samples.size)[:-1]
    breaks[1:] |= samples.description[1:] != samples.description[:-1]
    return breaks


def _dependencies(boxes: list[Box], fragmented: FragmentedTrack, own_count: int) -> Parts:
    own = next((bytes(box.body[4:]) for box in boxes if box.kind == b"sdtp"), b"")
    rest = fragmented.dependencies()
    if not own and not rest.any():
        return []
    return [b"".join(build_full(b"sdtp", own[:own_count].ljust(own_count, b"\0"), rest.tobytes()))]
