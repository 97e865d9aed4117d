"""A plan: everything that can change a byte of a result, and nothing of the machine that makes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from videoprocess_server.model.hdi import StreamIntent, VideoStabilisation
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import Colour
from videoprocess_server.model.settings_snapshot import Watermark


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What an operator may choose about plans. Part of every fingerprint."""

    #: a segment ends at the first key frame at or after this many seconds
    segment_seconds: Fraction = Fraction(4)
    #: a GOP longer than this many seconds is cut inside
    longest_gop_seconds: Fraction = Fraction(8)


@dataclass(frozen=True, kw_only=True)
class SegmentPlan:
    """The frames with start_pts <= pts < end_pts, in ticks of the source's time base."""

    index: int
    start_pts: int
    end_pts: int
    #: pts of the key frame that decoding starts from, pre-roll included
    decode_from_pts: int
    #: frames the source has in this window, before any are dropped
    source_frame_count: int
    #: frames the encoded segment has
    frame_count: int
    #: False for what lies before ProcessVideo's time stamp: the same encoder, no enhancement
    enhanced: bool
    #: which of its frames are made up, a bit each, the lowest its first frame's; hexadecimal, "" for none
    interpolated: str = ""
    #: of this segment's encoders, by stream: they replace those of the plan's
    encoder_options: dict[int, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FrameGrid:
    """Frames are dropped to `rate` on the exact grid origin_pts·time_base + k / rate, where none are made up (`Interpolation`).

    Slot k holds the frame nearest to it within half a slot (the later bound excluded; of two equally near the earlier),
    and that frame gets the slot's time. A slot without a frame stays empty: nothing is made up. There is no
    slot at or after the end of the last frame's display.
    """

    rate: Fraction
    origin_pts: int


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """Frames are made up between neighbours of the source, at equal duration.

    With a factor every frame of the source stays, at its own time, and `factor` - 1 are made between each two. Without one the
    slots of the plan's grid are filled: by a frame that is within an eighth of a slot, else by one that is made up.
    """

    #: frames of the result per frame of the source; None where the slots of a grid are filled
    factor: int | None
    #: frames further apart than so many ticks of the source have nothing made up between them
    gap_ticks: int
    #: frames per second of the result, outside of gaps
    rate: Fraction

    @property
    def frames_before(self) -> int:
        """Frames of the source before a segment that decide what it holds."""
        return 0 if self.factor else 1

    @property
    def frames_after(self) -> int:
        """Frames of the source after a segment that its last ones are made of."""
        return 1


@dataclass(frozen=True, kw_only=True)
class EncoderPlan:
    """The encoder of a rendition, the same in every segment."""

    #: FFmpeg's encoder, e.g. "libx264"
    encoder: str
    #: FFmpeg's codec name of what it makes, e.g. "h264"
    codec: str
    #: the encoder's options, e.g. {"preset": "medium", "crf": "20"}
    options: dict[str, str]
    pixel_format: str
    width: int
    height: int
    #: one value for the whole video: it is written into the parameter sets
    frame_rate: Fraction
    sample_aspect_ratio: Fraction
    colour: Colour
    #: the sample entry players expect, e.g. "hvc1"
    codec_tag: str
    #: of the encoder; results depend on it, so it is a constant and not the machine's number of cores
    thread_count: int = 1


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A watermark, and the colour of the frames that it is burnt into."""

    watermark: Watermark
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class StabilisationPlan:
    """How the camera's shake is taken out: each frame of the crop is warped once, after its enhancement."""

    #: as asked for, or as AUTO chose
    strength: VideoStabilisation
    #: where chroma samples lie, as ISO/IEC 23091-2 numbers it; None where the source does not tell
    chroma_location: int | None = None
    #: of the file that tells each frame's warp; "" in a draft
    path_sha256: str = ""
    #: share of width and height that the most zoomed frame loses, 0 to 1
    most_cropped: float = 0.0
    #: root mean square of the source's high-passed motion between frames, in pixels
    jitter_px: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FilterPlan:
    """Filter chains, one stage an entry: filters in FFmpeg's syntax, or our own in the same.

    They run in the order prepare, crop, enhancement, picture format.

    What zoom cuts off is cut first and not enhanced for nothing; the enhancement sees the source's own pixels, which its
    noise was measured on; what it makes is scaled by each rendition for itself. Frames that a grid drops go through all of
    it before they are dropped, because their neighbours' enhancement looks at them.
    """

    #: denoise, sharpen: what enhanced frames go through
    enhancement: tuple[str, ...]
    #: neighbouring frames the enhancement looks at, before and after; they are decoded and dropped
    pre_roll_frames: int
    post_roll_frames: int
    #: FFmpeg's pixel format of the enhanced frames, which all renditions are made of
    pixel_format: str
    #: what every frame goes through first, enhanced or not: fields become whole pictures
    prepare: tuple[str, ...] = ()
    #: neighbouring frames that it looks at, before and after
    prepare_roll_frames: int = 0
    #: what every frame goes through next: what is shown is cut out, and mirrored where that is asked for
    crop: tuple[str, ...] = ()
    #: what every picture of the source must be, e.g. "1920x1080 yuv420p"; "" is not checked
    source_picture: str = ""
    #: what is burnt into every frame after the enhancement
    overlay: Overlay | None = None


@dataclass(frozen=True, kw_only=True)
class Rendition:
    """One stream of pictures that is made of the enhanced frames."""

    #: of the session's stream
    stream_id: int
    #: VIDEO, PREVIEW, STILL_CAPTURE or POST_VIEW
    intent: StreamIntent
    encoder: EncoderPlan
    #: filters in FFmpeg's syntax that each of its frames goes through: scale, pixel format
    geometry: tuple[str, ...]
    #: source time stamps of the frames it shows, ascending; None for all of them
    still_pts: tuple[int, ...] | None = None
    #: FFmpeg's muxer of the file: "mp4", "mov", "3gp" or "matroska"; "" for stills, which are a file each
    container: str = ""
    file_extension: str
    #: how a player turns the picture: nine numbers as ISO/IEC 14496-12 has them; None where it does not
    display_matrix: tuple[int, ...] | None = None
    #: of stills: the colour that the geometry leaves, which is made the one that readers of JPEG expect; None otherwise
    mapped_from: Colour | None = None
    #: one sentence for the report about what is made of the source's colours; "" where there is nothing to say
    note: str = ""
    #: bytes of each unit's length in the source's packets, where what they say of each picture is carried over; else 0
    carried_length_size: int = 0

    @property
    def is_moving(self) -> bool:
        """Whether it is a video."""
        return self.still_pts is None

    def shows(self, source_pts: int) -> bool:
        """Whether a frame of the source is one of its own."""
        return self.still_pts is None or source_pts in self.still_pts


@dataclass(frozen=True, kw_only=True)
class FrameScore:
    """How good a frame is as a cover."""

    pts: int
    #: variance of the Laplacian of the luma, in code values of 255
    sharpness: float
    #: share of the pixels that are neither nearly black nor nearly white
    exposure: float


@dataclass(frozen=True, kw_only=True)
class PlaceNoise:
    """The noise of luma at one place of the video, in code values of 255."""

    pts: int
    sigma_y: float
    #: of what changes from frame to frame; None where there is one frame only
    temporal_sigma_y: float | None


@dataclass(frozen=True, kw_only=True)
class NoiseEstimate:
    """Standard deviation of the noise in code values of 255, per plane, whatever the bit depth."""

    sigma_y: float
    sigma_u: float
    sigma_v: float
    #: frames it was measured on
    frame_count: int
    #: of what changes from frame to frame, in regions that stand still; less than the above where an encoder froze noise.
    #: None: no neighbours were measured
    temporal_sigma_y: float | None = None
    temporal_sigma_u: float | None = None
    temporal_sigma_v: float | None = None
    #: of luma's noise at code values 0 and 255: its variance is a line between; None: not known
    sigma_y_at_black: float | None = None
    sigma_y_at_white: float | None = None
    #: along the video
    places: tuple[PlaceNoise, ...] = ()
    #: the frames of the source that were looked at; a plan has chosen of them and keeps none
    frames: tuple[FrameScore, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NotKept:
    """Something of the source that the result does not have."""

    what: Loss
    #: the source's track; None where it concerns the file
    track_index: int | None
    #: how many packets, frames or entries
    count: int
    #: one sentence for a person
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one result is made."""

    #: index of the source's video track
    video_track_index: int
    time_base: Fraction
    #: of the first and last frame shown
    first_pts: int
    last_pts: int
    #: where the last frame's display ends
    end_pts: int
    #: frames of the source that a player shows
    source_frame_count: int
    #: frames of the result
    frame_count: int
    #: SHA-256 over the result's time stamps, each as decimal ticks of the encoder's time base and a newline
    pts_sha256: str
    segments: tuple[SegmentPlan, ...]
    #: what is encoded, in the order of the session's streams; a segment's file has a track for each that shows frames of it
    renditions: tuple[Rendition, ...]
    filters: FilterPlan
    #: None where frames stay where they are
    stabilisation: StabilisationPlan | None = None
    grid: FrameGrid | None
    #: None where no frame is made up; without a factor, the slots of `grid` are filled
    interpolation: Interpolation | None = None
    #: frames of the result that are made up
    interpolated_count: int = 0
    #: of the first of them, microseconds since the first frame
    interpolated_us: tuple[int, ...] = ()
    #: of the renditions; 1/60 for a grid at 30 over ticks of 1/20, say
    output_time_base: Fraction
    #: of the source; the strength of the enhancement follows from it
    noise: NoiseEstimate
    #: streams that get a quality report
    report_stream_ids: tuple[int, ...] = ()
    #: streams that get a track of what was done to each frame
    maker_stream_ids: tuple[int, ...] = ()
    #: time stamp of the first frame that is enhanced; None for the first of all
    enhance_from_pts: int | None = None
    #: clockwise for display, as asked for: what the renditions' matrices do; None: as the source is turned
    orientation_degrees: int | None = None
    #: whether the index comes before the media in MP4, MOV and 3GP; None: as in the source
    moov_first: bool | None = None
    #: time stamps of frames that do not decode whole, ascending: others are shown in their place. Empty where damage is not concealed
    damaged_pts: tuple[int, ...] = ()
    #: known already now: a codec that is not kept, an odd size
    not_kept: tuple[NotKept, ...]

    @property
    def is_draft(self) -> bool:
        """Whether the motion of its segments must be measured before they can be made."""
        return self.stabilisation is not None and not self.stabilisation.path_sha256

    @property
    def is_moving(self) -> bool:
        """Whether any rendition is a video; else only frames that stills show are made."""
        return any(rendition.is_moving for rendition in self.renditions)


def interpolated_times_text(plan: Plan) -> str:
    """Tell when frames that are made up are shown: microseconds since the first frame, "16683,50050,+2" with 2 more that are not told."""
    more = plan.interpolated_count - len(plan.interpolated_us)
    return ",".join([*map(str, plan.interpolated_us), *([f"+{more}"] if more else [])])
