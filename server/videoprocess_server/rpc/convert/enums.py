"""Our own enums to the wire's, by table. Mirrored ones have the HDI's numbers on both sides and need none."""

from __future__ import annotations

from collections.abc import Mapping

from videoprocess.v1 import job_pb2, report_pb2, video_pb2
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import TrackKind
from videoprocess_server.model.records import ArtifactKind, Phase, Priority, SourceKind
from videoprocess_server.model.states import BlockReason, JobState, VideoState

VIDEO_STATES: Mapping[VideoState, video_pb2.VideoState.ValueType] = {
    VideoState.PENDING: video_pb2.VIDEO_STATE_PENDING,
    VideoState.QUEUED: video_pb2.VIDEO_STATE_QUEUED,
    VideoState.RUNNING: video_pb2.VIDEO_STATE_RUNNING,
    VideoState.PAUSED: video_pb2.VIDEO_STATE_PAUSED,
    VideoState.COMPLETED: video_pb2.VIDEO_STATE_COMPLETED,
    VideoState.FAILED: video_pb2.VIDEO_STATE_FAILED,
    VideoState.ERROR: video_pb2.VIDEO_STATE_ERROR,
    VideoState.DELETED: video_pb2.VIDEO_STATE_DELETED,
}
VIDEO_STATE_OF_NUMBER: Mapping[int, VideoState] = {number: state for state, number in VIDEO_STATES.items()}

JOB_STATES: Mapping[JobState, job_pb2.JobState.ValueType] = {
    JobState.QUEUED: job_pb2.JOB_STATE_QUEUED,
    JobState.RUNNING: job_pb2.JOB_STATE_RUNNING,
    JobState.COMPLETED: job_pb2.JOB_STATE_COMPLETED,
    JobState.FAILED: job_pb2.JOB_STATE_FAILED,
    JobState.ABORTED: job_pb2.JOB_STATE_ABORTED,
}

PRIORITIES: Mapping[Priority, job_pb2.Priority.ValueType] = {
    Priority.NORMAL: job_pb2.PRIORITY_NORMAL,
    Priority.HIGH: job_pb2.PRIORITY_HIGH,
}
#: UNSPECIFIED in a request leaves it to the service
PRIORITY_OF_NUMBER: Mapping[int, Priority | None] = {
    job_pb2.PRIORITY_UNSPECIFIED: None,
    **{number: priority for priority, number in PRIORITIES.items()},
}

BLOCK_REASONS: Mapping[BlockReason, job_pb2.BlockReason.ValueType] = {
    BlockReason.NONE: job_pb2.BLOCK_REASON_UNSPECIFIED,
    BlockReason.SPACE_LIMIT: job_pb2.BLOCK_REASON_SPACE_LIMIT,
    BlockReason.OVERHEAT: job_pb2.BLOCK_REASON_OVERHEAT,
    BlockReason.PREEMPTED: job_pb2.BLOCK_REASON_PREEMPTED,
    BlockReason.DRAINING: job_pb2.BLOCK_REASON_DRAINING,
    BlockReason.FAIR_SHARE: job_pb2.BLOCK_REASON_FAIR_SHARE,
    BlockReason.QUIET_HOURS: job_pb2.BLOCK_REASON_QUIET_HOURS,
    BlockReason.MANUAL: job_pb2.BLOCK_REASON_MANUAL,
    BlockReason.STORE_UNREACHABLE: job_pb2.BLOCK_REASON_STORE_UNREACHABLE,
    BlockReason.RETRY_BACKOFF: job_pb2.BLOCK_REASON_RETRY_BACKOFF,
}

PHASES: Mapping[Phase, job_pb2.JobPhase.ValueType] = {
    Phase.NONE: job_pb2.JOB_PHASE_UNSPECIFIED,
    Phase.ANALYZE: job_pb2.JOB_PHASE_ANALYZE,
    Phase.PLAN: job_pb2.JOB_PHASE_PLAN,
    Phase.ENHANCE: job_pb2.JOB_PHASE_ENHANCE,
    Phase.JOIN: job_pb2.JOB_PHASE_JOIN,
    Phase.VERIFY: job_pb2.JOB_PHASE_VERIFY,
    Phase.PUBLISH: job_pb2.JOB_PHASE_PUBLISH,
}

