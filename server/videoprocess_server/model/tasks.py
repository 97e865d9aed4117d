"""What the service asks of its workers and what they answer. Every task parses bytes of strangers, so all run in workers.

A task's source file never travels as a path: the service opens it and hands the descriptor over with the task.
Paths in tasks are of the service's own files in its data directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from videoprocess_server.model.media_info import MediaInfo, VideoTrackInfo
from videoprocess_server.model.noise import AnalyzeResult
from videoprocess_server.model.plan import NoiseEstimate, NotKept, Plan, PlanSettings, SegmentPlan
from videoprocess_server.model.quality import SegmentMeasures
from videoprocess_server.model.settings_snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """What a source may be, checked before anything is allocated."""

    max_pixels: int = 8192 * 4320
    max_duration_seconds: int = 24 * 3600
    max_tracks: int = 64
    #: of all tracks together: a day of picture at 120 frames a second, with sound
    max_packets: int = 1 << 24
    #: what must be in memory before anything of the media is read
    max_index_bytes: int = 256 << 20
    max_metadata_bytes: int = 16 << 20
    max_attachment_bytes: int = 64 << 20


@dataclass(frozen=True, kw_only=True)
class DescribeTask:
    """Says what this build of FFmpeg can do. Answer: BuildInfo."""


@dataclass(frozen=True, kw_only=True)
class BuildInfo:
    """The build that makes results: part of every fingerprint."""

    #: library → version, e.g. {"libavcodec": "62.28.102", "pyav": "18.1.0", "machine": "x86_64"}
    versions: dict[str, str]
    #: FFmpeg's names of the decoders a source's video may need
    video_decoders: tuple[str, ...]
    #: of the encoders the plans know, those that are really there
    video_encoders: tuple[str, ...]
    #: of the filters the chains use, those that are really there
    filters: tuple[str, ...]
    #: of the package's extras, those that are really there → version of what they bring
    extras: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Says what the source is; the first frame must decode. Answer: MediaInfo."""

    limits: MediaLimits


@dataclass(frozen=True, kw_only=True)
class WatermarkTask:
    """Decodes a picture that a caller wants burnt into a video. Answer: WatermarkInfo."""

    #: a PNG, JPEG or WebP file
    image: bytes


@dataclass(frozen=True, kw_only=True)
class WatermarkInfo:
    """The picture decodes."""

    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class AnalyzeTask:
    """Measures the noise on frames spread over the video, at a part of the places. Answer: AnalyzeResult."""

    video: VideoTrackInfo
    #: which of so many parts
    part: int = 0
    part_count: int = 1


@dataclass(frozen=True, kw_only=True)
class PlanTask:
    """Reads the packet index and decides cuts, filters and encoder. Answer: Plan."""

    media: MediaInfo
    #: of the file that sound and metadata come from, where that is another
    companion: MediaInfo | None = None
    snapshot: Snapshot
    #: enhance from the first frame at or after this, relative to the first frame
    enhance_from_us: int
    noise: NoiseEstimate
    settings: PlanSettings


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """A file that is written and fsynced."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class EncodeTask:
    """Decodes, filters, encodes and checks a run of neighbouring segments. Answer: EncodeResult.

    Each finished segment is told at once as a SegmentDone, so that its row is written before the run ends.
    """

    plan: Plan
    #: neighbours, in order; decoder and filters stay alive across them, only the encoder restarts
    segments: tuple[SegmentPlan, ...]
    #: one path a segment, in the attempt's own directory; must not exist
    output_paths: tuple[str, ...]
    #: the camera path of a stabilised plan; "" for none
    camera_path: str = ""


@dataclass(frozen=True, kw_only=True)
class MotionTask:
    """Measures how the camera moved from frame to frame in a run of neighbouring segments of a draft. Answer: EncodeResult.

    Each finished segment is told at once as a SegmentDone, as for EncodeTask.
    """

    plan: Plan
    #: neighbours, in order
    segments: tuple[SegmentPlan, ...]
    #: one path a segment, in the attempt's own directory; must not exist
    output_paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PathTask:
    """Smooths the measured motion of all segments into one camera path. Answer: PathResult."""

    #: the draft
    plan: Plan
    #: one a segment, in order
    motion_paths: tuple[str, ...]
    #: must not exist
    output_path: str


@dataclass(frozen=True, kw_only=True)
class PathResult:
    """The finished plan, and the camera path's file, written and fsynced."""

    #: without a stabilisation where there is nothing to do; then the file is empty
    plan: Plan
    file: WrittenFile
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class SegmentDone:
    """One segment's file is written and fsynced."""

    index: int
    path: str
    size_bytes: int
    sha256: str
    frame_count: int
    #: SHA-256 over the packets it was made from
    input_sha256: str
    #: of the encoder; the join refuses segments that differ
    parameter_sets_sha256: str
    #: None where no rendition is a video
    measures: SegmentMeasures | None = None


