"""Samples of movie fragments (moof), as arrays that grow."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import Box, broken, child, children, split, unpack
from videoprocess_server.media.iso.samples import Samples

_TREX: Final = struct.Struct(">4xIIIII")
_HEAD: Final = struct.Struct(">II")
_WORD: Final = struct.Struct(">I")
_LARGE: Final = struct.Struct(">Q")
#: flags of a fragment's header
_BASE_OFFSET, _DESCRIPTION, _DURATION, _SIZE, _FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20
_FROM_MOOF: Final = 0x20000
#: flags of a run: fields before its table
_DATA_OFFSET, _FIRST_FLAGS = 0x1, 0x4
#: and those of its rows, in their order
_ROW_FIELDS: Final = (0x100, 0x200, 0x400, 0x800)
#: of a sample's flags
_NOT_SYNC: Final = 0x10000
_DEPENDENCY_SHIFT: Final = 20
_INT64_MAX: Final = (1 << 62) - 1
#: samples of all fragments together: a day of picture and two tracks of sound are 11 million
_MOST_SAMPLES: Final = 1 << 24


@dataclass(frozen=True)
class Defaults:
    """What a fragment's samples are like where it does not say."""

    description: int = 1
    duration: int = 0
    size: int = 0
    flags: int = 0


@dataclass
class FragmentedTrack:
    """One track's samples from all fragments so far."""

    offset: array[int] = field(default_factory=lambda: array("q"))
    size: array[int] = field(default_factory=lambda: array("I"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    composition: array[int] = field(default_factory=lambda: array("i"))
    duration: array[int] = field(default_factory=lambda: array("I"))
    flags: array[int] = field(default_factory=lambda: array("I"))
    description: array[int] = field(default_factory=lambda: array("I"))
    #: where the next sample is decoded if its fragment does not say, None before the first fragment
    end: int | None = None
    #: whole boxes about groups of samples (sbgp, sgpd), with their fragment's first sample and how many it has
    groups: list[tuple[int, int, bytes]] = field(default_factory=list)
    #: by type: how many boxes of fragments are not read
    unread: dict[bytes, int] = field(default_factory=dict)

    def samples(self) -> Samples:
        """All of them."""
        dts = _frozen(self.dts)
        return Samples(
            offset=_frozen(self.offset),
            size=_frozen(self.size).astype(np.int64),
            dts=dts,
            pts=dts + _frozen(self.composition),
            duration=_frozen(self.duration).astype(np.int64),
            sync=(_frozen(self.flags) & _NOT_SYNC) == 0,
            description=_frozen(self.description).astype(np.int64),
        )

    def dependencies(self) -> NDArray[np.uint8]:
        """The rows of an sdtp: what depends on each sample and on what it depends."""
        return (_frozen(self.flags) >> _DEPENDENCY_SHIFT & 0xFF).astype(np.uint8)


def read_defaults(mvex: Box | None) -> dict[int, Defaults]:
    """By track id: what the movie says of all its fragments."""
    defaults = {}
    for box in children(mvex, b"trex"):
        track_id, description, duration, size, flags = unpack(_TREX, box, 0)
        defaults[track_id] = Defaults(description, duration, size, flags)
    return defaults


class FragmentReader:
    """Reads one fragment after the other."""

    def __init__(self, defaults: Mapping[int, Defaults], file_size: int, ends: Mapping[int, int]) -> None:
        """Begin before the first fragment.

        Args:
            defaults: what the movie says, by track.
            file_size: in bytes; no fragment can have more samples.
            ends: decode times at which the samples in the movie itself end, by track.
        """
        self.tracks: dict[int, FragmentedTrack] = {}
        self._defaults = defaults
        self._file_size = file_size
        self._ends = ends
        self._count = 0

    def read(self, moof: Box, offset: int) -> None:
        """Add the samples of a fragment that begins at an offset of the file.

        Raises:
            MediaFault: its boxes contradict themselves.
        """
        data_end = offset
        for traf in children(moof, b"traf"):
            data_end = self._read_track(traf, offset, data_end)

    def _read_track(self, traf: Box, moof_offset: int, data_end: int) -> int:
        boxes, _ = split(traf.body, "traf")
        header = next((box for box in boxes if box.kind == b"tfhd"), None)
        if header is None:
            raise broken("traf", "has no tfhd")
        track_id, defaults, base = self._read_header(header)
        if base is None:
            base = moof_offset if _HEAD.unpack_from(header.body)[0] & _FROM_MOOF else data_end
        track = self.tracks.setdefault(track_id, FragmentedTrack())
        first = len(track.size)
        dts = _decode_time(child(traf, b"tfdt"))
        if dts is None:
            dts = track.end if track.end is not None else self._ends.get(track_id, 0)
        at, groups = base, list[bytes]()
        for box in boxes:
            if box.kind == b"trun":
                dts, at = self._read_run(box, track, defaults, dts, base, at)
            elif box.kind in {b"sbgp", b"sgpd"}:
                groups.append(bytes(box.data))
            elif box.kind not in {b"tfhd", b"tfdt", b"free", b"skip"}:
                track.unread[box.kind] = track.unread.get(box.kind, 0) + 1
        track.groups += [(first, len(track.size) - first, data) for data in groups]
        track.end = dts
        return at

    def _read_header(self, box: Box) -> tuple[int, Defaults, int | None]:
        flags, track_id = unpack(_HEAD, box, 0)
        at, base = _HEAD.size, None
        if flags & _BASE_OFFSET:
            (base,) = unpack(_LARGE, box, at)
            at += _LARGE.size
            if base > _INT64_MAX:
                raise broken("tfhd", "begins its data where no file reaches")
        known = self._defaults.get(track_id, Defaults())
        values = [known.description, known.duration, known.size, known.flags]
        for place, flag in enumerate((_DESCRIPTION, _DURATION, _SIZE, _FLAGS)):
            if flags & flag:
                (values[place],) = unpack(_WORD, box, at)
                at += _WORD.size
        return track_id, Defaults(*values), base

    def _read_run(
        self, box: Box, track: FragmentedTrack, defaults: Defaults, dts: int, base: int, at: int
    ) -> tuple[int, int]:
        """Where the next run's samples are decoded, and where their bytes are, if it does not say."""
        head, count = unpack(_HEAD, box, 0)
        place, first_flags = _HEAD.size, None
        if head & _DATA_OFFSET:
            (relative,) = unpack(struct.Struct(">i"), box, place)
            at, place = base + relative, place + _WORD.size
        if head & _FIRST_FLAGS:
            (first_flags,) = unpack(_WORD, box, place)
            place += _WORD.size
        fields = [flag for flag in _ROW_FIELDS if head & flag]
        self._admit(box, count, 4 * len(fields), place)
        rows = np.frombuffer(box.body[place:], dtype=">u4", count=count * len(fields))
        columns = dict(zip(fields, rows.reshape(count, len(fields)).T.astype(np.int64), strict=True))
        duration = columns.get(_ROW_FIELDS[0], np.full(count, defaults.duration, dtype=np.int64))
        size = columns.get(_ROW_FIELDS[1], np.full(count, defaults.size, dtype=np.int64))
        flags = columns.get(_ROW_FIELDS[2], np.full(count, defaults.flags, dtype=np.int64))
        composition = columns.get(_ROW_FIELDS[3], np.zeros(count, dtype=np.int64))
        if first_flags is not None and count:
            flags[0] = first_flags
        ends, times = np.cumsum(size), np.cumsum(duration)
        _extend(track.offset, at + ends - size)
        _extend(track.size, size)
        _extend(track.dts, dts + times - duration)
        _extend(track.composition, composition.astype(np.uint32).view(np.int32))
        _extend(track.duration, duration)
        _extend(track.flags, flags)
        _extend(track.description, np.full(count, defaults.description, dtype=np.int64))
        if not count:
            return dts, at
        end, at = dts + int(times[-1]), at + int(ends[-1])
        if end > _INT64_MAX:
            raise broken("trun", "holds times that no clock reaches")
        return end, at

    def _admit(self, box: Box, count: int, row_size: int, place: int) -> None:
        """Refuse counts before anything is allocated for them."""
        if count * row_size > len(box.body) - place or count > self._file_size:
            raise broken("trun", f"says it has {count} samples and has {len(box.body)} bytes")
        self._count += count
        if self._count > _MOST_SAMPLES:
            raise MediaFault("JOIN_FAILED", f"The fragments have more than {_MOST_SAMPLES} samples.")


def _decode_time(box: Box | None) -> int | None:
    if box is None:
        return None
    (head,) = unpack(_WORD, box, 0)
    (ticks,) = unpack(_LARGE if head >> 24 else _WORD, box, _WORD.size)
    if ticks > _INT64_MAX:
        raise broken("tfdt", "holds a time that no clock reaches")
    return ticks


def _extend(growing: array[int], numbers: NDArray[Any]) -> None:
    growing.frombytes(np.ascontiguousarray(numbers, dtype=growing.typecode).tobytes())


def _frozen(growing: array[int]) -> NDArray[Any]:
    return np.frombuffer(growing.tobytes(), dtype=growing.typecode)
