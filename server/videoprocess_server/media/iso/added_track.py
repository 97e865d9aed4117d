"""A track of our own in a file, such as the maker track."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import numpy as np

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.added import NewTrack
from videoprocess_server.media.iso.boxes import U16, U32, Parts, build, build_full
from videoprocess_server.media.iso.edit_list import EMPTY, Edit, build_edit_box, shown_ticks
from videoprocess_server.media.iso.headers import IDENTITY_MATRIX, Header
from videoprocess_server.media.iso.layout import Run
from videoprocess_server.media.iso.samples import Ticks, constant
from videoprocess_server.media.iso.table_boxes import NewTable, build_description, first_of_chunks
from videoprocess_server.media.iso.timing import to_ticks

#: enabled, in the movie
_TRACK_FLAGS: Final = 3
#: QuickTime's header of media that is neither picture nor sound
_GENERIC_HEADER: Final = U16.pack(0x40) + U16.pack(0x8000) * 3 + bytes(4)


class AddedTrack:
    """A trak made from nothing."""

    def __init__(self, track: NewTrack, track_id: int, movie_timescale: int, *, is_quicktime: bool) -> None:
        """Compare the track's numbers with each other.

        Args:
            track: what is in it.
            track_id: its number in the file.
            movie_timescale: ticks in a second.
            is_quicktime: whether the file's brand is QuickTime's.

        Raises:
            MediaFault: they cannot be of one track.
        """
        counts = {len(track.times), len(track.durations), len(track.payloads)}
        if counts == {0} or len(counts) != 1 or np.any(np.diff(track.times) < 0) or track.times[0] < 0:
            raise MediaFault("JOIN_FAILED", "An added track has no samples, or tables of different lengths.")
        self.track_id = track_id
        self._track = track
        self._movie_timescale = movie_timescale
        self._is_quicktime = is_quicktime
        dts = track.times - track.times[0]
        chunks = first_of_chunks(dts, track.timescale)
        self._table = NewTable(
            stsd=build_description(track.sample_entry),
            durations=np.append(np.diff(dts), track.durations[-1]),
            composition=constant(0, len(dts)),
            size=np.array([len(payload) for payload in track.payloads], dtype=np.int64),
            sync=np.ones(len(dts), dtype=np.bool_),
            chunk_starts=chunks,
            chunk_description=constant(1, len(chunks)),
        )
        self.run = Run(
            size=self._table.chunk_sizes,
            seconds=self._table.chunk_seconds(track.times, track.timescale),
            read=lambda: iter(track.payloads),
        )

    @property
    def inexact(self) -> list[Fraction]:
        """Seconds that must be ticks of the movie."""
        return [self._start, self._length] if self._start else []

    def duration(self, scale: int) -> int:
        """Ticks of the finer movie that it is shown."""
        timescale = self._movie_timescale * scale
        return shown_ticks(self._edits(timescale)) or to_ticks(self._length, timescale)

    def build(self, offsets: Ticks, *, wide: bool, scale: int) -> Parts:
        """The trak.

        Args:
            offsets: where its chunks are.
            wide: whether offsets take 64 bits.
            scale: ticks of the movie for one of the source's.
        """
        track = self._track
        header = Header(
            b"tkhd", 0, _TRACK_FLAGS, 0, 0, self.track_id, self.duration(scale), bytes(4),
            bytes(16) + IDENTITY_MATRIX + bytes(8),
        )  # fmt: skip
        language = _language(track.language) + bytes(2)
        media = Header(b"mdhd", 0, 0, 0, 0, track.timescale, self._table.media_ticks, b"", language)
        reference: Parts = []
        if track.reference:
            kind, other = track.reference
            reference = build(b"tref", *build(kind, U32.pack(other)))
        handler = build_full(b"hdlr", self._handler())
        data = build(b"dinf", *build_full(b"dref", U32.pack(1), *build_full(b"url ", flags=1)))
        table = self._table.build(offsets, wide=wide)
        information = build(b"minf", *self._media_information(), *data, *table)
        edits = build_edit_box(self._edits(self._movie_timescale * scale))
        mdia = build(b"mdia", *media.build(), *handler, *information)
        return build(b"trak", *header.build(), *edits, *reference, *mdia)

    @property
    def _start(self) -> Fraction:
        return Fraction(int(self._track.times[0]), self._track.timescale)

    @property
    def _length(self) -> Fraction:
        return Fraction(self._table.media_ticks, self._track.timescale)

    def _edits(self, timescale: int) -> tuple[Edit, ...]:
        if not self._start:
            return ()
        return Edit(to_ticks(self._start, timescale), EMPTY), Edit(to_ticks(self._length, timescale), 0)

    def _handler(self) -> bytes:
        name = self._track.name.encode()
        kind = self._track.handler.encode("latin-1")
        if self._is_quicktime:
            return b"mhlr" + kind + bytes(12) + bytes((min(255, len(name)),)) + name[:255]
        return bytes(4) + kind + bytes(12) + name + b"\0"

    def _media_information(self) -> Parts:
        if self._is_quicktime:
            return build(b"gmhd", *build_full(b"gmin", _GENERIC_HEADER))
        return build_full(b"nmhd")


def _language(letters: str) -> bytes:
    code = 0
    for letter in letters:
        code = code << 5 | (ord(letter) - 0x60) & 0x1F
    return U16.pack(code & 0x7FFF)
