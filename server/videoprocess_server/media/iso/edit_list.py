"""Edit lists: which part of a track's media is shown when."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from videoprocess_server.media.iso.boxes import U32, UINT32_MAX, Box, Parts, broken, build, build_full, unpack

#: by version: duration and media time of an edit, then its rate in 16.16
_ROWS: Final = (struct.Struct(">Iii"), struct.Struct(">Qqi"))
_FIXED_POINT: Final = 1 << 16
_INT32_MAX: Final = 0x7FFF_FFFF
#: edits of a track; real ones have a handful, cut films some thousands
_MOST_EDITS: Final = 100_000
#: times beyond it would not fit after they are scaled
_MOST_TICKS: Final = 1 << 63
#: the media time of an edit that shows nothing
EMPTY: Final = -1


@dataclass(frozen=True, slots=True)
class Edit:
    """A piece of a track's presentation."""

    #: in ticks of the movie
    duration: int
    #: where it begins in the media, in its ticks; EMPTY shows nothing
    media_time: int
    rate: Fraction = Fraction(1)

    @property
    def is_empty(self) -> bool:
        """Whether it shows nothing."""
        return self.media_time == EMPTY


def read_edits(box: Box | None) -> tuple[Edit, ...]:
    """The rows of an elst, none where there is no such box.

    Raises:
        MediaFault: it is shorter than it says.
    """
    if box is None:
        return ()
    (head, count) = unpack(struct.Struct(">II"), box, 0)
    version = head >> 24
    if version >= len(_ROWS):
        raise broken("elst", f"is of version {version}")
    rows = _ROWS[version]
    if count > min(_MOST_EDITS, (len(box.body) - 8) // rows.size):
        raise broken("elst", f"says it has {count} edits")
    return tuple(
        Edit(duration, media_time, Fraction(rate, _FIXED_POINT))
        for duration, media_time, rate in rows.iter_unpack(box.body[8 : 8 + count * rows.size])
    )


def build_edits(edits: Sequence[Edit]) -> Parts:
    """An elst, with 64 bits where 32 do not suffice."""
    version = int(any(edit.duration > UINT32_MAX or edit.media_time > _INT32_MAX for edit in edits))
    rows = b"".join(
        _ROWS[version].pack(edit.duration, edit.media_time, int(edit.rate * _FIXED_POINT)) for edit in edits
    )
    return build_full(b"elst", U32.pack(len(edits)), rows, version=version)


def build_edit_box(edits: Sequence[Edit]) -> Parts:
    """An edts with these edits, nothing without any."""
    return build(b"edts", *build_edits(edits)) if edits else []


def scaled(edits: Iterable[Edit], factor: int) -> tuple[Edit, ...]:
    """The same edits in finer ticks of the movie.

    Raises:
        MediaFault: one is longer than can be written so.
    """
    finer = tuple(replace(edit, duration=edit.duration * factor) for edit in edits)
    if any(edit.duration >= _MOST_TICKS for edit in finer):
        raise broken("elst", "holds a time that no clock reaches")
    return finer


def shown_ticks(edits: Iterable[Edit]) -> int:
    """Ticks of the movie that all edits take together."""
    return sum(edit.duration for edit in edits)


def rescaled(ticks: int, to: int, base: int) -> int:
    """Ticks of one time scale in those of another, halves away from zero: as FFmpeg reads edit lists."""
    doubled = 2 * abs(ticks) * to + base
    return (doubled // (2 * base)) * (1 if ticks >= 0 else -1)
