"""The boxes of an ISO file as MediaInfo's trace finds them; their bytes are then read from where it says."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

from kept import programs
from kept.sample_times import (
    Fragment,
    fragment_samples,
    hidden_count,
    presentation_end,
    steps,
    table_samples,
)

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
    #: the second at which its last sample is no longer shown; None where there is none
    end: Fraction | None
    #: samples that the edit list hides
    hidden: int
    #: seconds from a sample to the next, and how many in a row
    steps: tuple[tuple[Fraction, int], ...]


def read_boxes(path: Path) -> tuple[Box, ...]:
    """Return the boxes at the top of a file."""
    root = ET.fromstring(programs.mediainfo_trace(path))
    media = root.find(f"{_SPACE}media")
    return () if media is None else tuple(_boxes(media))


def read_tracks(path: Path) -> list[TrackBoxes]:
    """Return the tracks of an ISO file, in their order; none if it is no such file."""
    top = read_boxes(path)
    moov = next((box for box in top if box.kind == "moov"), None)
    if moov is None:
        return []
    data = path.read_bytes()
    return [_track(box, data, moov, top) for box in moov.inner if box.kind == "trak"]


def _track(trak: Box, data: bytes, moov: Box, top: Sequence[Box]) -> TrackBoxes:
    header, stsd = trak.find("tkhd"), trak.find("mdia", "minf", "stbl", "stsd")
    handler = trak.find("mdia", "hdlr")
    tkhd = _bytes(header, data)
    long = tkhd[8:9] == b"\1"
    tref = trak.find("tref")
    track_id = int.from_bytes(tkhd[28:32] if long else tkhd[20:24])
    movie_scale, media_scale = (_scale(box, data) for box in (moov.find("mvhd"), trak.find("mdia", "mdhd")))
    samples = [
        *table_samples(*(_bytes(trak.find(*_TABLE, kind), data) for kind in ("stts", "ctts"))),
        *fragment_samples(_fragments(top, moov, track_id, data)),
    ]
    elst = _bytes(trak.find("edts", "elst"), data)
    return TrackBoxes(
        track_id=track_id,
        references={box.kind: _ids(_bytes(box, data)[8:]) for box in tref.inner} if tref else {},
        stsd=_bytes(stsd, data),
        extensions=tuple(box.kind for entry in stsd.inner for box in entry.inner) if stsd else (),
        matrix=tkhd[-44:-8],
        display_size=tkhd[-8:],
        handler=_bytes(handler, data)[16:20].decode("latin-1"),
        timing=b"".join((movie_scale.to_bytes(4), *(_bytes(trak.find(*path), data) for path in _TIMING))),
        end=presentation_end(samples, media_scale, elst, movie_scale),
        hidden=hidden_count(samples, media_scale, elst, movie_scale),
        steps=tuple((Fraction(step, media_scale), len(list(same))) for step, same in groupby(steps(samples))),
    )


def _scale(header: Box | None, data: bytes) -> int:
    """Read the ticks a second of a movie's or a media's header."""
    box = _bytes(header, data)
    return int.from_bytes(box[28:32] if box[8:9] == b"\1" else box[20:24])


def _fragments(top: Sequence[Box], moov: Box, track_id: int, data: bytes) -> Iterator[Fragment]:
    mvex = moov.find("mvex")
    told = [_bytes(box, data) for box in mvex.inner if box.kind == "trex"] if mvex else []
    default = next((int.from_bytes(box[20:24]) for box in told if _id(box) == track_id), 0)
    for moof in top:
        for traf in moof.inner if moof.kind == "moof" else ():
            header = _bytes(traf.find("tfhd"), data)
            if traf.kind == "traf" and _id(header) == track_id:
                runs = [_bytes(box, data) for box in traf.inner if box.kind == "trun"]
                yield Fragment(header, _bytes(traf.find("tfdt"), data), runs, default)


def _id(box: bytes) -> int:
    return int.from_bytes(box[12:16])


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
