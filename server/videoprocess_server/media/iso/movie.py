"""A movie and its tracks, as the file tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import Box, broken, child, split
from videoprocess_server.media.iso.fragments import FragmentedTrack, FragmentReader, read_defaults
from videoprocess_server.media.iso.headers import Header, read_header
from videoprocess_server.media.iso.top_level import Place, TopLevel, read_at, read_box, read_top_level
from videoprocess_server.media.iso.track import Track, read_track
from videoprocess_server.media.iso.user_keys import UserValue, read_user_keys

__all__ = ["Movie", "Track", "read_movie"]
#: tracks of a file; cameras write up to about ten
_MOST_TRACKS: Final = 1000
#: real ones name about ten brands
_MOST_FTYP_BYTES: Final = 1 << 16


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
    tracks = [read_track(trak, top_level.file_size) for trak in traks]
    fragments = _read_fragments(fd, top_level, child(moov, b"mvex"), tracks)
    ftyp = _read_ftyp(fd, top_level.ftyp)
    major, minor, compatible = _brands(ftyp, top_level.ftyp)
    return Movie(
        box=moov,
        header=header,
        tracks=tuple(track.with_fragments(fragments.get(track.track_id)) for track in tracks),
        major_brand=major,
        compatible_brands=compatible,
        minor_version=minor,
        moov_first=top_level.media_offset is None or top_level.moov.offset < top_level.media_offset,
        is_fragmented=bool(top_level.moofs) or b"mvex" in kinds,
        user_keys=_user_keys(moov),
        top_level=top_level,
        ftyp=ftyp,
    )


def _read_ftyp(fd: int, place: Place | None) -> bytes:
    if place is None:
        return b""
    if place.size > _MOST_FTYP_BYTES:
        raise broken("ftyp", f"has {place.size} bytes")
    return read_at(fd, place.offset, place.size)


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


def _brands(ftyp: bytes, place: Place | None) -> tuple[str, int, tuple[str, ...]]:
    """The major brand, QuickTime's where there is no ftyp, the minor version, and the compatible brands."""
    start = place.header_size if place else 0
    if len(ftyp) < start + 8:
        return "qt  ", 0, ()
    brands = [ftyp[at : at + 4] for at in range(start, len(ftyp) - 3, 4)]
    names = tuple(brand.decode("latin-1") for brand in brands[2:])
    return brands[0].decode("latin-1"), int.from_bytes(brands[1], "big"), names
