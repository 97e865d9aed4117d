"""A track that stays as it is: only where its chunks lie is new."""

from __future__ import annotations

import numpy as np

from videoprocess_server.media.iso.boxes import Box, Change, Parts, rewrite
from videoprocess_server.media.iso.edit_list import build_edits, read_edits, scaled
from videoprocess_server.media.iso.headers import read_header
from videoprocess_server.media.iso.layout import Run
from videoprocess_server.media.iso.movie import Track
from videoprocess_server.media.iso.samples import Ticks
from videoprocess_server.media.iso.table_boxes import build_offsets, seconds_of

STBL: tuple[bytes, ...] = (b"mdia", b"minf", b"stbl")


class CopiedTrack:
    """A trak with its chunks."""

    def __init__(self, track: Track) -> None:
        self._track = track
        chunks = track.chunks()
        self._offset = chunks.offset
        inside = ~np.isin(chunks.description, list(track.external_entries))
        self._inside = np.flatnonzero(inside)
        self.run = Run(
            size=chunks.size[self._inside],
            seconds=seconds_of(chunks.dts[self._inside], track.timescale),
            offset=chunks.offset[self._inside],
        )

    @property
    def largest_offset(self) -> int:
        """Of the chunks in other files, which stay where they are."""
        outside = np.delete(self._offset, self._inside)
        return int(outside.max()) if len(outside) else 0

    def duration(self, scale: int) -> int | None:
        """Ticks of the finer movie that it is shown."""
        return self._track.header.scaled(scale).duration

    def build(
        self, offsets: Ticks, *, wide: bool, scale: int, changes: dict[tuple[bytes, ...], Change]
    ) -> Parts:
        """The trak.

        Args:
            offsets: where its chunks are now.
            wide: whether offsets take 64 bits.
            scale: ticks of the movie for one of the source's.
            changes: what else becomes of boxes in it.
        """
        placed = self._offset.copy()
        placed[self._inside] = offsets
        found: list[Box] = []

        def rebuilt(box: Box) -> Parts:
            found.append(box)
            return build_offsets(placed, wide=wide) if len(found) == 1 else []

        changes = {(*STBL, b"stco"): rebuilt, (*STBL, b"co64"): rebuilt, **changes}
        if scale > 1:
            changes[b"tkhd",] = lambda box: read_header(box, b"tkhd").scaled(scale).build()
            changes[b"edts", b"elst"] = lambda box: build_edits(scaled(read_edits(box), scale))
        return rewrite(self._track.box, changes)
