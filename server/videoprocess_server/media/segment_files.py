"""Reads a rendition's pictures out of the segments' files: their times, which the plan must know, and their bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.encode import renditions_in
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.movie import Movie, Track, read_movie
from videoprocess_server.media.iso.sample_entries import merge_sample_entry
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.timestamps import rebuild_dts_array
from videoprocess_server.model.plan import Plan, Rendition, SegmentPlan

#: time stamps that are hashed at a time
_PART = 4096


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """All pictures of a rendition in decode order; times in ticks of the renditions."""

    #: as ISO files have it, without the bit rate of one segment
    sample_entry: bytes
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    #: of display
    duration: NDArray[np.int64]
    #: in bytes
    size: NDArray[np.int64]
    sync: NDArray[np.bool_]
    #: where the last one's display ends
    shown_until: int
    _files: tuple[_File, ...]

    def read(self) -> Iterator[bytes]:
        """Give each picture's bytes.

        Raises:
            MediaFault: a file ends before them.
        """
        for file in self._files:
            with _opened(file.path) as fd:
                for offset, size in zip(file.offset.tolist(), file.size.tolist(), strict=True):
                    data = os.pread(fd, size, offset)
                    if len(data) != size:
                        raise MediaFault("JOIN_FAILED", "A segment's file ends within a picture.")
                    yield data


@dataclass(frozen=True, kw_only=True)
class _File:
    """One segment's pictures."""

    path: str
    sample_entry: bytes
    pts: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    sync: NDArray[np.bool_]


def read_pictures(plan: Plan, rendition: Rendition, paths: Sequence[str], pulse: Pulse) -> Pictures:
    """Read the tables of all segments' files and compare them with the plan.

    Args:
        plan: of the result.
        rendition: one of its moving ones.
        paths: of the segments, in order.
        pulse: told of each file.

    Raises:
        MediaFault: JOIN_FAILED, they are not what was planned, or do not fit together.
    """
    if len(paths) != len(plan.segments):
        raise MediaFault("JOIN_FAILED", f"{len(paths)} files for {len(plan.segments)} segments.")
    files: list[_File] = []
    for segment, path in zip(plan.segments, paths, strict=True):
        file = _read_file(path, plan, segment, rendition)
        _check_next(files[-1] if files else None, file, segment)
        files.append(file)
        pulse.beat(size=Path(path).stat().st_size)
    pts = np.concatenate([file.pts for file in files])
    shown = _shown(pts, plan)
    shown_until = max(round(plan.end_pts * plan.time_base / plan.output_time_base), int(shown[-1]) + 1)
    durations = np.append(shown[1:], shown_until) - shown
    # A wide first step would make the media longer than it is shown, and its frame rate as readers average it lower.
    step = int(durations[:-1].min()) if len(durations) > 1 else int(durations[0])
    return Pictures(
        sample_entry=files[0].sample_entry,
        pts=pts,
        dts=rebuild_dts_array(pts, step),
        duration=durations[np.searchsorted(shown, pts)],
        size=np.concatenate([file.size for file in files]),
        sync=np.concatenate([file.sync for file in files]),
        shown_until=shown_until,
        _files=tuple(files),
    )


def _read_file(path: str, plan: Plan, segment: SegmentPlan, rendition: Rendition) -> _File:
    place = renditions_in(plan, segment).index(rendition)
    with _opened(path) as fd:
        movie = read_movie(fd)
    if place >= len(movie.tracks) or len(movie.tracks[place].sample_entries) != 1:
        raise MediaFault("JOIN_FAILED", f"Segment {segment.index} has no such pictures.")
    track = movie.tracks[place]
    samples, (entry,) = track.samples(), track.sample_entries
    pts = (samples.pts + _begin(movie, track)) * _whole(Fraction(1, track.timescale) / plan.output_time_base)
    return _File(
        path=path,
        sample_entry=merge_sample_entry(entry, entry, ()),
        pts=pts,
        offset=samples.offset,
        size=samples.size,
        sync=samples.sync,
    )


def _begin(movie: Movie, track: Track) -> int:
    """Ticks that the edit list adds to every time of the track."""
    begin = 0
    for edit in track.edits:
        if not edit.is_empty:
            return begin - edit.media_time
        begin += _whole(Fraction(edit.duration * track.timescale, movie.timescale))
    return begin


def _whole(ticks: Fraction) -> int:
    if ticks.denominator != 1:
        raise MediaFault("JOIN_FAILED", "A segment's time stamp lies between two ticks of the plan.")
    return int(ticks)


def _check_next(before: _File | None, file: _File, segment: SegmentPlan) -> None:
    if len(file.pts) != segment.frame_count:
        raise MediaFault(
            "JOIN_FAILED",
            f"Segment {segment.index} has {len(file.pts)} frames where the plan has {segment.frame_count}.",
        )
    if before is None:
        return
    if file.sample_entry != before.sample_entry:
        raise MediaFault(
            "JOIN_FAILED", f"Segment {segment.index} has other parameter sets than the one before."
        )
    if file.pts.min() <= before.pts.max():
        raise MediaFault("JOIN_FAILED", f"Segment {segment.index} is not what comes after the one before.")


def _shown(pts: NDArray[np.int64], plan: Plan) -> NDArray[np.int64]:
    """All time stamps in order of display, which are those of the plan."""
    shown = np.sort(pts)
    digest = hashlib.sha256()
    for part in np.array_split(shown, max(1, len(shown) // _PART)):
        digest.update("".join(f"{tick}\n" for tick in part.tolist()).encode())
    if len(shown) != plan.frame_count or digest.hexdigest() != plan.pts_sha256:
        raise MediaFault("JOIN_FAILED", "The segments' time stamps are not those of the plan.")
    return shown


@contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
