"""Records of a video that does not exist: what the scripted executor answers with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from videoprocess_server.model.hdi import StreamIntent, VideoStabilisation
from videoprocess_server.model.media_info import Colour, MediaInfo, VideoTrackInfo
from videoprocess_server.model.plan import (
    EncoderPlan,
    FilterPlan,
    NoiseEstimate,
    Plan,
    Rendition,
    SegmentPlan,
    StabilisationPlan,
)
from videoprocess_server.model.quality import CodingFigures, PictureFigures, SegmentMeasures
from videoprocess_server.model.settings_snapshot import StreamInfo
from videoprocess_server.model.tasks import BuildInfo

TICKS_PER_SECOND = 1000
FRAMES_PER_SEGMENT = 10
SEGMENT_TICKS = 1000
COLOUR = Colour(primaries=1, transfer=1, matrix=1, range=1)
NOISE = NoiseEstimate(sigma_y=2.0, sigma_u=1.0, sigma_v=1.0, frame_count=4)
_PICTURES = PictureFigures(width=320, height=180, sigma_y=2.0, sigma_u=1.0, sigma_v=1.0, sharpness=8.0)
_CODING = CodingFigures(frame_count=4, ssim=0.99, xpsnr_db=41.0, least_xpsnr_db=40.0)
MEASURES = SegmentMeasures(
    sample_count=4,
    size_bytes=125_000,
    before=_PICTURES,
    after=replace(_PICTURES, sigma_y=0.5),
    coding=_CODING,
    at_seams=replace(_CODING, frame_count=2),
    elsewhere=replace(_CODING, frame_count=2, xpsnr_db=42.0),
    changed_ssim=0.97,
)
BUILD = BuildInfo(
    versions={"libavcodec": "1"}, video_decoders=("h264",), video_encoders=("libx264",), filters=("cas",)
)

MEDIA = MediaInfo(
    container="mov",
    major_brand="isom",
    size_bytes=5,
    duration_us=100_000_000,
    video=VideoTrackInfo(
        index=0,
        codec="h264",
        profile="High",
        width=320,
        height=180,
        pixel_format="yuv420p",
        bit_depth=8,
        time_base=Fraction(1, TICKS_PER_SECOND),
        average_frame_rate=None,
        variable_frame_rate=False,
        duration=None,
        sample_aspect_ratio=Fraction(0, 1),
        rotation_degrees=0,
        colour=COLOUR,
    ),
    tracks=(),
)

ENCODER = EncoderPlan(
    encoder="libx264",
    codec="h264",
    options={"crf": "18"},
    pixel_format="yuv420p",
    width=320,
    height=180,
    frame_rate=Fraction(10),
    sample_aspect_ratio=Fraction(0, 1),
    colour=COLOUR,
    codec_tag="avc1",
)


STILL_ENCODER = replace(ENCODER, encoder="mjpeg", codec="mjpeg", options={}, pixel_format="yuvj420p")
_WITHOUT_PICTURES = frozenset({StreamIntent.ANALYZE, StreamIntent.CUSTOM})


def segment(index: int, *, decode_from_pts: int | None = None, enhanced: bool = True) -> SegmentPlan:
    start = index * SEGMENT_TICKS
    return SegmentPlan(
        index=index,
        start_pts=start,
        end_pts=start + SEGMENT_TICKS,
        decode_from_pts=start if decode_from_pts is None else decode_from_pts,
        source_frame_count=FRAMES_PER_SEGMENT,
        frame_count=FRAMES_PER_SEGMENT,
        enhanced=enhanced,
    )


#: containers by intent; of stills there is none
_CONTAINERS = {StreamIntent.VIDEO: "mp4", StreamIntent.PREVIEW: "mp4"}
_STILLS = {StreamIntent.STILL_CAPTURE: (1500,), StreamIntent.POST_VIEW: (500, 1500)}
VIDEO_STREAM = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO)


def rendition(stream: StreamInfo) -> Rendition:
    stills = _STILLS.get(stream.intent)
    return Rendition(
        stream_id=stream.stream_id,
        intent=stream.intent,
        encoder=ENCODER if stills is None else STILL_ENCODER,
        geometry=("format=pix_fmts=yuv420p",),
        container=_CONTAINERS.get(stream.intent, ""),
        file_extension=".jpg" if stills else ".mp4",
        still_pts=stills,
    )


def _ids(streams: Sequence[StreamInfo], intent: StreamIntent) -> tuple[int, ...]:
    return tuple(stream.stream_id for stream in streams if stream.intent is intent)


def plan_of(
    segment_count: int, enhance_from_us: int = 0, streams: Sequence[StreamInfo] = (VIDEO_STREAM,)
) -> Plan:
    """A plan of segments of a second each, every one decoded from its own start."""
    frames = segment_count * FRAMES_PER_SEGMENT
    pictured = [stream for stream in streams if stream.intent not in _WITHOUT_PICTURES]
    return Plan(
        video_track_index=0,
        time_base=Fraction(1, TICKS_PER_SECOND),
        first_pts=0,
        last_pts=segment_count * SEGMENT_TICKS - 100,
        end_pts=segment_count * SEGMENT_TICKS,
        source_frame_count=frames,
        frame_count=frames,
        pts_sha256="00",
        segments=tuple(
            segment(index, enhanced=index * SEGMENT_TICKS * 1000 >= enhance_from_us)
            for index in range(segment_count if pictured else 0)
        ),
        renditions=tuple(rendition(stream) for stream in pictured),
        filters=FilterPlan(
            pixel_format="yuv420p", enhancement=("cas",), pre_roll_frames=0, post_roll_frames=0
        ),
        grid=None,
        noise=NOISE,
        output_time_base=Fraction(1, TICKS_PER_SECOND),
        not_kept=(),
        report_stream_ids=_ids(streams, StreamIntent.ANALYZE),
        maker_stream_ids=_ids(streams, StreamIntent.CUSTOM),
        enhance_from_pts=min(-(-enhance_from_us // SEGMENT_TICKS), segment_count * SEGMENT_TICKS),
    )


def drafted(plan: Plan, strength: VideoStabilisation) -> Plan:
    """The plan, or where it is to be stabilised its draft."""
    if strength is VideoStabilisation.OFF:
        return plan
    return replace(plan, stabilisation=StabilisationPlan(strength=strength))
