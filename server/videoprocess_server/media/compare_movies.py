"""Compares the boxes of a result with its source's: what FFmpeg does not tell, and tracks it does not read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

import numpy as np

from videoprocess_server.media.differences import Difference
from videoprocess_server.media.iso.movie import Movie, Track, read_movie
from videoprocess_server.media.iso.samples import Samples
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.model.losses import Loss

#: of every track
_KEPT: Final[Mapping[str, Callable[[Track], Any]]] = {
    "id": lambda track: track.track_id,
    "handler": lambda track: track.handler,
    "language": lambda track: track.language,
    "references": lambda track: track.references,
}
#: of all but the picture's
_COPIED: Final[Mapping[str, Callable[[Track], Any]]] = {
    **_KEPT,
    "time scale": lambda track: track.timescale,
    "sample entries": lambda track: track.sample_entries,
    "matrix": lambda track: track.matrix,
    "size": lambda track: (track.width, track.height),
}
#: what says how a picture is coded or a file cut into pieces, and may not be true of the result
_BRANDS_OF_CODECS: Final = frozenset(
    {"av01", "avc1", "hvc1", "vp09", "dby1", "dash", "msdh", "msix", "cmfc", "cmf2", "cmff", "cmfl", "cmfs"}
)
_PART_BYTES: Final = 1 << 20


def movie_differences(
    source_fd: int,
    result_fd: int,
    picture_id: int,
    written: Mapping[int, int],
    read: frozenset[int],
    pulse: Pulse,
) -> Iterator[Difference]:
    """Give the differences of boxes and sample tables.

    Args:
        source_fd: the source.
        result_fd: what was made of it.
        picture_id: of the track that was made anew.
        written: numbers of samples that the join says it wrote, by id.
        read: ids of the tracks whose samples FFmpeg gives; those of the others are compared here.
        pulse: told of what is read.

    Raises:
        MediaFault: boxes that contradict themselves.
    """
    source, result = read_movie(source_fd), read_movie(result_fd)
    if source.major_brand != result.major_brand and source.major_brand not in _BRANDS_OF_CODECS:
        text = f"its brand is {result.major_brand}, not {source.major_brand}"
        yield Difference(what=None, track_index=None, text=text)
    for index, (old, new) in enumerate(zip(source.tracks, result.tracks, strict=False)):
        is_picture = old.track_id == picture_id
        for name, tell in (_KEPT if is_picture else _COPIED).items():
            if tell(old) != tell(new):
                text = f"the {name} of track {index} is {tell(new)!r}, not {tell(old)!r}"
                yield Difference(what=None, track_index=index, text=text)
        if len(new.samples()) != written.get(new.track_id, len(new.samples())):
            text = f"track {index} has {len(new.samples())} packets, {written[new.track_id]} were written"
            yield Difference(what=None, track_index=index, text=text)
        if old.is_external and not is_picture:
            text = f"media of track {index} is in another file"
            yield Difference(what=Loss.EXTERNAL_REFERENCE, track_index=index, text=text)
        if is_picture or old.is_external:
            continue
        edits = [
            _edits(movie, track, lengths=not source.is_fragmented)
            for movie, track in ((source, old), (result, new))
        ]
        if edits[0] != edits[1]:
            text = f"the edit list of track {index} is {edits[1]}, not {edits[0]}"
            yield Difference(what=Loss.EDIT_LIST, track_index=index, text=text)
        before, after = old.samples(), new.samples()
        yield from _of_tables(index, _without_gaps(before) if source.is_fragmented else before, after)
        if old.track_id not in read and _digest(source_fd, before, pulse) != _digest(result_fd, after, pulse):
            yield Difference(what=None, track_index=index, text=f"track {index} has other samples")


def _edits(movie: Movie, track: Track, *, lengths: bool) -> list[tuple[Fraction, int, Fraction]]:
    """In seconds; an edit of a file in fragments may have no length, which means all there is."""
    return [
        (Fraction(edit.duration, movie.timescale) if lengths else Fraction(), edit.media_time, edit.rate)
        for edit in track.edits
        if lengths or not edit.is_empty
    ]


def _without_gaps(samples: Samples) -> Samples:
    """Those of fragments as they last: a time between two fragments lengthens the sample before (ISO/IEC 14496-12, 8.8.12)."""
    lengths = np.append(np.diff(samples.dts), samples.duration[-1:])
    return replace(samples, duration=lengths)


def _of_tables(index: int, before: Samples, after: Samples) -> Iterator[Difference]:
    if len(before) != len(after):
        text = f"track {index} has {len(after)} samples, not {len(before)}"
        yield Difference(what=None, track_index=index, text=text)
        return
    for name in ("size", "duration", "sync", "description"):
        if not np.array_equal(getattr(before, name), getattr(after, name)):
            yield Difference(
                what=None, track_index=index, text=f"the {name} of samples of track {index} differs"
            )
    for name in ("dts", "pts"):
        if len(before) and not np.array_equal(
            getattr(before, name) - before.dts[0], getattr(after, name) - after.dts[0]
        ):
            yield Difference(
                what=None, track_index=index, text=f"the {name} of samples of track {index} differs"
            )


def _digest(fd: int, samples: Samples, pulse: Pulse) -> str:
    digest = hashlib.sha256()
    for offset, size in zip(samples.offset.tolist(), samples.size.tolist(), strict=True):
        for at in range(0, size, _PART_BYTES):
            part = os.pread(fd, min(_PART_BYTES, size - at), offset + at)
            digest.update(part)
            pulse.beat(size=len(part))
    return digest.hexdigest()
