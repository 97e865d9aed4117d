"""Joins for an MP4, MOV or 3GP source: its own file once more, in which one track has other samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from videoprocess_server.media.accounts import Account
from videoprocess_server.media.carried_units import carried_boxes
from videoprocess_server.media.completion_keys import completion_keys
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.hevc_configuration import with_carried_messages
from videoprocess_server.media.iso.added import Left, NewPicture
from videoprocess_server.media.iso.movie import Movie, Track, read_movie
from videoprocess_server.media.iso.sample_entries import merge_sample_entry
from videoprocess_server.media.iso.transplant import transplant
from videoprocess_server.media.join_maker import maker_tracks
from videoprocess_server.media.kept_boxes import kept_boxes, lost_boxes
from videoprocess_server.media.orientation import IDENTITY, before_movie_matrix, fit_matrix
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.segment_files import Pictures
from videoprocess_server.media.source import open_source
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import TrackInfo
from videoprocess_server.model.plan import NotKept
from videoprocess_server.model.tasks import JoinTask, TrackReport


def write(task: JoinTask, fd: int, pictures: Pictures, pulse: Pulse) -> Account:
    """Write the result into the file that is there, and tell what became of each track.

    Raises:
        MediaFault: JOIN_FAILED, the source's boxes contradict themselves.
    """
    movie = read_movie(fd)
    ids = _track_ids(fd, task.media.tracks)
    picture = movie.track(ids[task.media.video.index])
    if not picture.sample_entries:
        raise MediaFault("JOIN_FAILED", "The picture's track has no sample entry (stsd).")
    plan, rendition = task.plan, task.plan.renditions[task.rendition_index]
    with Path(task.output_path).open("wb") as out:
        left = transplant(
            fd,
            out,
            _new_picture(task, movie, picture, pictures, pulse),
            added=maker_tracks(task, pictures, picture.track_id),
            keys=completion_keys(task.media.video, rendition, plan),
            moov_first=movie.moov_first if plan.moov_first is None else plan.moov_first,
            beat=lambda size: pulse.beat(size=size),
        )
    indexes = {track_id: index for index, track_id in ids.items()}
    not_kept = (
        *(_named(lost, indexes) for lost in left),
        *lost_boxes(
            picture.sample_entries[0],
            task.media,
            plan,
            rendition,
            carried_boxes(rendition.carried_length_size),
        ),
        *_hidden(movie, picture, task),
    )
    return Account(tracks=tuple(_reports(task, movie, ids, pictures)), not_kept=not_kept)


def _new_picture(
    task: JoinTask, movie: Movie, picture: Track, pictures: Pictures, pulse: Pulse
) -> NewPicture:
    plan = task.plan
    rendition = plan.renditions[task.rendition_index]
    encoder = rendition.encoder
    return NewPicture(
        track_id=picture.track_id,
        timescale=plan.output_time_base.denominator,
        sample_entry=_sample_entry(pictures.sample_entry, picture.sample_entries[0], task),
        pts=pictures.pts,
        dts=pictures.dts,
        size=pictures.size,
        sync=pictures.sync,
        shown_until=pictures.shown_until,
        width=encoder.width,
        height=encoder.height,
        sample_aspect_ratio=encoder.sample_aspect_ratio or None,
        matrix=_matrix(task, movie, picture),
        read=lambda: _told(pictures.read(), pulse),
    )


def _matrix(task: JoinTask, movie: Movie, picture: Track) -> tuple[int, ...] | None:
    """How the track is turned, None as it is; the pictures may come from a file that turns them otherwise.

    Raises:
        MediaFault: JOIN_FAILED where the whole movie is turned in a way that cannot be undone.
    """
    rendition, video = task.plan.renditions[task.rendition_index], task.media.video
    size = rendition.encoder.width, rendition.encoder.height
    fitted = fit_matrix(picture.matrix, (video.width, video.height), size)
    planned = rendition.display_matrix or IDENTITY
    turned = planned if movie.header.matrix == IDENTITY else fitted
    if task.plan.orientation_degrees is not None:
        undone = before_movie_matrix(planned, movie.header.matrix)
        if undone is None:
            raise MediaFault("JOIN_FAILED", "The source's movie header (mvhd) is turned by no right angle.")
        turned = undone
    return None if turned == picture.matrix else turned


def _sample_entry(encoded: bytes, source: bytes, task: JoinTask) -> bytes:
    """The encoder's, with what of the source's holds for the new picture, too."""
    rendition = task.plan.renditions[task.rendition_index]
    carried = rendition.carried_length_size
    kept = kept_boxes(source, task.media, task.plan, rendition, carried_boxes(carried))
    merged = merge_sample_entry(encoded, source, kept)
    return with_carried_messages(merged, source) if carried else merged


def _told(pictures: Iterator[bytes], pulse: Pulse) -> Iterator[bytes]:
    for number, picture in enumerate(pictures, 1):
        pulse.beat(frames=number)
        yield picture


def _track_ids(fd: int, tracks: Sequence[TrackInfo]) -> dict[int, int]:
    """The ids of the file's tracks by FFmpeg's index, which the probe and the plan count in."""
    with open_source(fd) as source:
        ids = {stream.index: stream.id for stream in source.streams}
    if missing := [track.index for track in tracks if track.index not in ids]:
        raise MediaFault("SOURCE_CHANGED", f"The file no longer has a track {missing[0]}.")
    return ids


def _reports(task: JoinTask, movie: Movie, ids: dict[int, int], pictures: Pictures) -> Iterator[TrackReport]:
    tracks = {track.track_id: track for track in movie.tracks}
    for info in task.media.tracks:
        # A cover picture of the file's metadata is a track to FFmpeg only.
        track = tracks.get(ids[info.index])
        count = 1 if track is None else len(track.samples())
        is_picture = info.index == task.media.video.index
        yield _report(
            info, count, len(pictures.pts) if is_picture else count, "Made anew." if is_picture else ""
        )


def _report(info: TrackInfo, before: int, after: int, note: str) -> TrackReport:
    return TrackReport(
        index=info.index,
        kind=info.kind.value,
        codec=info.codec,
        source_packet_count=before,
        packet_count=after,
        kept=True,
        note=note,
    )


def _named(left: Left, indexes: dict[int, int]) -> NotKept:
    index = None if left.track_id is None else indexes.get(left.track_id)
    return NotKept(what=left.what, track_index=index, count=left.count, reason=left.reason)


def _hidden(movie: Movie, picture: Track, task: JoinTask) -> Iterator[NotKept]:
    """Frames that the source has and its edit list does not show; they are decoded and not encoded."""
    shown = [edit for edit in picture.edits if not edit.is_empty]
    if not shown or movie.is_fragmented:
        return
    pts = picture.samples().pts
    inside = np.zeros(len(pts), dtype=np.bool_)
    for edit in shown:
        length = -(-edit.duration * picture.timescale // movie.timescale)
        inside |= (pts >= edit.media_time) & (pts < edit.media_time + length)
    if hidden := int(len(pts) - inside.sum()):
        yield NotKept(
            what=Loss.PACKETS_OUTSIDE_EDIT,
            track_index=task.media.video.index,
            count=hidden,
            reason="Pictures that the source's edit list hides from players are not in the result.",
        )