@dataclass(frozen=True, kw_only=True)
class EncodeResult:
    """All segments of the run."""

    segments: tuple[SegmentDone, ...]
    cpu_seconds: float
    #: of those, what decoding the segments took
    check_cpu_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DigestTask:
    """Reads the packets of all segments anew: is the source still what they were made from? Answer: DigestResult."""

    plan: Plan


@dataclass(frozen=True, kw_only=True)
class DigestResult:
    """The source's packets."""

    #: one a segment, in order, comparable with SegmentDone.input_sha256
    input_sha256: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class JoinTask:
    """Copies a rendition's packets and the source's other tracks into one file. Answer: JoinResult.

    The source is the file that sound and metadata come from. It need not be the one the pictures came from.
    """

    #: of that file
    media: MediaInfo
    plan: Plan
    #: of plan.renditions; it is one of moving pictures
    rendition_index: int
    #: one a segment, in order
    segment_paths: tuple[str, ...]
    #: must not exist
    output_path: str
    #: whether the file gets a track of what was done to each frame; its container is an ISO file then
    maker: bool = False


@dataclass(frozen=True, kw_only=True)
class TrackReport:
    """What became of one track of the source."""

    index: int
    kind: str
    codec: str
    #: packets of the source, read with its edit list ignored
    source_packet_count: int
    #: packets of the result
    packet_count: int
    kept: bool
    note: str


@dataclass(frozen=True, kw_only=True)
class JoinResult:
    """The joined file, written and fsynced."""

    size_bytes: int
    sha256: str
    tracks: tuple[TrackReport, ...]
    not_kept: tuple[NotKept, ...]
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class StillsTask:
    """Writes the pictures of a rendition of stills out of the segments, a file each. Answer: StillsResult."""

    plan: Plan
    #: of plan.renditions; it is one of stills
    rendition_index: int
    #: one a segment, in order
    segment_paths: tuple[str, ...]
    #: one for each of the rendition's still_pts; must not exist
    output_paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StillsResult:
    """The pictures, in order; each of them decodes."""

    files: tuple[WrittenFile, ...]
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class MakerTask:
    """Writes what was done to each frame as a file of its own, for the times that the source tells. Answer: MakerResult."""

    #: of the source
    media: MediaInfo
    plan: Plan
    #: must not exist
    output_path: str


@dataclass(frozen=True, kw_only=True)
class MakerResult:
    """The file, written and fsynced."""

    file: WrittenFile
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class StripTask:
    """Puts some frames of source and result beside each other in one picture. Answer: StripResult."""

    #: of the source
    video: VideoTrackInfo
    #: it has renditions
    plan: Plan
    #: one a segment, in order
    segment_paths: tuple[str, ...]
    #: must not exist
    output_path: str


@dataclass(frozen=True, kw_only=True)
class StripResult:
    """The picture, written and fsynced; it decodes."""

    file: WrittenFile
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class VerifyTask:
    """Compares the joined file with plan and source. Answer: VerifyResult.

    The source is the join's.
    """

    plan: Plan
    #: of plan.renditions
    rendition_index: int
    media: MediaInfo
    join: JoinResult
    path: str


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """The result is as planned, but for what its packets decode to, which is known of the segments."""

    #: one a segment, over its packets as the result has them: those that decode are the same
    packets_sha256: tuple[str, ...]
    duration_us: int
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A worker's sign of life: what it has done of its task."""

    frames: int
    bytes: int


Task = (
    DescribeTask
    | ProbeTask
    | WatermarkTask
    | AnalyzeTask
    | PlanTask
    | EncodeTask
    | MotionTask
    | PathTask
    | DigestTask
    | JoinTask
    | StillsTask
    | MakerTask
    | StripTask
    | VerifyTask
)
TaskResult = (
    BuildInfo
    | MediaInfo
    | WatermarkInfo
    | AnalyzeResult
    | Plan
    | EncodeResult
    | PathResult
    | DigestResult
    | JoinResult
    | StillsResult
    | MakerResult
    | StripResult
    | VerifyResult
)
TaskMessage = Progress | SegmentDone
