"""Where everything lies in the new media data box: chunks of all tracks by decode time, as cameras write them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.samples import Ticks

Payload = Callable[[], Iterator["bytes | bytearray | memoryview"]]
Beat = Callable[[int], None]
BLOCK_BYTES: Final = 1 << 20
#: tracks may share samples, but not so that a small file becomes a huge one
_MOST_TIMES_THE_FILE: Final = 4
_CHUNKS_AT_A_TIME: Final = 4096
_GIVEN: Final = -1


@dataclass(frozen=True, kw_only=True)
class Run:
    """A track's chunks in their order."""

    size: Ticks
    #: decode times
    seconds: NDArray[np.float64]
    #: in the source; None where `read` gives the bytes
    offset: Ticks | None = None
    read: Payload | None = None


@dataclass(frozen=True)
class Extent:
    """Bytes of the source that something other than a sample table points to."""

    offset: int
    size: int


class Layout:
    """The media data of a new file."""

    def __init__(self, runs: Sequence[Run], extents: Iterable[Extent], file_size: int) -> None:
        """Place all chunks, and after them the extents that lie in none of them.

        Args:
            runs: one a track.
            extents: what else is pointed to.
            file_size: of the source, in bytes.

        Raises:
            MediaFault: something lies outside of the source.
        """
        self._runs = [*runs]
        self._moved = _Moved([run for run in runs if run.offset is not None])
        outside = sorted(
            {(one.offset, one.size) for one in extents if self._moved.find(one.offset, one.size) is None}
        )
        self._extra = _run_of(outside)
        self._runs.append(self._extra)
        _check_inside(self._runs, file_size)
        owner = np.repeat(np.arange(len(self._runs), dtype=np.int32), [len(run.size) for run in self._runs])
        seconds = np.concatenate([run.seconds for run in self._runs])
        size = np.concatenate([run.size for run in self._runs])
        # Of tracks at one time those of small chunks first: who looks at the beginning only finds all of them there.
        first_sizes = [int(run.size[0]) if len(run.size) else 0 for run in self._runs]
        rank = np.argsort(np.argsort(first_sizes, kind="stable"), kind="stable")
        order = np.lexsort((rank[owner], seconds))
        placed = size[order]
        starts = np.cumsum(placed) - placed
        positions = np.empty_like(starts)
        positions[order] = starts
        bounds = np.cumsum([0, *(len(run.size) for run in self._runs)])
        #: by run: where each chunk begins after the box's header
        self.positions = [positions[a:b] for a, b in itertools.pairwise(bounds.tolist())]
        #: bytes of the box without its header
        self.size = int(size.sum())
        offset = np.concatenate(
            [np.full(len(run.size), _GIVEN) if run.offset is None else run.offset for run in self._runs]
        )
        self._order = (owner[order], offset[order], placed)
        self._moved.place([run.offset is not None for run in self._runs], self.positions)
        extra_at = self.positions[-1].tolist()
        self._extra_at = dict(zip(outside, extra_at, strict=True))

    def moved(self, extent: Extent) -> int:
        """Where an extent is now, after the box's header."""
        key = (extent.offset, extent.size)
        if key in self._extra_at:
            return int(self._extra_at[key])
        position = self._moved.find(*key)
        assert position is not None, "the extent was not announced"
        return position

    def write(self, fd: int, out: BinaryIO, beat: Beat) -> None:
        """Write all chunks in their order.

        Args:
            fd: the source.
            out: where to.
            beat: is told the bytes of each block.

        Raises:
            MediaFault: the source ends early, or a track gives other bytes than it said.
        """
        feeds = {k: _Feed(run.read()) for k, run in enumerate(self._runs) if run.read is not None}
        begin = end = 0
        for owner, offset, size in self._chunks():
            if offset != _GIVEN and offset == end:
                end += size
                continue
            copy(fd, begin, end - begin, out, beat)
            begin = end = 0
            if offset != _GIVEN:
                begin, end = offset, offset + size
                continue
            for part in feeds[owner].take(size):
                out.write(part)
                beat(len(part))
        copy(fd, begin, end - begin, out, beat)
        for feed in feeds.values():
            feed.check_empty()

    def _chunks(self) -> Iterator[tuple[int, int, int]]:
        owner, offset, size = self._order
        for at in range(0, len(owner), _CHUNKS_AT_A_TIME):
            part = slice(at, at + _CHUNKS_AT_A_TIME)
            yield from zip(owner[part].tolist(), offset[part].tolist(), size[part].tolist(), strict=True)