SOURCE_KINDS: Mapping[SourceKind, video_pb2.SourceKind.ValueType] = {
    SourceKind.UPLOAD: video_pb2.SOURCE_KIND_UPLOAD,
    SourceKind.SHARED: video_pb2.SOURCE_KIND_SHARED_PATH,
    SourceKind.DESCRIPTOR: video_pb2.SOURCE_KIND_DESCRIPTOR,
}

ARTIFACT_KINDS: Mapping[ArtifactKind, report_pb2.ArtifactKind.ValueType] = {
    ArtifactKind.VIDEO: report_pb2.ARTIFACT_KIND_VIDEO,
    ArtifactKind.PREVIEW: report_pb2.ARTIFACT_KIND_PREVIEW,
    ArtifactKind.STILL: report_pb2.ARTIFACT_KIND_STILL,
    ArtifactKind.THUMBNAIL: report_pb2.ARTIFACT_KIND_THUMBNAIL,
    ArtifactKind.REPORT: report_pb2.ARTIFACT_KIND_REPORT,
    ArtifactKind.METADATA: report_pb2.ARTIFACT_KIND_METADATA,
    ArtifactKind.COMPARISON: report_pb2.ARTIFACT_KIND_COMPARISON,
}

TRACK_KINDS: Mapping[TrackKind, report_pb2.TrackKind.ValueType] = {
    TrackKind.VIDEO: report_pb2.TRACK_KIND_VIDEO,
    TrackKind.AUDIO: report_pb2.TRACK_KIND_AUDIO,
    TrackKind.SUBTITLE: report_pb2.TRACK_KIND_SUBTITLE,
    TrackKind.DATA: report_pb2.TRACK_KIND_DATA,
    TrackKind.ATTACHMENT: report_pb2.TRACK_KIND_ATTACHMENT,
    TrackKind.UNKNOWN: report_pb2.TRACK_KIND_OTHER,
}

LOSSES: Mapping[Loss, report_pb2.NotKeptCategory.ValueType] = {
    Loss.TRACK: report_pb2.NOT_KEPT_CATEGORY_TRACK,
    Loss.PACKETS_OUTSIDE_EDIT: report_pb2.NOT_KEPT_CATEGORY_PACKET,
    Loss.EDIT_LIST: report_pb2.NOT_KEPT_CATEGORY_EDIT_LIST,
    Loss.TIME_STAMPS: report_pb2.NOT_KEPT_CATEGORY_TIMESTAMP,
    Loss.METADATA: report_pb2.NOT_KEPT_CATEGORY_USER_METADATA,
    Loss.HDR_METADATA: report_pb2.NOT_KEPT_CATEGORY_HDR_METADATA,
    Loss.TIME_CODE: report_pb2.NOT_KEPT_CATEGORY_SIDE_DATA,
    Loss.CODEC: report_pb2.NOT_KEPT_CATEGORY_CODEC,
    Loss.BIT_DEPTH: report_pb2.NOT_KEPT_CATEGORY_OTHER,
    Loss.PIXEL_FORMAT: report_pb2.NOT_KEPT_CATEGORY_OTHER,
    Loss.ALPHA: report_pb2.NOT_KEPT_CATEGORY_OTHER,
    Loss.ODD_SIZE: report_pb2.NOT_KEPT_CATEGORY_PICTURE_SIZE,
    Loss.INTERLACED: report_pb2.NOT_KEPT_CATEGORY_OTHER,
    Loss.ENCODER_PARAMETERS: report_pb2.NOT_KEPT_CATEGORY_OTHER,
    Loss.UNDECODABLE_FRAMES: report_pb2.NOT_KEPT_CATEGORY_FRAME,
    Loss.UNTIMED_FRAMES: report_pb2.NOT_KEPT_CATEGORY_FRAME,
    Loss.DAMAGED_FRAMES: report_pb2.NOT_KEPT_CATEGORY_FRAME,
    Loss.PICTURE_MARKS: report_pb2.NOT_KEPT_CATEGORY_SIDE_DATA,
    Loss.EXTERNAL_REFERENCE: report_pb2.NOT_KEPT_CATEGORY_EXTERNAL_REFERENCE,
}


def track_kind(kind: str) -> report_pb2.TrackKind.ValueType:
    """Return the kind of a report's track; OTHER for a word we do not know."""
    known = {member.value: member for member in TrackKind}
    return TRACK_KINDS[known.get(kind, TrackKind.UNKNOWN)]
