"""The rows the service keeps. Wall times are microseconds since the Unix epoch; media times say theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from fractions import Fraction

from videoprocess_server.model.hdi import ErrorCode, ExecutionMode
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.plan import NoiseEstimate, NotKept, Plan
from videoprocess_server.model.quality import Quality, SegmentMeasures
from videoprocess_server.model.settings_snapshot import Snapshot, StreamInfo
from videoprocess_server.model.states import BlockReason, JobState, SegmentState, UploadState, VideoState
from videoprocess_server.model.tasks import TrackReport


@dataclass(frozen=True, kw_only=True)
class Session:
    """A caller's session."""

    session_id: str
    user_id: int
    execution_mode: ExecutionMode
    create_time_us: int
    #: of the last call, event delivered or running work
    last_used_time_us: int
    #: None while open
    close_time_us: int | None = None
    #: created streams in order of creation
    streams: tuple[StreamInfo, ...] = ()
    #: what the last CommitStreams froze; None until then
    committed: Snapshot | None = None


class SourceKind(Enum):
    """Where a video's bytes are."""

    UPLOAD = "upload"
    SHARED = "shared"
    #: copied from a descriptor that was passed; kept as an upload that its user does not know by its id
    DESCRIPTOR = "descriptor"


@dataclass(frozen=True, kw_only=True)
class Source:
    """The file behind a video."""

    kind: SourceKind
    #: what makes it the same source: an upload's SHA-256, a shared file's device, inode, size and mtime
    identity: str
    size_bytes: int
    #: as the caller knows it, without directories; "" where nobody said
    file_name: str = ""
    upload_id: str = ""
    #: of that upload
    blob_key: str = ""
    root: str = ""
    path: str = ""

    @property
    def upload_key(self) -> str:
        """The key of the upload's bytes."""
        return self.blob_key or self.upload_id


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why something ended in OnError."""

    error_code: ErrorCode
    #: a reason of the catalogue in errors.py
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video of a user."""

    user_id: int
    video_id: str
    state: VideoState
    create_time_us: int
    update_time_us: int
    source: Source | None = None
    #: what Prepare learnt; None until prepared
    media: MediaInfo | None = None
    #: the file that sound and metadata come from, where it is another one than that of the pictures
    companion: Source | None = None
    #: what Prepare learnt of the companion
    companion_media: MediaInfo | None = None
    #: jobs accepted for it that reached a driver
    attempt_count: int = 0
    last_job_id: str = ""
    last_fault: Fault | None = None
    #: settings fingerprint of the newest published result, and its job
    result_fingerprint: str = ""
    result_job_id: str = ""
    #: when the trash forgets it; None unless DELETED
    expire_time_us: int | None = None
    #: who drives its job, or drove the last one: frozen work of anybody else is stale
    last_driver: Driver | None = None


class Priority(Enum):
    """How urgent a job is."""

    NORMAL = "normal"
    HIGH = "high"


class QueueClass(IntEnum):
    """Which of a user's jobs of one priority come first."""

    #: has finished segments to go on from
    PAUSED = 0
    FRESH = 1
    #: failed before
    FAILED = 2


class Phase(Enum):
    """What a running job does."""

    NONE = "none"
    ANALYZE = "analyze"
    PLAN = "plan"
    ENHANCE = "enhance"
    JOIN = "join"
    VERIFY = "verify"
    PUBLISH = "publish"


