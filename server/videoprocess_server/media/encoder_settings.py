"""An encoder's settings, taken from how the source is coded and from what its recorder asks for (docs/encoding.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from videoprocess_server.media.encoders import KEYFRAME_INTERVAL, Encoder
from videoprocess_server.media.levels import H264_LEVELS, Declared, Demand, Level, choose_level, read_declared
from videoprocess_server.media.packets import PacketIndex
from videoprocess_server.media.rate_control import (
    SHORTEST_BUFFER,
    Bounds,
    RateControl,
    Share,
    Target,
    plan_rates,
)
from videoprocess_server.media.video_usability import (
    NOT_TOLD,
    VideoUsability,
    read_usability,
    with_usability,
)
from videoprocess_server.model.enc_param import RATE_KEYS, BFrameGopMode, EncParam

#: codecs whose key frames and B frames say something about how a result may be coded
_PREDICTING: Final = frozenset({"h264", "hevc"})
#: B frames in a row
_B_FRAMES: Final = 3


@dataclass(frozen=True, kw_only=True)
class SourceCoding:
    """How the source is coded, as far as a result follows it."""

    codec: str
    declared: Declared
    #: frames from key frame to key frame at most; None where there is one
    gop_frames: int | None
    b_frames: bool
    asked: EncParam
    usability: VideoUsability


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is encoded."""

    width: int
    height: int
    pixel_format: str
    #: one value for all segments
    frame_rate: Fraction
    #: frames of the result per frame of the source
    frames_kept: Fraction = Fraction(1)
    #: x265's parameters of HDR10's static metadata, "" without
    hdr_static: str = ""
    #: what parameter sets tell of it beside colours
    usability: VideoUsability = NOT_TOLD


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """The encoder's options."""

    options: dict[str, str]
    #: of each segment, besides
    segment_options: tuple[dict[str, str], ...]
    #: what was asked for and is not done quite so, a sentence each
    remarks: tuple[str, ...]


def describe_coding(codec: str, configuration: bytes, index: PacketIndex, asked: EncParam) -> SourceCoding:
    """Tell how a track is coded.

    Args:
        codec: FFmpeg's name.
        configuration: FFmpeg's extradata of the track.
        index: its packets.
        asked: by its recorder.
    """
    return SourceCoding(
        codec=codec,
        declared=read_declared(codec, configuration),
        gop_frames=_longest_gop(index),
        b_frames=index.reordered,
        asked=asked,
        usability=read_usability(codec, configuration),
    )


def plan_encoder(
    encoder: Encoder,
    picture: Picture,
    source: SourceCoding,
    shares: Sequence[Share],
    target: Target | None = None,
) -> EncoderSettings:
    """Plan the settings; all that stands in parameter sets is the same in every segment.

    Args:
        encoder: that makes the result.
        picture: of the result.
        source: whose coding is followed.
        shares: of the segments, of the source's bits.
        target: quality or rate that the caller asks for; None: as the recorder asks, or by the source.
    """
    b_frames = _b_frames(source)
    profile = _profile(encoder, picture, source, b_frames=b_frames)
    if profile and target is not None and _is_lossless(target):
        profile = ""
    level, control = _rates(encoder, picture, source, shares, target, high_profile=profile in {"", "high"})
    options = dict(encoder.options)
    if control.quality is not None:
        options["crf"] = f"{control.quality:g}"
    options["g"] = str(_gop_frames(picture, source))
    _WRITERS[encoder.codec](options, _Shape(profile, level, b_frames, source.asked.b_frame_gop_mode), picture)
    unread = tuple(f"encParam's {pair!r} cannot be read." for pair in _unread(source.asked, target))
    return EncoderSettings(
        options=with_usability(encoder.codec, options, picture.usability),
        segment_options=tuple(spending.options() for spending in control.spending),
        remarks=(*unread, *control.remarks),
    )


@dataclass(frozen=True)
class _Shape:
    """What parameter sets tell."""

    #: "" where the pixel format says it
    profile: str
    #: None where the picture fits none
    level: Level | None
    b_frames: bool
    gop_mode: BFrameGopMode | None


