"""A track, as its trak box tells it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np

from videoprocess_server.media.iso.boxes import Box, broken, child, split, unpack
from videoprocess_server.media.iso.edit_list import Edit, read_edits
from videoprocess_server.media.iso.fragments import FragmentedTrack
from videoprocess_server.media.iso.headers import Header, read_header
from videoprocess_server.media.iso.sample_tables import Chunks, SampleTable
from videoprocess_server.media.iso.samples import Samples
from videoprocess_server.media.iso.sound import is_uncompressed, read_sound_chunks

_COUNT: Final = struct.Struct(">4xI")
_DATA_REFERENCE_AT: Final = 6
_SELF_CONTAINED: Final = 1
_HANDLER_AT: Final = 8
#: tracks that one refers to; real ones refer to one or two
_MOST_REFERENCES: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Track:
    """One trak."""

    box: Box
    header: Header
    media_header: Header
    #: four characters: vide, soun, meta, text …
    handler: str
    #: whole boxes
    sample_entries: tuple[bytes, ...]
    edits: tuple[Edit, ...]
    #: ids of other tracks by kind of reference
    references: dict[str, tuple[int, ...]]
    #: numbers of sample entries, from 1, whose media is in another file
    external_entries: frozenset[int]
    table: SampleTable
    #: of the movie's fragments, None where it has none for this track
    fragmented: FragmentedTrack | None

    @property
    def track_id(self) -> int:
        """Its number in the file, which FFmpeg calls the stream's id."""
        return self.header.number

    @property
    def timescale(self) -> int:
        """Ticks of its media in a second."""
        return self.media_header.number

    @property
    def language(self) -> str:
        """Three letters, or a number of QuickTime's."""
        return self.media_header.language

    @property
    def width(self) -> Fraction:
        """As it is shown, before the matrix."""
        return self.header.size[0]

    @property
    def height(self) -> Fraction:
        """As it is shown, before the matrix."""
        return self.header.size[1]

    @property
    def matrix(self) -> tuple[int, ...]:
        """Nine numbers, row by row."""
        return self.header.matrix

    @property
    def is_external(self) -> bool:
        """Whether media of it is in another file."""
        return bool(self.external_entries)

    def chunks(self) -> Chunks:
        """Those of the movie itself, without its fragments."""
        return self.table.chunks()

    def samples(self) -> Samples:
        """All of them, those of fragments after those of the movie itself.

        Raises:
            MediaFault: the tables contradict themselves, or there are more than can be handled.
        """
        own = self.table.samples()
        if self.fragmented is None:
            return own
        rest = self.fragmented.samples()
        if not len(own):
            return rest
        return Samples(
            **{
                name: np.concatenate((getattr(own, name), getattr(rest, name)))
                for name in ("offset", "size", "dts", "pts", "duration", "sync", "description")
            }
        )

    def with_fragments(self, fragmented: FragmentedTrack | None) -> Track:
        """The same track with its samples of fragments."""
        return replace(self, fragmented=fragmented)


def read_track(trak: Box, file_size: int) -> Track:
    """Read a track, without the samples of fragments.

    Args:
        trak: its box.
        file_size: in bytes.

    Raises:
        MediaFault: its boxes contradict themselves.
    """
    mdia = child(trak, b"mdia")
    media_header = read_header(child(mdia, b"mdhd"), b"mdhd")
    if not media_header.number:
        raise broken("mdhd", "has a time scale of 0")
    hdlr = child(mdia, b"hdlr")
    handler = bytes(hdlr.body[_HANDLER_AT : _HANDLER_AT + 4]).decode("latin-1") if hdlr else ""
    minf = child(mdia, b"minf")
    stbl = child(minf, b"stbl")
    entries = _sample_entries(child(stbl, b"stsd"))
    sound = entries[0] if handler == "soun" and entries else None
    return Track(
        box=trak,
        header=read_header(child(trak, b"tkhd"), b"tkhd"),
        media_header=media_header,
        handler=handler,
        sample_entries=tuple(bytes(entry.data) for entry in entries),
        edits=read_edits(child(trak, b"edts", b"elst")),
        references=_references(child(trak, b"tref")),
        external_entries=_external_entries(entries, child(minf, b"dinf", b"dref")),
        table=SampleTable(
            stbl,
            file_size,
            read_sound_chunks(sound) if sound else None,
            is_uncompressed=sound is not None and is_uncompressed(sound),
        ),
        fragmented=None,
    )


def _sample_entries(stsd: Box | None) -> list[Box]:
    if stsd is None:
        return []
    (count,) = unpack(_COUNT, stsd, 0)
    entries, _ = split(stsd.body[_COUNT.size :], "stsd")
    return entries[:count]


def _external_entries(entries: list[Box], dref: Box | None) -> frozenset[int]:
    if dref is None:
        return frozenset()
    unpack(_COUNT, dref, 0)
    references, _ = split(dref.body[_COUNT.size :], "dref")
    inside = {
        number
        for number, reference in enumerate(references, 1)
        if len(reference.body) >= 4 and reference.body[3] & _SELF_CONTAINED
    }
    external = set()
    for number, entry in enumerate(entries, 1):
        index = int.from_bytes(entry.body[_DATA_REFERENCE_AT : _DATA_REFERENCE_AT + 2], "big")
        if 0 < index <= len(references) and index not in inside:
            external.add(number)
    return frozenset(external)


def _references(tref: Box | None) -> dict[str, tuple[int, ...]]:
    if tref is None:
        return {}
    boxes, _ = split(tref.body, "tref")
    return {
        box.kind.decode("latin-1"): tuple(
            int(number)
            for number in np.frombuffer(box.body[: len(box.body) // 4 * 4], dtype=">u4")[:_MOST_REFERENCES]
        )
        for box in boxes
    }