def copy(fd: int, offset: int, size: int, out: BinaryIO, beat: Beat) -> None:
    """Copy bytes of a file in blocks.

    Raises:
        MediaFault: it ends before them.
    """
    while size:
        block = os.pread(fd, min(size, BLOCK_BYTES), offset)
        if not block:
            raise MediaFault("JOIN_FAILED", "The file became shorter while it was read.")
        out.write(block)
        beat(len(block))
        offset += len(block)
        size -= len(block)


@dataclass
class _Moved:
    """Finds where bytes of the source went."""

    runs: list[Run]
    _position: NDArray[np.int64] | None = None
    _begin: NDArray[np.int64] = field(init=False)
    _end: NDArray[np.int64] = field(init=False)
    _order: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        none = np.zeros(0, dtype=np.int64)
        begin = np.concatenate([none, *(run.offset for run in self.runs if run.offset is not None)])
        end = begin + np.concatenate([none, *(run.size for run in self.runs)])
        self._order = np.argsort(begin, kind="stable")
        self._begin, self._end = begin[self._order], end[self._order]

    def place(self, copied: list[bool], positions: list[Ticks]) -> None:
        """Tell where the chunks are; the last run is none of them."""
        none = np.zeros(0, dtype=np.int64)
        kept = [position for use, position in zip(copied[:-1], positions[:-1], strict=True) if use]
        self._position = np.concatenate([none, *kept])[self._order]

    def find(self, offset: int, size: int) -> int | None:
        """The new place of bytes that lie in one chunk, 0 before places are known; None where they lie in none."""
        k = int(np.searchsorted(self._begin, offset, side="right")) - 1
        if k < 0 or offset + size > int(self._end[k]):
            return None
        return 0 if self._position is None else int(self._position[k]) + offset - int(self._begin[k])


class _Feed:
    """Cuts a track's bytes into chunks, however they come."""

    def __init__(self, source: Iterator[bytes | bytearray | memoryview]) -> None:
        self._source = source
        self._rest = memoryview(b"")

    def take(self, size: int) -> Iterator[memoryview]:
        while size:
            if not self._rest:
                following = next(self._source, None)
                if following is None:
                    raise MediaFault("JOIN_FAILED", f"The picture ends {size} bytes before its tables do.")
                self._rest = memoryview(following).cast("B")
                continue
            part, self._rest = self._rest[:size], self._rest[size:]
            size -= len(part)
            yield part

    def check_empty(self) -> None:
        if self._rest or any(len(part) for part in self._source):
            raise MediaFault("JOIN_FAILED", "The picture has more bytes than its tables say.")


def _run_of(extents: list[tuple[int, int]]) -> Run:
    offsets = np.array([offset for offset, _ in extents], dtype=np.int64)
    sizes = np.array([size for _, size in extents], dtype=np.int64)
    return Run(size=sizes, seconds=np.full(len(extents), np.inf), offset=offsets)


def _check_inside(runs: Sequence[Run], file_size: int) -> None:
    total = 0.0
    for run in runs:
        if len(run.size) and int(run.size.min()) < 0:
            raise MediaFault("JOIN_FAILED", "A chunk of a track has no possible size.")
        if run.offset is None or not len(run.size):
            continue
        ends = run.offset + run.size
        if int(run.offset.min()) < 0 or int(run.size.max()) > file_size or int(ends.max()) > file_size:
            raise MediaFault("JOIN_FAILED", "A chunk of a track lies beyond the end of the file.")
        total += float(run.size.sum(dtype=np.float64))
    if total > _MOST_TIMES_THE_FILE * file_size:
        raise MediaFault("JOIN_FAILED", "The tracks of the file share their samples too often to be copied.")