@dataclass(frozen=True, kw_only=True)
class JobProgress:
    """How far a job is."""

    phase: Phase = Phase.NONE
    #: 0 to 100 over all phases; never falls within a plan
    percent: float = 0.0
    frames_done: int = 0
    frames_total: int = 0
    segments_done: int = 0
    segments_total: int = 0
    #: frames per second over the last seconds; 0 where unknown
    fps: float = 0.0
    #: seconds to the end; None where unknown
    eta_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What one phase cost over all runs of the plan."""

    phase: Phase
    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class MediaRange:
    """Microseconds of media time relative to the first frame, end excluded."""

    start_us: int
    end_us: int


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How one stream was encoded."""

    stream_id: int
    #: FFmpeg's name of what was made, e.g. "hevc"
    codec: str
    #: FFmpeg's name, e.g. "libx265"
    encoder: str
    options: dict[str, str]
    width: int
    height: int
    pixel_format: str
    #: of all files of the stream
    size_bytes: int
    #: False for pictures
    is_moving: bool
    #: anything to say about it, one sentence; "" where there is nothing
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a published result is, and what of the source it does not have."""

    source_frame_count: int
    #: frames of the source that lie in segments that were made
    decoded_frame_count: int
    #: frames of the enhanced video; without one, different frames that are shown by pictures
    frame_count: int
    dropped_frame_count: int
    #: frames of the result that were made up between two of the source
    interpolated_frame_count: int = 0
    #: frames of the result that went through the enhancement
    enhanced_frame_count: int
    segment_count: int
    #: finished before the job that published the result began
    reused_segment_count: int
    enhanced: tuple[MediaRange, ...]
    carried_over: tuple[MediaRange, ...]
    noise_before: NoiseEstimate
    #: of the enhanced video, or else of the first video that was made; None where only pictures were
    noise_after: NoiseEstimate | None
    filters: tuple[str, ...]
    #: one a stream that is encoded, in the session's order
    encodings: tuple[Encoding, ...]
    source_codec: str
    #: width of the enhanced video over that of the source's picture; None where it is not scaled, or not made
    scaling_factor: float | None = None
    #: times of the frames that are made up, as `interpolated_times_text` tells them; "" without any
    interp_frame_pts: str = ""
    #: of the build that made it
    versions: dict[str, str]
    source_size_bytes: int
    #: of all files
    size_bytes: int
    #: of the video; without one, of the source's
    duration_us: int
    tracks: tuple[TrackReport, ...]
    not_kept: tuple[NotKept, ...]
    stages: tuple[StageCost, ...]
    fingerprint: str
    #: None where no video was made
    quality: Quality | None = None


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A file on its way into a shared root: noted before its first byte is written there, forgotten with the job's end."""

    root: str
    #: relative to the root; "" is the root itself
    folder: str
    name: str
    #: what it is called until it is whole
    temporary_name: str
    size_bytes: int
    sha256: str
    replace_existing: bool = False
    #: inode of the temporary file, which the file keeps; 0 until it is there
    inode: int = 0

    @property
    def path(self) -> str:
        """Relative to the root."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


@dataclass(frozen=True, kw_only=True)
class Driver:
    """Who drives a job: a token that no other driver ever has."""

    #: of the service's process, of all that share the rows
    replica_id: str
    #: drawn when a job begins to run
    fence: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """One accepted ProcessVideo."""

    job_id: str
    user_id: int
    video_id: str
    session_id: str
    state: JobState
    priority: Priority
    #: order of acceptance over all users; a job that becomes HIGH later gets a new one
    accept_number: int
    create_time_us: int
    #: the user's newest event number before this job could end
    event_sequence: int = 0
    start_time_us: int | None = None
    end_time_us: int | None = None
    #: who alone may write what becomes of it; None while it is not RUNNING
    driver: Driver | None = None
    #: since when it is RUNNING; None while it is not
    running_since_us: int | None = None
    #: how long it was RUNNING before that; a stretch that the service's death ended is not counted
    ran_us: int = 0
    #: its span, of the trace of the call that it was accepted by, as W3C Trace Context tells it; "" for none
    traceparent: str = ""
    #: of that call
    caller_span_id: str = ""
    #: as the caller gave it, microseconds of media time
    timestamp_us: int = 0
    snapshot: Snapshot | None = None
    #: SHA-256 of snapshot and source: what "the same settings" means
    settings_fingerprint: str = ""
    #: "" until planned
    plan_id: str = ""
    #: where the video goes back to when planning finds a slip of the caller
    previous_video_state: VideoState = VideoState.PENDING
    blocked_by: BlockReason = BlockReason.NONE
    #: since when without a break; None while it is not blocked
    blocked_since_us: int | None = None
    queue_class: QueueClass = QueueClass.FRESH
    #: a stop that was answered but has not ended the job yet: the name of a StopReason, "" for none
    stop_requested: str = ""
    #: of the session that asked, at the time of acceptance
    execution_mode: ExecutionMode = ExecutionMode.DEFAULT
    progress: JobProgress = field(default_factory=JobProgress)
    fault: Fault | None = None
    report: Report | None = None
    #: files that are being published, or were when the service died
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """A stored plan: made once, worked off by one job after another."""

    plan_id: str
    user_id: int
    video_id: str
    settings_fingerprint: str
    #: SHA-256 over source identity, settings, plan and build: checkpoints of another one are never reused
    fingerprint: str
    #: of the source (of its pictures) when its packets were last known to be the plan's; None for one that cannot change
    source_change_time_ns: int | None = None
    #: media time of the ProcessVideo that made it: enhancement starts at the first frame at or after
    enhance_from_us: int
    plan: Plan
    stages: tuple[StageCost, ...]
    create_time_us: int


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """Where an unfinished plan goes on: all before it is done. In the plan's own units."""

    #: of the first segment that is not DONE; where the last frame's display ends if all are
    pts: int
    #: of the video's first frame
    first_pts: int
    time_base: Fraction


