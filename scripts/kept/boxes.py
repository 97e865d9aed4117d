"""The boxes of an ISO file as MediaInfo's trace finds them; their bytes are then read from where it says."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kept import programs

_SPACE = "{https://mediaarea.net/mediatrace}"


_TABLE = ("mdia", "minf", "stbl")
_TIMING = (
    ("edts",),
    ("mdia", "mdhd"),
    (*_TABLE, "stts"),
    (*_TABLE, "ctts"),
    (*_TABLE, "stsz"),
    (*_TABLE, "stz2"),
)


@dataclass(frozen=True)
class Box:
    """A box: its four letters, where it is, and what is in it."""

    kind: str
    offset: int
    size: int
    inner: tuple[Box, ...]

    def find(self, *path: str) -> Box | None:
        """Return the first box at a path of four letters each; None if there is none."""
        if not path:
            return self
        return next(
            (found for box in self.inner if box.kind == path[0] and (found := box.find(*path[1:]))), None
        )


@dataclass(frozen=True)
class TrackBoxes:
    """What the boxes of one track say."""

    track_id: int
    #: kind of reference → ids of tracks
    references: dict[str, tuple[int, ...]]
    #: the whole sample description box
    stsd: bytes
    #: kinds of boxes within the sample entries, such as `colr`
    extensions: tuple[str, ...]
    #: the nine numbers of the display matrix, and width and height for display
    matrix: bytes
    display_size: bytes
    #: handler type
    handler: str
    #: all that says when its samples are shown: the movie's time scale, edit list, durations, offsets
    timing: bytes


def read_boxes(path: Path) -> tuple[Box, ...]:
    """Return the boxes at the top of a file."""
    root = ET.fromstring(programs.mediainfo_trace(path))
    media = root.find(f"{_SPACE}media")
    return () if media is None else tuple(_boxes(media))


def read_tracks(path: Path) -> list[TrackBoxes]:
    """Return the tracks of an ISO file, in their order; none if it is no such file."""
    moov = next((box for box in read_boxes(path) if box.kind == "moov"), None)
    if moov is None:
        return []
    data = path.read_bytes()
    movie = _bytes(moov.find("mvhd"), data)
    scale = movie[28:32] if movie[8:9] == b"\1" else movie[20:24]
    return [_track(box, data, scale) for box in moov.inner if box.kind == "trak"]


def _track(trak: Box, data: bytes, movie_scale: bytes) -> TrackBoxes:
    header, stsd = trak.find("tkhd"), trak.find("mdia", "minf", "stbl", "stsd")
    handler = trak.find("mdia", "hdlr")
    tkhd = _bytes(header, data)
    long = tkhd[8:9] == b"\1"
    tref = trak.find("tref")
    return TrackBoxes(
        track_id=int.from_bytes(tkhd[28:32] if long else tkhd[20:24]),
        references={box.kind: _ids(_bytes(box, data)[8:]) for box in tref.inner} if tref else {},
        stsd=_bytes(stsd, data),
        extensions=tuple(box.kind for entry in stsd.inner for box in entry.inner) if stsd else (),
        matrix=tkhd[-44:-8],
        display_size=tkhd[-8:],
        handler=_bytes(handler, data)[16:20].decode("latin-1"),
        timing=b"".join((movie_scale, *(_bytes(trak.find(*path), data) for path in _TIMING))),
    )


def _ids(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[k : k + 4]) for k in range(0, len(data), 4))


def _bytes(box: Box | None, data: bytes) -> bytes:
    return data[box.offset : box.offset + box.size] if box else b""


def _boxes(block: ET.Element) -> Iterator[Box]:
    for inner in block.findall(f"{_SPACE}block"):
        kind = _kind(inner)
        if kind:
            yield Box(kind, int(inner.get("offset", 0)), int(inner.get("size", 0)), tuple(_boxes(inner)))


def _kind(block: ET.Element) -> str:
    """Return the four letters that the trace reads in a block's header; empty where it is no box."""
    for header in block.findall(f"{_SPACE}block"):
        if header.get("name") == "Header":
            names = [
                data.text or "" for data in header.findall(f"{_SPACE}data") if data.get("name") == "Name"
            ]
            return names[0] if names else ""
    return ""
