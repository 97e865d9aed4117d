"""The movie box of a new file: the source's, with what is new in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.added import Left, NewPicture, NewTrack
from videoprocess_server.media.iso.added_track import AddedTrack
from videoprocess_server.media.iso.boxes import UINT32_MAX, Box, Parts, children, joined, parse, rewrite
from videoprocess_server.media.iso.copied_track import CopiedTrack
from videoprocess_server.media.iso.defragmented_track import DefragmentedTrack
from videoprocess_server.media.iso.fragments import FragmentedTrack
from videoprocess_server.media.iso.interleaving import with_times
from videoprocess_server.media.iso.layout import Extent, Layout, Run
from videoprocess_server.media.iso.movie import Movie, Track
from videoprocess_server.media.iso.picture_track import PictureTrack
from videoprocess_server.media.iso.pointers import Pointers
from videoprocess_server.media.iso.table_boxes import seconds_of
from videoprocess_server.media.iso.timing import finer_scale
from videoprocess_server.media.iso.user_keys import UserValue, has_user_keys, write_user_keys
from videoprocess_server.model.losses import Loss

_QUICKTIME: Final = "qt  "
_SourceTrack = PictureTrack | CopiedTrack | DefragmentedTrack


class MovieBox:
    """A moov whose tracks are known, and whose places are not yet."""

    def __init__(
        self, movie: Movie, picture: NewPicture, added: Sequence[NewTrack], keys: Mapping[str, UserValue]
    ) -> None:
        self._movie = movie
        self._keys = keys
        self._left: list[Left] = []
        self.pointers = Pointers(movie.top_level.file_size)
        self.pointers.add_items(movie.box, None, None)
        self.pointers.add_place_lists(movie.box)
        self._picture_place = movie.tracks.index(movie.track(picture.track_id))
        self._tracks: list[_SourceTrack] = []
        for k, track in enumerate(movie.tracks):
            self.pointers.add_items(track.box, k, track.track_id)
            self._tracks.append(
                PictureTrack(movie, picture) if k == self._picture_place else self._kept_track(track, k)
            )
        ids = _free_ids(movie, len(added))
        is_quicktime = movie.major_brand == _QUICKTIME
        self._added = [
            AddedTrack(track, track_id, movie.timescale, is_quicktime=is_quicktime)
            for track, track_id in zip(added, ids, strict=True)
        ]
        self._scale, rounded = finer_scale(
            movie.timescale,
            (
                time
                for track in (*self._tracks, *self._added)
                if not isinstance(track, CopiedTrack)
                for time in track.inexact
            ),
        )
        if rounded:
            reason = "A start or an end lies between two ticks of the movie, which cannot be made finer."
            self._leave(Loss.EDIT_LIST, picture.track_id, rounded, reason)
        self._metas = children(movie.box, b"meta")
        self._key_meta = self._find_key_meta()

    @property
    def left(self) -> tuple[Left, ...]:
        """What is not carried over."""
        return (*self._left, *self.pointers.left)

    @property
    def runs(self) -> list[Run]:
        """The chunks of all tracks, in the order in which `build` expects their places."""
        runs = [track.run for track in (*self._tracks, *self._added)]
        picture = self._movie.tracks[self._picture_place]
        chunks = picture.chunks()
        return with_times(runs, chunks.offset, seconds_of(chunks.dts, picture.timescale))

    @property
    def largest_offset(self) -> int:
        """Of chunks in other files, which stay where they are."""
        return max(track.largest_offset if isinstance(track, CopiedTrack) else 0 for track in self._tracks)

    def build(self, layout: Layout, base: int, *, wide: bool) -> Parts:
        """The box.

        Args:
            layout: where everything is after the beginning of the media.
            base: where that is in the file.
            wide: whether offsets take 64 bits.
        """
        places = [position + base for position in layout.positions]

        def moved(extent: Extent) -> int:
            return base + layout.moved(extent)

        waiting = enumerate(self._tracks)
        last = len(self._tracks) - 1

        def track(_: Box) -> Parts:
            k, writer = next(waiting)
            changes = self.pointers.changes(k, moved, wide=wide)
            parts = writer.build(places[k], wide=wide, scale=self._scale, changes=changes)
            if k < last:
                return parts
            for own, offsets in zip(self._added, places[len(self._tracks) :], strict=False):
                parts += own.build(offsets, wide=wide, scale=self._scale)
            return parts + self._new_meta()

        changes = self.pointers.changes(None, moved, wide=wide)
        relocated = changes.get((b"meta",))

        def meta(box: Box) -> Parts:
            if self._key_meta is not None and box.data == self._key_meta.data:
                box = parse(joined(write_user_keys(box, self._keys, is_quicktime=False)))
            return relocated(box) if relocated else [box.data]

        changes |= {
            (b"mvhd",): lambda _: self._header(),
            (b"trak",): track,
            (b"mvex",): lambda _: [],
            (b"meta",): meta,
        }
        return rewrite(self._movie.box, changes)

    def _kept_track(self, track: Track, place: int) -> CopiedTrack | DefragmentedTrack:
        ends_open = any(not edit.duration and not edit.is_empty for edit in track.edits)
        fragmented = track.fragmented
        if track.is_external:
            count = len(fragmented.size) if fragmented else 0
            reason = "Media of this track is in another file, to which it still points."
            self._leave(Loss.EXTERNAL_REFERENCE, track.track_id, max(1, count), reason)
        elif self._movie.is_fragmented and (fragmented is not None or ends_open):
            whole = DefragmentedTrack(self._movie, track, fragmented or FragmentedTrack())
            for kind, count in whole.unread.items():
                reason = f"Boxes {kind} of fragments are not carried over to a file without fragments."
                self._leave(Loss.METADATA, track.track_id, count, reason)
            return whole
        self.pointers.add_auxiliary(track, place)
        return CopiedTrack(track)

    def _header(self) -> Parts:
        scale, movie = self._scale, self._movie
        header = movie.header.scaled(scale)
        durations = [track.duration(scale) for track in (*self._tracks, *self._added)]
        known = movie.tracks[self._picture_place].header.duration
        unchanged = known is not None and durations[self._picture_place] == known * scale
        if not unchanged or self._added or movie.is_fragmented:
            header = replace(header, duration=max(duration or 0 for duration in durations))
        if self._added:
            last = max(header.next_track_id - 1, *(track.track_id for track in movie.tracks))
            last = max(last, *(track.track_id for track in self._added))
            header = header.with_next_track_id(min(UINT32_MAX, last + 1))
        return header.build()

    def _find_key_meta(self) -> Box | None:
        """The meta box that gets the new keys, None where it is to be made or there are no keys."""
        if not self._keys or not self._metas:
            return None
        for meta in self._metas:
            try:
                if has_user_keys(meta):
                    write_user_keys(meta, self._keys, is_quicktime=False)
                    return meta
            except MediaFault:
                continue
        reason = f"The movie's metadata has no room for names such as {next(iter(self._keys))}."
        self._leave(Loss.METADATA, None, len(self._keys), reason)
        return None

    def _new_meta(self) -> Parts:
        if not self._keys or self._metas:
            return []
        return write_user_keys(None, self._keys, is_quicktime=self._movie.major_brand == _QUICKTIME)

    def _leave(self, what: Loss, track_id: int | None, count: int, reason: str) -> None:
        self._left.append(Left(what=what, track_id=track_id, count=count, reason=reason))


def _free_ids(movie: Movie, count: int) -> Iterator[int]:
    """Track ids that the movie does not use."""
    used = {track.track_id for track in movie.tracks}
    following = max(max(used, default=0) + 1, movie.header.next_track_id)
    if following + count > UINT32_MAX:
        following = 1
    while count:
        if following not in used:
            count -= 1
            yield following
        following += 1