@dataclass(frozen=True, kw_only=True)
class SegmentRecord:
    """A segment of a plan."""

    plan_id: str
    index: int
    state: SegmentState = SegmentState.WAITING
    #: of the attempt that may finish it; "" unless LEASED
    lease_token: str = ""
    attempt_count: int = 0
    #: attempts that died of the segment's own doing
    crash_count: int = 0
    #: of the winner, relative to the data directory; "" until DONE
    path: str = ""
    size_bytes: int = 0
    sha256: str = ""
    frame_count: int = 0
    input_sha256: str = ""
    parameter_sets_sha256: str = ""
    cpu_seconds: float = 0.0
    #: of its frames; None until DONE, and where no rendition is a video
    measures: SegmentMeasures | None = None


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An upload of a user. How much of it there is, the blob itself tells."""

    upload_id: str
    user_id: int
    state: UploadState
    create_time_us: int
    update_time_us: int
    file_name: str = ""
    #: video the finished upload becomes; "" for none
    video_id: str = ""
    #: declared at the start; None where the caller did not say
    declared_size_bytes: int | None = None
    #: of the finished upload
    size_bytes: int = 0
    sha256: str = ""
    #: its bytes', which no other ever has, while an upload_id may come back: callers choose it; "" is the upload_id
    blob_key: str = ""

    @property
    def key(self) -> str:
        """The key of its bytes."""
        return self.blob_key or self.upload_id


class ArtifactKind(Enum):
    """What an artifact is."""

    VIDEO = "video"
    PREVIEW = "preview"
    STILL = "still"
    THUMBNAIL = "thumbnail"
    REPORT = "report"
    METADATA = "metadata"
    COMPARISON = "comparison"


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A published file of a job."""

    artifact_id: str
    user_id: int
    video_id: str
    job_id: str
    stream_id: int
    kind: ArtifactKind
    media_type: str
    file_name: str
    size_bytes: int
    sha256: str
    create_time_us: int
    #: of a picture: its frame's time, relative to the first frame
    media_time_us: int | None = None
    #: when retention deletes it; None: never
    expire_time_us: int | None = None
    #: its video was removed: it can be fetched until it expires, but belongs to no video
    detached: bool = False
    #: where it was also written to: a shared root, and the path below it; "" where it was not
    published_root: str = ""
    published_path: str = ""


class EventKind(Enum):
    """The numbered callbacks."""

    PROCESS_DONE = "process_done"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Event:
    """A terminal event of a job. `sequence` is the user's, gapless from 1, assigned in commit order."""

    sequence: int
    user_id: int
    session_id: str
    video_id: str
    job_id: str
    create_time_us: int
    kind: EventKind
    #: of ERROR
    fault: Fault | None = None
    #: of PROCESS_DONE
    report: Report | None = None
    artifacts: tuple[Artifact, ...] = ()


#: kind of a tombstone whose key is a Delivery that came to nothing
PUBLISHED = "published"


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """Bytes that no row names any more and that are still to be deleted. Written in the transaction that took the row."""

    #: value of a BlobKind, or PUBLISHED
    kind: str
    key: str
    create_time_us: int


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A service of those that share the rows. After its time it counts as gone, as one without a row does."""

    replica_id: str
    expire_time_us: int


@dataclass(frozen=True, kw_only=True)
class ActiveUser:
    """A user with accepted work."""

    user_id: int
    queued_count: int
    running_count: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request_id that was answered: the same id gets the same answer."""

    user_id: int
    method: str
    request_id: str
    #: SHA-256 of the arguments
    arguments_sha256: str
    #: the id of what the call made
    answer_id: str
    create_time_us: int
