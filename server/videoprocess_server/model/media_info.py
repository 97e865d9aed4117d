"""What a probe tells about a source file. All media time is exact: integer pts and a rational time base."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction


class TrackKind(Enum):
    """What a track of a file carries."""

    VIDEO = "video"
    AUDIO = "audio"
    SUBTITLE = "subtitle"
    DATA = "data"
    ATTACHMENT = "attachment"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class TrackInfo:
    """One track of the source, as its container declares it."""

    #: position in the container, from 0
    index: int
    kind: TrackKind
    #: FFmpeg's codec name, or the sample entry's four characters, or "" where neither is known
    codec: str
    #: declared by the container; 0 where it does not say
    packet_count: int
    #: seconds; None where the container does not say
    duration: Fraction | None
    language: str


@dataclass(frozen=True, kw_only=True)
class Colour:
    """Colour description by ISO/IEC 23091-2 numbers as FFmpeg uses them; 2 is unspecified, range 0 unknown 1 limited 2 full."""

    primaries: int
    transfer: int
    matrix: int
    range: int


@dataclass(frozen=True, kw_only=True)
class VideoTrackInfo:
    """The video track that is processed."""

    index: int
    codec: str
    profile: str
    #: coded size in pixels, before rotation
    width: int
    height: int
    #: FFmpeg's name
    pixel_format: str
    bit_depth: int
    time_base: Fraction
    #: frames per second as the container averages it; a hint, never used for time stamps
    average_frame_rate: Fraction | None
    #: whether the container's average and base rates differ; a hint, never used for time stamps
    variable_frame_rate: bool
    #: seconds; None where the container does not say
    duration: Fraction | None
    #: 0/1 where unknown
    sample_aspect_ratio: Fraction
    #: clockwise degrees a player turns the picture
    rotation_degrees: int
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What Prepare learnt about a file."""

    #: FFmpeg's demuxer name, e.g. "mov,mp4,m4a,3gp,3g2,mj2"
    container: str
    #: ftyp's major brand, stripped; "" where there is none
    major_brand: str
    size_bytes: int
    #: microseconds; None where the container does not say
    duration_us: int | None
    video: VideoTrackInfo
    tracks: tuple[TrackInfo, ...]
    #: what the recorder asks for of the encoder (encParam), "" where it does not
    encoder_parameters: str = ""
    #: of the picture that the camera's user chose as cover, in milliseconds after the first frame; None where none is told
    cover_time_ms: float | None = None
    #: whether the file names a picture, by its path, that is to be burnt in; such a path is never opened
    names_watermark: bool = False
