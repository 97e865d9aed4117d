"""The headers of movie, track and media: times, duration, and what differs between them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from videoprocess_server.media.iso.boxes import U32, UINT32_MAX, Box, Parts, broken, build_full

#: by version: creation and modification time, and the duration
_TIMES: Final = (struct.Struct(">II"), struct.Struct(">QQ"))
_DURATION: Final = (struct.Struct(">I"), struct.Struct(">Q"))
_UNKNOWN: Final = (UINT32_MAX, 0xFFFF_FFFF_FFFF_FFFF)
#: by type: bytes between the times and the duration, and after it
_MIDDLE: Final = {b"mvhd": 4, b"tkhd": 8, b"mdhd": 4}
_REST: Final = {b"mvhd": 80, b"tkhd": 60, b"mdhd": 4}
#: in the rest of mvhd: QuickTime's times of preview, poster, selection and now, in ticks of the movie
_MOVIE_TIMES_AT: Final = range(52, 76, 4)
_NEXT_TRACK_ID_AT: Final = 76
#: in the rest of tkhd
_MATRIX_AT: Final = 16
_MATRIX: Final = struct.Struct(">9i")
_SIZE_AT: Final = 52
_SIZE: Final = struct.Struct(">II")
_FIXED_POINT: Final = 1 << 16
#: as headers hold it
IDENTITY_MATRIX: Final = _MATRIX.pack(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


@dataclass(frozen=True)
class Header:
    """An mvhd, tkhd or mdhd."""

    kind: bytes
    version: int
    flags: int
    creation_time: int
    modification_time: int
    #: the time scale, of a track its id
    number: int
    #: ticks; None is "unknown", which all bits set stand for
    duration: int | None
    #: between number and duration
    reserved: bytes
    #: after the duration
    rest: bytes

    @property
    def matrix(self) -> tuple[int, ...]:
        """Of a track: the nine numbers, row by row."""
        return _MATRIX.unpack_from(self.rest, _MATRIX_AT)

    @property
    def size(self) -> tuple[Fraction, Fraction]:
        """Of a track: width and height as shown, before the matrix."""
        width, height = _SIZE.unpack_from(self.rest, _SIZE_AT)
        return Fraction(width, _FIXED_POINT), Fraction(height, _FIXED_POINT)

    @property
    def next_track_id(self) -> int:
        """Of a movie."""
        (number,) = U32.unpack_from(self.rest, _NEXT_TRACK_ID_AT)
        return int(number)

    @property
    def language(self) -> str:
        """Of a media: three letters, or QuickTime's number as digits."""
        code = int.from_bytes(self.rest[:2], "big")
        letters = [code >> shift & 0x1F for shift in (10, 5, 0)]
        if code < 0x400 or not all(1 <= letter <= 26 for letter in letters):
            return str(code)
        return "".join(chr(letter + 0x60) for letter in letters)

    def with_matrix(self, matrix: tuple[int, ...]) -> Header:
        """With another matrix."""
        return self._with_rest(_MATRIX_AT, _MATRIX.pack(*matrix))

    def with_size(self, width: Fraction, height: Fraction) -> Header:
        """With another size as shown."""
        return self._with_rest(
            _SIZE_AT, _SIZE.pack(*(min(UINT32_MAX, round(side * _FIXED_POINT)) for side in (width, height)))
        )

    def with_next_track_id(self, number: int) -> Header:
        """With another number for the next track."""
        return self._with_rest(_NEXT_TRACK_ID_AT, U32.pack(number))

    def scaled(self, factor: int) -> Header:
        """Of a movie or track: with its duration in finer ticks, of a movie all that is in such ticks."""
        duration = None if self.duration is None else self.duration * factor
        if duration is not None and duration >= _UNKNOWN[1]:
            raise broken(self.kind.decode(), "holds a time that no clock reaches")
        if self.kind != b"mvhd":
            return replace(self, duration=duration)
        rest = bytearray(self.rest)
        for at in _MOVIE_TIMES_AT:
            (ticks,) = U32.unpack_from(rest, at)
            U32.pack_into(rest, at, min(ticks * factor, UINT32_MAX))
        return replace(self, number=self.number * factor, duration=duration, rest=bytes(rest))

    def build(self) -> Parts:
        """The box: 64 bits where 32 do not suffice, or where it had them."""
        times = (self.creation_time, self.modification_time)
        version = max(self.version, int(max(*times, (self.duration or 0) + 1) > UINT32_MAX))
        duration = _UNKNOWN[version] if self.duration is None else self.duration
        return build_full(
            self.kind,
            _TIMES[version].pack(*times) + U32.pack(self.number) + self.reserved,
            _DURATION[version].pack(duration),
            self.rest,
            version=version,
            flags=self.flags,
        )

    def _with_rest(self, at: int, value: bytes) -> Header:
        return replace(self, rest=self.rest[:at] + value + self.rest[at + len(value) :])


def read_header(box: Box | None, kind: bytes) -> Header:
    """Read a header.

    Raises:
        MediaFault: it is not there, too short, or of an unknown version.
    """
    name = kind.decode()
    if box is None:
        raise broken(name, "is not there")
    body = bytes(box.body[:256])
    version = body[0] if body else 0
    if version >= len(_TIMES):
        raise broken(name, f"is of version {version}")
    duration_at = 4 + _TIMES[version].size + _MIDDLE[kind]
    rest_at = duration_at + _DURATION[version].size
    if len(body) < rest_at + _REST[kind]:
        raise broken(name, f"ends after {len(body)} bytes")
    creation_time, modification_time = _TIMES[version].unpack_from(body, 4)
    (number,) = U32.unpack_from(body, duration_at - _MIDDLE[kind])
    (duration,) = _DURATION[version].unpack_from(body, duration_at)
    return Header(
        kind=kind,
        version=version,
        flags=int.from_bytes(body[1:4], "big"),
        creation_time=creation_time,
        modification_time=modification_time,
        number=number,
        duration=None if duration == _UNKNOWN[version] else duration,
        reserved=body[duration_at - _MIDDLE[kind] + U32.size : duration_at],
        rest=body[rest_at:] if len(box.body) <= len(body) else bytes(box.body[rest_at:]),
    )
