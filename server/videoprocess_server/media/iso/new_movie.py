"""Writes a file of nothing but tracks of our own, such as a maker track without its video."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Final

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.added import NewTrack
from videoprocess_server.media.iso.added_track import AddedTrack
from videoprocess_server.media.iso.boxes import UINT32_MAX, Parts, build, size_of
from videoprocess_server.media.iso.headers import IDENTITY_MATRIX, Header
from videoprocess_server.media.iso.layout import Beat, Layout
from videoprocess_server.media.iso.samples import Ticks
from videoprocess_server.media.iso.transplant import media_head, write_parts
from videoprocess_server.media.iso.user_keys import UserValue, write_user_keys

#: MP4 as players of all kinds read it
_BRANDS: Final = b"mp42" + bytes(4) + b"mp42" + b"isom"
_MOST_TICKS_PER_SECOND: Final = 0x7FFF_FFFF
#: normal speed and loudness
_RATE_AND_VOLUME: Final = b"\0\1\0\0\1\0"
_NOTHING_READ: Final = -1


def write_movie(
    out: BinaryIO,
    tracks: Sequence[NewTrack],
    *,
    keys: Mapping[str, UserValue] | None = None,
    beat: Beat = lambda _: None,
) -> None:
    """Write an MP4 file of these tracks, the movie box first.

    Args:
        out: where to; written from its beginning to its end, never sought in.
        tracks: at least one.
        keys: user metadata.
        beat: is told the bytes of each block that is written.

    Raises:
        MediaFault: a track's numbers cannot be of one track.
    """
    if not tracks:
        raise MediaFault("JOIN_FAILED", "A file needs a track.")
    timescale = math.lcm(*(track.timescale for track in tracks))
    if timescale > _MOST_TICKS_PER_SECOND:
        timescale = max(track.timescale for track in tracks)
    added = [
        AddedTrack(track, track_id, timescale, is_quicktime=False) for track_id, track in enumerate(tracks, 1)
    ]
    layout = Layout([track.run for track in added], (), file_size=0)
    ftyp, head = build(b"ftyp", _BRANDS), media_head(layout.size)

    def moov(base: int, *, wide: bool) -> Parts:
        places: list[Ticks] = [position + base for position in layout.positions]
        duration = max(track.duration(1) for track in added)
        rest = (
            _RATE_AND_VOLUME + bytes(10) + IDENTITY_MATRIX + bytes(24) + (len(added) + 1).to_bytes(4, "big")
        )
        parts = Header(b"mvhd", 0, 0, 0, 0, timescale, duration, b"", rest).build()
        for track, offsets in zip(added, places, strict=False):
            parts += track.build(offsets, wide=wide, scale=1)
        if keys:
            parts += write_user_keys(None, keys, is_quicktime=False)
        return build(b"moov", *parts)

    before = size_of(ftyp) + len(head)
    wide = before + size_of(moov(0, wide=False)) + layout.size > UINT32_MAX
    base = before + size_of(moov(0, wide=wide))
    for parts in (ftyp, moov(base, wide=wide), [head]):
        write_parts(out, parts, beat)
    layout.write(_NOTHING_READ, out, beat)
