"""Whatever in a movie points to bytes of the file, other than chunks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.added import Left
from videoprocess_server.media.iso.auxiliary import auxiliary_extents, entry_count, with_moved_offsets
from videoprocess_server.media.iso.boxes import Box, Change, Parts, child, children
from videoprocess_server.media.iso.item_locations import item_extents, metas_of, with_moved_items
from videoprocess_server.media.iso.layout import Extent
from videoprocess_server.media.iso.movie import Track
from videoprocess_server.media.iso.place_list import KIND as PLACE_LIST
from videoprocess_server.media.iso.place_list import listed_extents, with_moved_rows
from videoprocess_server.model.losses import Loss

Changes = dict[tuple[bytes, ...], Change]
Moved = Callable[[Extent], int]
_STBL: Final = (b"mdia", b"minf", b"stbl")


class Pointers:
    """Collects them, and tells how they change."""

    def __init__(self, file_size: int) -> None:
        self.extents: list[Extent] = []
        self.left: list[Left] = []
        self._file_size = file_size
        self._metas: dict[int | None, set[tuple[bytes, ...]]] = {}
        self._auxiliary: dict[int, list[Extent] | None] = {}

    def add_items(self, box: Box, key: int | None, track_id: int | None) -> None:
        """Look for items in the meta boxes of a movie or a track.

        Args:
            box: the movie's or the track's.
            key: by which `changes` is asked.
            track_id: for the report.
        """
        by_path: dict[tuple[bytes, ...], list[Extent]] = {}
        for path, meta in metas_of(box):
            by_path.setdefault(path, []).extend(item_extents(meta))
        for path, extents in by_path.items():
            if extents and self.admit(extents, track_id):
                self._metas.setdefault(key, set()).add(path)

    def add_place_lists(self, moov: Box) -> None:
        """Look for lists of places in a movie."""
        for box in children(moov, PLACE_LIST):
            self.extents += listed_extents(box, self._file_size)

    def admit(self, extents: list[Extent], track_id: int | None) -> bool:
        """Whether bytes of items can be carried over; they are, then."""
        possible = all(one.size and one.offset + one.size <= self._file_size for one in extents)
        if possible:
            self.extents += extents
        else:
            self._leave(
                track_id, "An item of a meta box (iloc) is not found in the file, and is not there either."
            )
        return possible

    def add_auxiliary(self, track: Track, key: int) -> None:
        """Look for auxiliary information of a track that is copied."""
        stbl = child(track.box, *_STBL)
        if not children(stbl, b"saio"):
            return
        try:
            extents = auxiliary_extents(stbl, track.chunks())
        except MediaFault as fault:
            self._auxiliary[key] = None
            self._leave(track.track_id, fault.message)
            return
        if not self.admit(extents, track.track_id):
            self._auxiliary[key] = None
            return
        self._auxiliary[key] = extents

    def changes(self, key: int | None, moved: Moved, *, wide: bool) -> Changes:
        """What becomes of boxes of a track, or of the movie itself (None).

        Args:
            key: as it was given.
            moved: tells where an extent is now, in the file.
            wide: whether places take 64 bits.
        """
        changes: Changes = {
            path: lambda meta: with_moved_items(meta, moved, wide=wide) for path in self._metas.get(key, ())
        }
        if key is None:
            return changes | {(PLACE_LIST,): lambda box: with_moved_rows(box, self._file_size, moved)}
        if key not in self._auxiliary:
            return changes
        extents = self._auxiliary[key]
        if extents is None:
            return changes | {(*_STBL, kind): lambda _: [] for kind in (b"saio", b"saiz")}
        waiting = iter(extents)

        def rebuilt(saio: Box) -> Parts:
            own = list(islice(waiting, entry_count(saio)))
            return with_moved_offsets(saio, own, moved, wide=wide)

        return changes | {(*_STBL, b"saio"): rebuilt}

    def _leave(self, track_id: int | None, reason: str) -> None:
        self.left.append(Left(what=Loss.METADATA, track_id=track_id, count=1, reason=reason))
