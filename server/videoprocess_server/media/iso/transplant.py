"""Writes a file that is its source but for one picture: the movie box as it was, with that track's media replaced."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import BinaryIO, Final

from videoprocess_server.media.iso.added import Left, NewPicture, NewTrack
from videoprocess_server.media.iso.boxes import HEAD, LARGE, UINT32_MAX, Part, Parts, size_of
from videoprocess_server.media.iso.brands import build_brands
from videoprocess_server.media.iso.item_locations import item_extents, with_moved_items
from videoprocess_server.media.iso.layout import BLOCK_BYTES, Beat, Extent, Layout, copy
from videoprocess_server.media.iso.movie import Movie, read_movie
from videoprocess_server.media.iso.movie_box import MovieBox
from videoprocess_server.media.iso.top_level import Place, read_at, read_box
from videoprocess_server.media.iso.user_keys import UserValue
from videoprocess_server.model.losses import Loss

__all__ = ["Left", "NewPicture", "NewTrack", "transplant"]
#: bytes after the last box: some cameras' own data
_MOST_TAIL_BYTES: Final = 64 << 20
#: why a box beside the media does not come along
_NOT_CARRIED: Final = {
    b"prft": "Clock times of fragments (prft) mean nothing in a file without fragments.",
    b"emsg": "Events of fragments (emsg) tell their time from a fragment's, and there are none.",
    b"moov": "The file has a second movie box, which no player reads.",
}


def transplant(
    source_fd: int,
    out: BinaryIO,
    picture: NewPicture,
    *,
    added: Sequence[NewTrack] = (),
    keys: Mapping[str, UserValue] | None = None,
    false_brands: Collection[str] = (),
    moov_first: bool,
    beat: Beat,
) -> tuple[Left, ...]:
    """Write the source with another picture; every other track's samples, and all metadata, as they are.

    Args:
        source_fd: the source, opened for reading.
        out: where to; written from its beginning to its end, never sought in.
        picture: what the picture's track has instead.
        added: tracks of our own.
        keys: user metadata to add, or to put in the place of what has the same name.
        false_brands: brands that the new file must not claim, beside those that follow from its tracks.
        moov_first: whether the movie box comes before the media.
        beat: is told the bytes of each block that is written.

    Returns:
        What is not carried over.

    Raises:
        MediaFault: JOIN_FAILED: the source's boxes contradict themselves, or point beyond its end.
    """
    movie = read_movie(source_fd)
    new = _NewFile(movie, source_fd, MovieBox(movie, picture, added, keys or {}))
    replaced = movie.track(picture.track_id).sample_entries
    kept = [
        entry
        for track in movie.tracks
        if track.track_id != picture.track_id
        for entry in track.sample_entries
    ]
    ftyp = build_brands(movie, picture.sample_entry, replaced, kept, false_brands)
    new.write(out, ftyp, moov_first=moov_first, beat=beat)
    return new.left


class _NewFile:
    """The boxes of a file, in their order."""

    def __init__(self, movie: Movie, fd: int, moov: MovieBox) -> None:
        self._movie, self._fd, self._moov = movie, fd, moov
        self._left: list[Left] = []
        others = [place for place in movie.top_level.others if self._is_carried(place)]
        self._metas = {
            place: box
            for place in others
            if place.kind == b"meta"
            and (extents := item_extents(box := read_box(fd, place)))
            and moov.pointers.admit(extents, None)
        }
        begin = movie.top_level.body_offset
        self._before = [place for place in others if begin is not None and place.offset < begin]
        self._after = others[len(self._before) :]
        if movie.top_level.tail is not None and self._is_carried(movie.top_level.tail):
            self._after.append(movie.top_level.tail)
        self._layout = Layout(moov.runs, moov.pointers.extents, movie.top_level.file_size)

    @property
    def left(self) -> tuple[Left, ...]:
        """What is not carried over."""
        return (*self._moov.left, *self._left)

    def write(self, out: BinaryIO, ftyp: Parts, *, moov_first: bool, beat: Beat) -> None:
        """Write everything from the beginning to the end.

        Args:
            out: where to.
            ftyp: its first box.
            moov_first: whether the movie box comes before the media.
            beat: is told the bytes of each block.
        """
        layout = self._layout
        head = media_head(layout.size)
        wide = self._moov.largest_offset > UINT32_MAX
        base = self._base(ftyp, head, moov_first=moov_first, wide=wide)
        if base + layout.size > UINT32_MAX and not wide:
            wide = True
            base = self._base(ftyp, head, moov_first=moov_first, wide=wide)
        moov = self._moov.build(layout, base, wide=wide)
        write_parts(out, ftyp, beat)
        self._write_others(out, self._before, base, wide=wide, beat=beat)
        if moov_first:
            write_parts(out, moov, beat)
        write_parts(out, [head], beat)
        layout.write(self._fd, out, beat)
        if not moov_first:
            write_parts(out, moov, beat)
        self._write_others(out, self._after, base, wide=wide, beat=beat)

    def _base(self, ftyp: Parts, head: bytes, *, moov_first: bool, wide: bool) -> int:
        """Where the media begins."""
        base = size_of(ftyp) + len(head)
        base += sum(size_of(self._other(place, 0, wide=wide)) or place.size for place in self._before)
        if moov_first:
            base += size_of(self._moov.build(self._layout, 0, wide=wide))
        return base

    def _other(self, place: Place, base: int, *, wide: bool) -> Parts:
        """What a box beside the media becomes, nothing where it stays as it is."""

        def moved(extent: Extent) -> int:
            return base + self._layout.moved(extent)

        meta = self._metas.get(place)
        return [] if meta is None else with_moved_items(meta, moved, wide=wide)

    def _write_others(self, out: BinaryIO, places: list[Place], base: int, *, wide: bool, beat: Beat) -> None:
        for place in places:
            changed = self._other(place, base, wide=wide)
            if changed:
                write_parts(out, changed, beat)
            else:
                copy(self._fd, place.offset, place.size, out, beat)

    def _is_carried(self, place: Place) -> bool:
        reason = _NOT_CARRIED.get(place.kind)
        if place.kind == b"emsg" and self._tells_its_own_time(place):
            reason = None
        if not place.kind and place.size > _MOST_TAIL_BYTES:
            reason = f"{place.size} bytes after the last box of the file are none that can be read."
        if reason is not None:
            self._left.append(Left(what=Loss.METADATA, track_id=None, count=1, reason=reason))
        return reason is None

    def _tells_its_own_time(self, place: Place) -> bool:
        version = read_at(self._fd, place.offset + place.header_size, min(1, place.size - place.header_size))
        return version not in {b"", b"\0"}


def media_head(size: int) -> bytes:
    """The header of a media data box of so many bytes."""
    if size + HEAD.size <= UINT32_MAX:
        return HEAD.pack(size + HEAD.size, b"mdat")
    return HEAD.pack(1, b"mdat") + LARGE.pack(size + HEAD.size + LARGE.size)


def write_parts(out: BinaryIO, parts: Sequence[Part], beat: Beat) -> None:
    """Write a box in blocks."""
    for part in parts:
        view = memoryview(part)
        for at in range(0, len(view), BLOCK_BYTES):
            block = view[at : at + BLOCK_BYTES]
            out.write(block)
            beat(len(block))
