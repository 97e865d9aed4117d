"""The track whose media is replaced: everything of the source's trak that still holds, around a new sample table."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from typing import Final

import numpy as np

from videoprocess_server.media.iso.added import NewPicture
from videoprocess_server.media.iso.boxes import (
    U32,
    Box,
    Change,
    Part,
    Parts,
    broken,
    build,
    build_full,
    child,
    rewrite,
    split,
)
from videoprocess_server.media.iso.edit_list import Edit, build_edit_box, shown_ticks
from videoprocess_server.media.iso.headers import Header
from videoprocess_server.media.iso.layout import Run
from videoprocess_server.media.iso.movie import Movie, Track
from videoprocess_server.media.iso.samples import Ticks, constant
from videoprocess_server.media.iso.table_boxes import NewTable, build_description, first_of_chunks
from videoprocess_server.media.iso.timing import ShownTimes, to_ticks

_DATA_REFERENCE_AT: Final = 14
#: of a visual sample entry: width and height
_CODED_SIZE: Final = struct.Struct(">HH")
_CODED_SIZE_AT: Final = 32
_EXTENSIONS_AT: Final = 86
#: QuickTime's sizes for the ways to show a track, in 16.16 after version and flags
_APERTURES: Final = ((b"tapt", b"clef"), (b"tapt", b"prof"), (b"tapt", b"enof"))
_APERTURE: Final = struct.Struct(">4sII")


class PictureTrack:
    """A trak with a new picture."""

    def __init__(self, movie: Movie, picture: NewPicture) -> None:
        picture.check()
        self._picture = picture
        self._track = track = movie.track(picture.track_id)
        self._movie = movie
        start, last_pts, end = int(picture.pts.min()), int(picture.pts.max()), picture.shown_until
        first_dts = int(picture.dts[0])
        #: without an edit list a player shows the media from its time 0 on
        self._zero = 0 if start < 0 else first_dts
        self._times = ShownTimes(track.edits, movie.timescale, (start, last_pts, end), picture.timescale)
        self._needs_edits = start >= 0 and bool(track.edits or start > 0 or first_dts != 0)
        dts = picture.dts - first_dts
        # As long in all as it is shown, which is what readers count frame rates by.
        last = end - start - int(dts[-1]) + (self._hidden_ticks() if self._needs_edits else 0)
        chunks = first_of_chunks(dts, picture.timescale)
        entry = picture.sample_entry
        self._table = NewTable(
            stsd=build_description(entry[:_DATA_REFERENCE_AT] + b"\0\1" + entry[_DATA_REFERENCE_AT + 2 :]),
            durations=np.append(np.diff(dts), last if last > 0 else end - last_pts),
            composition=picture.pts - self._zero - dts,
            size=picture.size,
            sync=picture.sync,
            chunk_starts=chunks,
            chunk_description=constant(1, len(chunks)),
        )
        self.run = Run(
            size=self._table.chunk_sizes,
            seconds=self._table.chunk_seconds(dts, picture.timescale),
            read=picture.read,
        )

    @property
    def inexact(self) -> list[Fraction]:
        """Seconds that must be ticks of the movie."""
        return self._times.inexact() if self._needs_edits else []

    def edits(self, scale: int) -> tuple[Edit, ...]:
        """The edit list."""
        if not self._needs_edits:
            return ()
        return self._times.edits(int(self._picture.pts.min()) - self._zero, scale)

    def duration(self, scale: int) -> int:
        """Ticks of the finer movie that it is shown."""
        edits = self.edits(scale)
        if edits:
            return shown_ticks(edits)
        length = Fraction(self._table.media_ticks, self._picture.timescale)
        known, tick = self._track.header.duration, Fraction(1, self._movie.timescale)
        if known is not None and abs(known * tick - length) <= tick:
            return known * scale
        return to_ticks(length, self._movie.timescale * scale)

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
        media_header = replace(
            self._track.media_header, number=self._picture.timescale, duration=self._table.media_ticks
        )
        shown_wider, shown_higher = self._growth()
        changes = {
            (b"tkhd",): lambda _: self._header(scale).build() + build_edit_box(self.edits(scale)),
            (b"edts",): lambda _: [],
            (b"mdia", b"mdhd"): lambda _: media_header.build(),
            (b"mdia", b"minf", b"stbl"): lambda _: self._table.build(offsets, wide=wide),
            (b"mdia", b"minf", b"dinf"): _self_contained,
            **changes,
        }
        if shown_wider != 1 or shown_higher != 1:
            changes |= {path: lambda box: _grown(box, shown_wider, shown_higher) for path in _APERTURES}
        if child(self._track.box, b"mdia", b"minf", b"stbl") is None:
            raise broken("minf", "of the picture has no stbl")
        return rewrite(self._track.box, changes)

    def _header(self, scale: int) -> Header:
        header = replace(self._track.header, duration=self.duration(scale))
        if self._picture.matrix is not None:
            header = header.with_matrix(self._picture.matrix)
        wider, higher = self._growth()
        return header.with_size(header.size[0] * wider, header.size[1] * higher)

    def _hidden_ticks(self) -> int:
        """How much longer the last frame is than it is shown: where all others are of one length, as long as they."""
        shown = np.sort(self._picture.pts)
        steps = np.diff(shown)
        if not len(steps) or int(steps.min()) != int(steps.max()):
            return 0
        return max(0, int(steps[0]) - (self._picture.shown_until - int(shown[-1])))

    def _growth(self) -> tuple[Fraction, Fraction]:
        """How much wider and higher the picture is shown than the source's."""
        picture, (width, height) = self._picture, self._track.header.size
        coded = _coded_size(self._track)
        if coded in {None, (picture.width, picture.height)} or not width or not height:
            return Fraction(1), Fraction(1)
        assert coded is not None
        higher = Fraction(picture.height, coded[1])
        if picture.sample_aspect_ratio is None:
            return Fraction(picture.width, coded[0]), higher
        shown = height * higher * picture.width * picture.sample_aspect_ratio / picture.height
        return shown / width, higher


def _coded_size(track: Track) -> tuple[int, int] | None:
    """Pixels of the source's picture, None where it does not say."""
    if not track.sample_entries or len(track.sample_entries[0]) < _EXTENSIONS_AT:
        return None
    width, height = _CODED_SIZE.unpack_from(track.sample_entries[0], _CODED_SIZE_AT)
    return (width, height) if width and height else None


def _self_contained(dinf: Box) -> Parts:
    """The data information, whose first reference must be this file."""
    dref = child(dinf, b"dref")
    if dref is not None:
        references, _ = split(dref.body[8:], "dref")
        if references and len(references[0].body) >= U32.size and references[0].body[3] & 1:
            return [dinf.data]
    return build(b"dinf", *build_full(b"dref", U32.pack(1), *build_full(b"url ", flags=1)))


def _grown(box: Box, wider: Fraction, higher: Fraction) -> Parts:
    if len(box.body) < _APERTURE.size:
        return [box.data]
    head, width, height = _APERTURE.unpack_from(box.body)
    size = (min(0xFFFF_FFFF, round(width * wider)), min(0xFFFF_FFFF, round(height * higher)))
    rest: Part = box.body[_APERTURE.size :]
    return build(box.kind, _APERTURE.pack(head, *size), rest)
