"""What the boxes of an MP4, MOV or 3GP file declare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from videoprocess_server.media.declared import Declared, read
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import HEAD, LARGE

#: boxes that hold boxes, and are looked into
_CONTAINERS: Final = frozenset(
    {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"mvex", b"moof", b"traf"}
)
#: outermost boxes that FFmpeg reads into memory; it passes over others, such as those that cameras put their own in
_INDEX: Final = frozenset({b"moov", b"sidx"})
_METADATA: Final = frozenset({b"udta", b"meta", b"uuid"})
#: outermost boxes that are looked at; FFmpeg stops at the first media behind a movie box
_MOST_OUTERMOST: Final = 10_000
#: fragments that are looked into; FFmpeg reads the first
_MOST_FRAGMENTS: Final = 16
#: boxes inside each other: real files have six
_DEEPEST: Final = 10
#: tables whose rows cost memory, and where their number stands
_ROWS_AT: Final = {
    **dict.fromkeys((b"stts", b"ctts", b"stsc", b"stco", b"co64", b"stss", b"stps", b"elst", b"trun"), 4),
    b"sbgp": 8,
}
#: constant size and number of samples
_SAMPLES_AT: Final = 4
#: behind the head of a sample entry: where width and height of a picture are
_PICTURE_AT: Final = 24
#: sound of constant size is read in packets of so many samples
_SAMPLES_IN_PACKET: Final = 1024
_SOUND: Final = b"soun"


@dataclass
class _Track:
    """Of the track whose boxes are being looked at."""

    handler: bytes = b""
    samples: int = 0
    sample_bytes: int = 0
    #: of the table of durations: rows, and the duration in the first
    durations: tuple[int, int] = (0, 0)

    @property
    def packets(self) -> int:
        """What FFmpeg makes an index of: of sound whose samples are one tick each, not every sample."""
        if self.handler == _SOUND and self.sample_bytes and self.durations == (1, 1):
            return -(-self.samples // _SAMPLES_IN_PACKET)
        return self.samples


def check_boxes(fd: int, size: int, declared: Declared) -> None:
    """Look at the heads of all boxes that FFmpeg reads when it opens the file.

    Raises:
        MediaFault: OVER_LIMITS, or NOT_A_VIDEO where the movie box is compressed.
    """
    fragments = 0
    for kind, start, end in islice(_boxes(fd, 0, size), _MOST_OUTERMOST):
        inside = min(end, size)
        fragments += kind == b"moof"
        if kind in _INDEX:
            declared.add(index_bytes=inside - start)
        elif kind == b"meta":
            declared.add(metadata_bytes=inside - start)
        if kind == b"moov" or (kind == b"moof" and fragments <= _MOST_FRAGMENTS):
            _look_into(fd, start, inside, declared, _Track(), 1)


def _look_into(fd: int, start: int, end: int, declared: Declared, track: _Track, depth: int) -> None:
    if depth > _DEEPEST:
        raise MediaFault("OVER_LIMITS", f"The file's boxes lie in each other more than {_DEEPEST} deep.")
    for kind, begin, stop in _boxes(fd, start, end):
        declared.head()
        inside = min(stop, end)
        if kind == b"cmov":
            raise MediaFault("NOT_A_VIDEO", "The movie box is compressed (cmov), which is not read.")
        if kind == b"trak":
            declared.add(tracks=1)
            own = _Track()
            _look_into(fd, begin, inside, declared, own, depth + 1)
            declared.add(packets=own.packets)
        elif kind in _CONTAINERS:
            _look_into(fd, begin, inside, declared, track, depth + 1)
        elif kind in _METADATA:
            declared.add(metadata_bytes=inside - begin)
        else:
            _look_at(kind, read(fd, begin, 64), declared, track)


def _look_at(kind: bytes, body: bytes, declared: Declared, track: _Track) -> None:
    if kind in (b"stsz", b"stz2"):
        track.sample_bytes = _number(body, _SAMPLES_AT) if kind == b"stsz" else 0
        track.samples = _number(body, _SAMPLES_AT + 4)
        return
    if kind == b"hdlr":
        track.handler = body[8:12]
    elif kind == b"stts":
        track.durations = _number(body, 4), _number(body, 12)
    elif kind == b"stsd":
        entry = body[8 + HEAD.size :]
        if track.handler == b"vide":
            declared.picture(
                *(int.from_bytes(entry[at : at + 2], "big") for at in (_PICTURE_AT, _PICTURE_AT + 2))
            )
    rows = _number(body, _ROWS_AT[kind]) if kind in _ROWS_AT else 0
    if rows > declared.limits.max_packets:
        declared.add(packets=rows)


def _number(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 4], "big")


def _boxes(fd: int, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, beginning of the body and end of each box; a size that cannot be ends them."""
    while end - start >= HEAD.size:
        head = read(fd, start, HEAD.size + LARGE.size)
        if len(head) < HEAD.size:
            return
        size, kind = HEAD.unpack_from(head)
        header_size = HEAD.size
        if size == 1 and len(head) == HEAD.size + LARGE.size:
            (size,) = LARGE.unpack_from(head, HEAD.size)
            header_size += LARGE.size
        elif size == 0:
            size = end - start
        if size < header_size:
            return
        yield kind, start + header_size, start + size
        start += size
