"""Videos and their sources."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from videoprocess.v1 import types_pb2, video_pb2
from videoprocess_server.engine.videos import VideoView
from videoprocess_server.model.descriptions import describe_streams
from videoprocess_server.model.hdi import MediaStreamType
from videoprocess_server.model.media_info import MediaInfo, TrackKind
from videoprocess_server.model.records import Fault, Job, Phase, Source, SourceKind, Video
from videoprocess_server.model.states import VideoState
from videoprocess_server.rpc.convert import jobs, reports, times
from videoprocess_server.rpc.convert.enums import SOURCE_KINDS, VIDEO_STATE_OF_NUMBER, VIDEO_STATES
from videoprocess_server.rpc.convert.fields import invalid
from videoprocess_server.rpc.convert.streams import description

_SHA256_IDENTITY = "sha256:"


def video_states(numbers: Sequence[int]) -> frozenset[VideoState]:
    """Return the states a list is filtered by: all but DELETED where none is named.

    Raises:
        VideoProcessError: INVALID_FIELD.
    """
    for position, number in enumerate(numbers):
        if number not in VIDEO_STATE_OF_NUMBER:
            raise invalid(f"states[{position}]", f"has no value {number}")
    return frozenset(VIDEO_STATE_OF_NUMBER[number] for number in numbers) or frozenset(VideoState) - {
        VideoState.DELETED
    }


def video(
    view: VideoView,
    *,
    resume_us: int | None = None,
    expire_us: int | None = None,
    with_report: bool = True,
) -> video_pb2.Video:
    """Return the message of a video with what belongs to it.

    Args:
        view: the video.
        resume_us: media time that the next ProcessVideo goes on at; None where it begins anew.
        expire_us: wall time at which what its state keeps is dropped; None where nothing is.
        with_report: whether the report of the newest result is told.
    """
    record, newest, result = view.video, view.job, view.result_job
    made = result.report if with_report and result is not None else None
    fault = _last_fault(view)
    return video_pb2.Video(
        user_id=record.user_id,
        video_id=record.video_id,
        state=VIDEO_STATES[record.state],
        create_time=times.timestamp(record.create_time_us),
        update_time=times.timestamp(record.update_time_us),
        expire_time=times.optional_timestamp(expire_us),
        sources=_sources(record),
        stream_descs=[description(found) for found in describe_streams(record.media, record.companion_media)]
        if record.media
        else [],
        job=jobs.job(newest) if newest else None,
        progress=jobs.progress(newest.progress)
        if newest and newest.progress.phase is not Phase.NONE
        else None,
        blocked_by=jobs.blocked_by(newest),
        resume_timestamp_us=resume_us,
        attempt_count=record.attempt_count,
        last_error=jobs.video_error(fault) if fault else None,
        artifacts=[reports.artifact(file) for file in view.artifacts],
        report=reports.report(made, view.artifacts) if made else None,
    )


def _last_fault(view: VideoView) -> Fault | None:
    """The video's own, or why its work was paused; both are forgotten once it completes."""
    newest: Job | None = view.job
    if view.video.state is VideoState.PAUSED and newest is not None:
        return newest.fault
    return None if view.video.state is VideoState.COMPLETED else view.video.last_fault


def _sources(record: Video) -> list[video_pb2.SourceInfo]:
    """Return the files in the order given to Prepare."""
    if record.source is None:
        return []
    movie = _source(record.source, record.media)
    if record.companion is None:
        return [movie]
    return [movie, movie, _source(record.companion, record.companion_media)]


def _source(source: Source, media: MediaInfo | None) -> video_pb2.SourceInfo:
    shared = source.kind is SourceKind.SHARED
    return video_pb2.SourceInfo(
        kind=SOURCE_KINDS[source.kind],
        upload_id=source.upload_id if source.kind is SourceKind.UPLOAD else "",
        shared_path=types_pb2.SharedPath(root=source.root, path=source.path) if shared else None,
        file_name=source.file_name,
        size_bytes=source.size_bytes,
        sha256=source.identity.removeprefix(_SHA256_IDENTITY)
        if source.identity.startswith(_SHA256_IDENTITY)
        else "",
        media=media_info(media) if media else None,
    )


def media_info(media: MediaInfo) -> video_pb2.MediaInfo:
    """Return what a probe found."""
    track = next((track for track in media.tracks if track.index == media.video.index), None)
    described = describe_streams(media)
    return video_pb2.MediaInfo(
        container=media.container,
        duration_us=media.duration_us or 0,
        video_codec=media.video.codec,
        width=media.video.width,
        height=media.video.height,
        rotation_degrees=media.video.rotation_degrees,
        frame_rate=_rational(media.video.average_frame_rate),
        variable_frame_rate=media.video.variable_frame_rate,
        frame_count=track.packet_count if track else 0,
        audio_track_count=sum(track.kind is TrackKind.AUDIO for track in media.tracks),
        metadata_track_count=sum(stream.type is MediaStreamType.METADATA for stream in described),
    )


def _rational(value: Fraction | None) -> video_pb2.Rational | None:
    return (
        None
        if value is None
        else video_pb2.Rational(numerator=value.numerator, denominator=value.denominator)
    )
