"""Tasks to submit, complete enough to be sent."""

from __future__ import annotations

from fractions import Fraction

from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import Colour, VideoTrackInfo
from videoprocess_server.model.plan import (
    EncoderPlan,
    FilterPlan,
    FrameGrid,
    NoiseEstimate,
    NotKept,
    Plan,
    Rendition,
    SegmentPlan,
)
from videoprocess_server.model.tasks import EncodeTask

COLOUR = Colour(primaries=1, transfer=1, matrix=1, range=1)
NOISE = NoiseEstimate(sigma_y=1.25, sigma_u=0.0, sigma_v=3.5, frame_count=16)

SEGMENT = SegmentPlan(
    index=0,
    start_pts=-5,
    end_pts=2**62,
    decode_from_pts=-10,
    source_frame_count=3,
    frame_count=3,
    enhanced=True,
)

ENCODER = EncoderPlan(
    encoder="libx264",
    codec="h264",
    options={"preset": "medium"},
    pixel_format="yuv420p",
    width=320,
    height=180,
    frame_rate=Fraction(30000, 1001),
    sample_aspect_ratio=Fraction(0, 1),
    colour=COLOUR,
    codec_tag="avc1",
)

PLAN = Plan(
    video_track_index=0,
    time_base=Fraction(1, 90000),
    first_pts=0,
    last_pts=2,
    end_pts=3,
    source_frame_count=3,
    frame_count=3,
    pts_sha256="00",
    segments=(SEGMENT,),
    renditions=(
        Rendition(
            stream_id=1,
            intent=StreamIntent.VIDEO,
            encoder=ENCODER,
            geometry=("format=pix_fmts=yuv420p",),
            container="mp4",
            file_extension=".mp4",
        ),
    ),
    filters=FilterPlan(
        pixel_format="yuv420p", enhancement=("atadenoise=s=9",), pre_roll_frames=4, post_roll_frames=4
    ),
    grid=FrameGrid(rate=Fraction(30), origin_pts=0),
    noise=NOISE,
    output_time_base=Fraction(1, 30000),
    not_kept=(NotKept(what=Loss.TRACK, track_index=None, count=1, reason="because"),),
)

VIDEO = VideoTrackInfo(
    variable_frame_rate=False,
    index=0,
    codec="h264",
    profile="High",
    width=320,
    height=180,
    pixel_format="yuv420p",
    bit_depth=8,
    time_base=Fraction(1, 90000),
    average_frame_rate=None,
    duration=Fraction(10, 3),
    sample_aspect_ratio=Fraction(0, 1),
    rotation_degrees=90,
    colour=COLOUR,
)


def script(*steps: str) -> EncodeTask:
    """What fake_worker does step by step."""
    return EncodeTask(plan=PLAN, segments=(SEGMENT,), output_paths=steps)
