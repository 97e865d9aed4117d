"""Videos as text for people."""

from __future__ import annotations

from collections.abc import Iterator

from videoprocess.v1 import job_pb2, video_pb2
from videoprocess_client.cli.texts import blocked, labelled, megabytes, report_lines, words
from videoprocess_client.names import short_name

# Wide enough for `queued (pause before another try)`.
STATE_WIDTH = 33


def state_of(video: video_pb2.Video) -> str:
    """Where a video is, what it waits for, and how far it is."""
    state = words(short_name(video_pb2.VideoState.DESCRIPTOR, video.state))
    if video.blocked_by:
        return f"{state} ({blocked(short_name(job_pb2.BlockReason.DESCRIPTOR, video.blocked_by))})"
    if video.state in (video_pb2.VIDEO_STATE_RUNNING, video_pb2.VIDEO_STATE_PAUSED):
        return f"{state} {video.progress.percent:.1f} %"
    return state


def video_lines(video: video_pb2.Video) -> Iterator[str]:
    """Everything about a video, in a few lines."""
    yield video.video_id
    yield labelled("state", state_of(video))
    for source in video.sources:
        media = source.media
        what = f", {media.video_codec} {media.width}x{media.height}" if source.HasField("media") else ""
        yield labelled("source", f"{source.file_name or 'file'}, {megabytes(source.size_bytes)}{what}")
    if video.HasField("progress") and video.state != video_pb2.VIDEO_STATE_COMPLETED:
        progress = video.progress
        yield labelled(
            "progress", f"{progress.percent:.1f} %, {progress.frames_done}/{progress.frames_total} frames"
        )
    if video.HasField("last_error"):
        yield labelled("error", f"{video.last_error.message} ({video.last_error.reason})")
    for artifact in video.artifacts:
        yield labelled(
            "result", f"{artifact.file_name}, {megabytes(artifact.size_bytes)}, {artifact.artifact_id}"
        )
    if video.HasField("report"):
        report = video.report
        yield from report_lines(report, report.source_size_bytes, report.output_size_bytes)
    if video.HasField("expire_time"):
        yield labelled("expires", video.expire_time.ToJsonString())