def _write_x264(options: dict[str, str], shape: _Shape, _picture: Picture) -> None:
    if shape.profile:
        options["profile"] = shape.profile
    options["level"] = shape.level.name if shape.level else H264_LEVELS[-1].name
    options["bf"] = str(_B_FRAMES if shape.b_frames else 0)
    if shape.b_frames and shape.gop_mode is BFrameGopMode.H3B:
        options["b_strategy"] = "0"


def _write_x265(options: dict[str, str], shape: _Shape, picture: Picture) -> None:
    parts = [options["x265-params"], "high-tier=0"]
    if shape.level:
        parts.append(f"level-idc={shape.level.name}")
    if not shape.b_frames:
        parts.append("bframes=0")
    elif shape.gop_mode is BFrameGopMode.H3B:
        parts.append(f"bframes={_B_FRAMES}:b-adapt=0")
    options["x265-params"] = ":".join(filter(None, (*parts, picture.hdr_static)))


#: how each codec's encoder is told
_WRITERS: Final[Mapping[str, Callable[[dict[str, str], _Shape, Picture], None]]] = {
    "h264": _write_x264,
    "hevc": _write_x265,
}


def _is_lossless(target: Target) -> bool:
    """Whether x264 makes 8 bits lossless, which only the highest profile has."""
    return target.quality is not None and target.quality < 1


def _unread(asked: EncParam, target: Target | None) -> Sequence[str]:
    """Give the pairs that a recorder asks for in vain; those of the rate are overruled by the caller's."""
    if target is None:
        return asked.unread
    return [pair for pair in asked.unread if pair.partition("=")[0].strip() not in RATE_KEYS]


def _rates(
    encoder: Encoder,
    picture: Picture,
    source: SourceCoding,
    shares: Sequence[Share],
    target: Target | None,
    *,
    high_profile: bool,
) -> tuple[Level | None, RateControl]:
    """Choose the level by the rates that the shortest buffers ask for, then buffers as long as the level allows."""

    def planned(buffer_size: int, max_rate: int = 0) -> RateControl:
        bounds = Bounds(
            quality=encoder.quality,
            usable_buffer=encoder.usable_buffer,
            buffer_size=buffer_size,
            spent_rate=encoder.spent_rate,
            max_rate=max_rate,
        )
        return plan_rates(source.asked, shares, bounds, target)

    highest = max(spending.max_rate for spending in planned(0).spending)
    level = choose_level(
        encoder.codec,
        source.declared if source.codec == encoder.codec else Declared(),
        Demand(
            width=picture.width,
            height=picture.height,
            frame_rate=picture.frame_rate,
            max_rate=highest,
            buffer_size=int(highest * SHORTEST_BUFFER),
        ),
        high_profile=high_profile,
    )
    if level is None:
        return None, planned(int(highest * SHORTEST_BUFFER))
    return level, planned(
        level.buffer_bits(high_profile=high_profile), level.rate_bits(high_profile=high_profile)
    )


def _profile(encoder: Encoder, picture: Picture, source: SourceCoding, *, b_frames: bool) -> str:
    """Give H.264's profile of 8 bits and 4:2:0: the source's, or the one above it that has B frames."""
    if encoder.codec != "h264" or picture.pixel_format != "yuv420p":
        return ""
    profile = source.declared.profile if source.codec == encoder.codec else ""
    return "main" if profile == "baseline" and b_frames else profile or "high"


def _b_frames(source: SourceCoding) -> bool:
    if source.asked.b_frames is not None:
        return source.asked.b_frames
    return source.b_frames or source.codec not in _PREDICTING


def _gop_frames(picture: Picture, source: SourceCoding) -> int:
    if source.gop_frames is None or source.codec not in _PREDICTING:
        return KEYFRAME_INTERVAL
    return min(max(round(source.gop_frames * picture.frames_kept), 1), KEYFRAME_INTERVAL)


def _longest_gop(index: PacketIndex) -> int | None:
    """Frames from key frame to key frame at most, the last GOP included if it is the longest."""
    if len(index.keys) < 2:
        return None
    at = np.searchsorted(np.asarray(index.pts), np.asarray(index.keys))
    return int(np.diff(np.append(at, len(index.pts))).max())
