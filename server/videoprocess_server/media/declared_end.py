"""Where the display of a track's last frame ends: FFmpeg tells distances of decode times, edit lists and tables tell it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from av.container import InputContainer

from videoprocess_server.media.containers import ISO_DEMUXER_MARK
from videoprocess_server.media.iso.movie import Movie, Track, read_movie
from videoprocess_server.media.packets import PacketIndex


def with_declared_end(index: PacketIndex, fd: int, container: InputContainer, track_id: int) -> PacketIndex:
    """Give the index of a track with the end that the file declares; a Matroska file only tells packets' lengths.

    Raises:
        MediaFault: the file's boxes contradict themselves.
    """
    if ISO_DEMUXER_MARK not in container.format.name.split(","):
        return index
    end = declared_end(fd, track_id)
    return replace(index, end_pts=end) if end is not None and end > index.pts[-1] else index


def declared_end(fd: int, track_id: int) -> int | None:
    """Give the tick of the track's time scale at which its last frame is no longer shown.

    An edit list tells it in ticks of the movie, which are often coarser: where the samples end less than such a tick before
    or after, they tell it exactly.

    Args:
        fd: an ISO file, opened for reading.
        track_id: which of its tracks.

    Returns:
        The tick, None of a track without samples.

    Raises:
        MediaFault: the file's boxes contradict themselves.
    """
    movie = read_movie(fd)
    track = movie.track(track_id)
    samples = track.samples()
    if not len(samples):
        return None
    last = int(np.argmax(samples.pts))
    media_end = int(samples.pts[last] + samples.duration[last])
    edited, shift = _end_by_edits(movie, track)
    if edited is None or abs(media_end + shift - edited) < Fraction(track.timescale, movie.timescale):
        return media_end + shift
    return round(edited)


def _end_by_edits(movie: Movie, track: Track) -> tuple[Fraction | None, int]:
    """Where the last edit ends, None where it has no length, and what it adds to the times of its samples."""
    tick = Fraction(track.timescale, movie.timescale)
    end, shift, is_bounded = Fraction(0), 0, False
    for edit in track.edits:
        if not edit.is_empty:
            shift, is_bounded = round(end) - edit.media_time, edit.duration > 0
        end += edit.duration * tick
    return end if is_bounded else None, shift
