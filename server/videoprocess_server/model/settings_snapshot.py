"""What CreateStreams and CommitStreams ask for, in canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from videoprocess_server.model.hdi import (
    EncodeType,
    ExtendedStreamInfoType,
    OperationMode,
    StreamIntent,
    VideoStabilisation,
)

#: of a field that says what becomes of a result, and changes no byte of it: fingerprints leave it out
CHANGES_NO_BYTE: Mapping[str, bool] = {"changes_no_byte": True}


@dataclass(frozen=True, kw_only=True)
class Rect:
    """A rectangle in coded pixels, before rotation."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class FrameRateRange:
    """Frames per second, both ends included."""

    min_fps: int
    max_fps: int


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """A picture that is burnt into every frame."""

    #: a PNG, JPEG or WebP file
    image: bytes
    #: 1.0 leaves it as large as `width` and `height` say
    scale_factor: float
    #: counter-clockwise, as the ROTATION of the HDI's watermark is
    rotation_degrees: int
    #: of its top left corner and its size, in coded pixels of the enhanced frame
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class ModeSetting:
    """What CommitStreams asks for, whichever form it came in. Defaults change nothing but the enhancement itself."""

    operation_mode: OperationMode = OperationMode.NORMAL
    frame_rate_range: FrameRateRange | None = None
    #: at least 1.0; 2.0 shows the middle half of width and height
    zoom_ratio: float = 1.0
    #: the picture zoom starts from; None is the whole picture
    zoom_crop_region: Rect | None = None
    #: whether the picture, as it is displayed, is mirrored left to right
    mirror: bool = False
    #: clockwise, for display: 0, 90, 180 or 270; None: as the source is turned
    orientation_degrees: int | None = None
    stabilisation: VideoStabilisation = VideoStabilisation.OFF
    #: 0 (off) to 1 (strongest); None: what the operation mode and the measured noise suggest
    denoise_strength: float | None = None
    #: likewise; None: the operation mode's
    sharpen_strength: float | None = None
    deband_strength: float | None = None
    #: the encoder's rate factor, 0 to 51; None: the service chooses
    crf: float | None = None
    #: average of the picture track in bits per second; None: the service chooses. At most one of both is asked for
    bitrate_bps: int | None = None
    #: whether a high dynamic range is mapped to the standard one, BT.709
    to_sdr: bool = False
    watermark: Watermark | None = None
    #: frames that do not decode are shown as well as can be, and named; False: the job fails at the first
    conceal_damage: bool = False
    #: whether the index comes before the media in MP4, MOV and 3GP; None: as in the source
    moov_first: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ExtendedStream:
    """An extended stream of a StreamInfoV11, kept as the caller gave it."""

    type: ExtendedStreamInfoType
    width: int
    height: int
    format: int
    dataspace: int


@dataclass(frozen=True, kw_only=True)
class SharedDirectory:
    """A folder below a shared root that a stream's files are written to as well."""

    root: str
    #: relative to the root; "" is the root itself
    path: str = ""
    #: "" is the default's; see engine/published_names.py
    name_template: str = ""
    replace_existing: bool = False


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """One stream of a session."""

    stream_id: int
    intent: StreamIntent
    encode_type: EncodeType = EncodeType.NULL
    #: pixels; 0 is the source's
    width: int = 0
    height: int = 0
    #: a PixelFormat's number, 0 where the caller does not say; for an encoded output it decides the bit depth only
    format: int = 0
    #: OpenHarmony's packed colour space, 0 where the caller does not say
    dataspace: int = 0
    tunneled_mode: bool = False
    #: the HDI states no unit; kept, not used
    min_frame_duration: int = 0
    extended: tuple[ExtendedStream, ...] = ()
    #: None: kept for Download only
    directory: SharedDirectory | None = field(default=None, metadata=CHANGES_NO_BYTE)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one job works by: the session's committed streams and settings at the moment of ProcessVideo."""

    streams: tuple[StreamInfo, ...]
    mode_setting: ModeSetting = field(default_factory=ModeSetting)

    @property
    def directories(self) -> Mapping[int, SharedDirectory]:
        """Where files are written to, by the ids of their streams."""
        return {stream.stream_id: stream.directory for stream in self.streams if stream.directory}

    def without_picture(self) -> Snapshot:
        """Return it as ended jobs keep it, of which there may be many: without the watermark's bytes."""
        watermark = self.mode_setting.watermark
        if watermark is None:
            return self
        slim = replace(self.mode_setting, watermark=replace(watermark, image=b""))
        return replace(self, mode_setting=slim)
