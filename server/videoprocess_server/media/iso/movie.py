"""A movie and its tracks, as the file tells them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import Box, broken, child, split, unpack
from videoprocess_server.media.iso.edit_list import Edit, read_edits, shown_ticks
from videoprocess_server.media.iso.fragments import FragmentedTrack, FragmentReader, read_defaults
from videoprocess_server.media.iso.headers import Header, read_header
from videoprocess_server.media.iso.sample_tables import Chunks, SampleTable
from videoprocess_server.media.iso.samples import Samples
from videoprocess_server.media.iso.sound import is_uncompressed, read_sound_chunks
from videoprocess_server.media.iso.top_level import Place, TopLevel, read_at, read_box, read_top_level
from videoprocess_server.media.iso.user_keys import UserValue, read_user_keys

#: tracks of a file; cameras write up to about ten
_MOST_TRACKS: Final = 1000
_COUNT: Final = struct.Struct(">4xI")
_DATA_REFERENCE_AT: Final = 6
_SELF_CONTAINED: Final = 1
_HANDLER_AT: Final = 8


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


@dataclass(frozen=True, kw_only=True)
class Movie:
    """A file's moov, and where the rest of the file is."""

    box: Box
    header: Header
    tracks: tuple[Track, ...]
    major_brand: str
    #: of the ftyp, without the major one; empty without ftyp
    compatible_brands: tuple[str, ...]
    minor_version: int
    moov_first: bool
    is_fragmented: bool
    user_keys: Mapping[str, UserValue]
    top_level: TopLevel = field(repr=False)
    #: whole ftyp, empty without
    ftyp: bytes = field(repr=False)

    @property
    def timescale(self) -> int:
        """Ticks of the movie in a second."""
        return self.header.number

    def track(self, track_id: int) -> Track:
        """The track of an id.

        Raises:
            MediaFault: there is none.
        """
        for track in self.tracks:
            if track.track_id == track_id:
                return track
        raise MediaFault("JOIN_FAILED", f"The file has no track {track_id}.")


def read_movie(fd: int) -> Movie:
    """Read a file's boxes, without its media.

    Args:
        fd: the file, opened for reading; where it stands does not matter and does not change.

    Raises:
        MediaFault: JOIN_FAILED, and which box is wrong.
    """
    top_level = read_top_level(fd)
    if top_level.moov is None:
        raise MediaFault("JOIN_FAILED", "The file has no moov box.")
    moov = read_box(fd, top_level.moov)
    boxes, _ = split(moov.body, "moov")
    kinds = {box.kind for box in boxes}
    if b"cmov" in kinds:
        raise broken("moov", "is compressed (cmov), which is not read")
    header = read_header(child(moov, b"mvhd"), b"mvhd")
    if not header.number:
        raise broken("mvhd", "has a time scale of 0")
    traks = [box for box in boxes if box.kind == b"trak"]
    if len(traks) > _MOST_TRACKS:
        raise broken("moov", f"has {len(traks)} tracks")
    tracks = [_read_track(trak, top_level.file_size) for trak in traks]
    fragments = _read_fragments(fd, top_level, child(moov, b"mvex"), tracks)
    ftyp = read_at(fd, top_level.ftyp.offset, min(top_level.ftyp.size, 4096)) if top_level.ftyp else b""
    major, minor, compatible = _brands(ftyp, top_level.ftyp)
    return Movie(
        box=moov,
        header=header,
        tracks=tuple(_with_fragments(track, fragments.get(track.track_id)) for track in tracks),
        major_brand=major,
        compatible_brands=compatible,
        minor_version=minor,
        moov_first=top_level.media_offset is None or top_level.moov.offset < top_level.media_offset,
        is_fragmented=bool(top_level.moofs) or b"mvex" in kinds,
        user_keys=_user_keys(moov),
        top_level=top_level,
        ftyp=ftyp,
    )


def read_shown_until(fd: int, place: int) -> Fraction | None:
    """The second at which a track ends by its edit list, which FFmpeg does not tell; None where it has none.

    Args:
        fd: the file.
        place: the track's among all, from 0.

    Raises:
        MediaFault: the file's boxes contradict themselves.
    """
    movie = read_movie(fd)
    if place >= len(movie.tracks) or not movie.tracks[place].edits:
        return None
    return Fraction(shown_ticks(movie.tracks[place].edits), movie.timescale)


def _read_track(trak: Box, file_size: int) -> Track:
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


def _with_fragments(track: Track, fragmented: FragmentedTrack | None) -> Track:
    if fragmented is None:
        return track
    fields = {name: getattr(track, name) for name in Track.__dataclass_fields__}
    return Track(**{**fields, "fragmented": fragmented})


def _read_fragments(
    fd: int, top_level: TopLevel, mvex: Box | None, tracks: list[Track]
) -> dict[int, FragmentedTrack]:
    if not top_level.moofs:
        return {}
    ends = {}
    for track in tracks:
        own = track.table.samples()
        ends[track.track_id] = int(own.dts[-1] + own.duration[-1]) if len(own) else 0
    reader = FragmentReader(read_defaults(mvex), top_level.file_size, ends)
    for k in range(0, len(top_level.moofs), 3):
        offset, size, header_size = top_level.moofs[k : k + 3]
        reader.read(read_box(fd, Place(b"moof", offset, size, header_size)), offset)
    return reader.tracks


def _user_keys(moov: Box) -> dict[str, UserValue]:
    """What can be read of them: a file is no worse for metadata that is not."""
    try:
        return read_user_keys(child(moov, b"meta"))
    except MediaFault:
        return {}


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
            for number in np.frombuffer(box.body[: len(box.body) // 4 * 4], dtype=">u4")[:_MOST_TRACKS]
        )
        for box in boxes
    }


def _brands(ftyp: bytes, place: Place | None) -> tuple[str, int, tuple[str, ...]]:
    """The major brand, QuickTime's where there is no ftyp, the minor version, and the compatible brands."""
    start = place.header_size if place else 0
    if len(ftyp) < start + 8:
        return "qt  ", 0, ()
    brands = [ftyp[at : at + 4] for at in range(start, len(ftyp) - 3, 4)]
    names = tuple(brand.decode("latin-1") for brand in brands[2:])
    return brands[0].decode("latin-1"), int.from_bytes(brands[1], "big"), names
