"""Which encoder makes the result, and with what settings. Everything here is part of every fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from av.video.format import VideoFormat

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.hdr import HDR_TRANSFERS
from videoprocess_server.model.dataspace import dataspaces_agree, pack_dataspace
from videoprocess_server.model.hdi import EncodeType, PixelFormat
from videoprocess_server.model.media_info import VideoTrackInfo
from videoprocess_server.model.settings_snapshot import StreamInfo

#: threads per encoder; x264 gives other bytes with another number
ENCODER_THREADS = 1
#: frames between key frames at most, whatever the source has; the encoders' own default
KEYFRAME_INTERVAL = 250

#: measured: the same bytes on every machine and under any load. info=0 keeps the options and the CPU out of the
#: parameter sets, open-gop=0 makes segments independent, no pool and no wavefront make the order of work fixed.
X265_PARAMS = "pools=none:frame-threads=1:wpp=0:info=0:open-gop=0:log-level=error"


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One row of the table of encoders."""

    name: str
    codec: str
    #: the sample entry that players expect; Apple's do not play "hev1"
    codec_tag: str
    options: dict[str, str]
    #: constant quality as its "crf" counts, where nothing else is asked for
    quality: int
    #: the part of its buffer that it spends at most; it plans to keep half, of nine tenths that it begins with (measured)
    usable_buffer: Fraction
    #: what it spends of an average rate that it may not exceed (measured)
    spent_rate: Fraction
    #: pixels a side
    min_side: int
    max_side: int


ENCODERS = {
    "h264": Encoder(
        name="libx264",
        codec="h264",
        codec_tag="avc1",
        options={"preset": "medium"},
        quality=20,
        usable_buffer=Fraction(2, 5),
        spent_rate=Fraction(1),
        min_side=2,
        max_side=16_384,
    ),
    "hevc": Encoder(
        name="libx265",
        codec="hevc",
        codec_tag="hvc1",
        # captions are left out by default, by x264 they are not
        options={"preset": "medium", "a53cc": "1", "x265-params": X265_PARAMS},
        quality=22,
        usable_buffer=Fraction(3, 10),
        spent_rate=Fraction(19, 20),
        min_side=16,
        max_side=16_384,
    ),
}
#: x265's analysis of how blocks are referred to writes beyond its buffer in pictures of three blocks of 16 pixels (valgrind)
_NARROWEST_CUTREE = 64
#: pixels of an encoded picture at most, as many as a source may have
MAX_ENCODED_PIXELS = 8192 * 4320

_CODEC_OF_TYPE = {EncodeType.H264: "h264", EncodeType.H265: "hevc"}
_DEPTH_OF_FORMAT = {
    PixelFormat.RGBA_8888: 8,
    PixelFormat.YCBCR_420_SP: 8,
    PixelFormat.YCRCB_420_SP: 8,
    PixelFormat.YCBCR_420_P: 8,
    PixelFormat.YCBCR_P010: 10,
}
#: bits a sample the encoders are used with
_DEPTHS = (8, 10)
#: frame rates written into parameter sets where the measured rate is within a thousandth of one
_USUAL_RATES = tuple(
    Fraction(rate * 1000, divisor)
    for rate in (15, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)
    for divisor in (1000, 1001)
)
_RATE_TOLERANCE = Fraction(1, 1000)
_MAX_RATE = Fraction(1000)


def choose_encoder(video: VideoTrackInfo, stream: StreamInfo, bit_depth: int) -> Encoder:
    """Choose by what is asked, else the source's codec, else the one that plays everywhere in that depth.

    Raises:
        MediaFault: STREAM_NOT_SUPPORTED where the encode type is not one of video.
    """
    if stream.encode_type is EncodeType.NULL:
        fallback = "h264" if bit_depth == _DEPTHS[0] else "hevc"
        return ENCODERS.get(video.codec) or ENCODERS[fallback]
    codec = _CODEC_OF_TYPE.get(stream.encode_type)
    if codec is None:
        raise MediaFault(
            "STREAM_NOT_SUPPORTED", f"A VIDEO stream cannot be encoded as {stream.encode_type.name}."
        )
    return ENCODERS[codec]


def choose_bit_depth(video: VideoTrackInfo, stream: StreamInfo) -> int:
    """Choose bits a sample; HDR is never cut to 8 bits, which would show banding as if it were the source.

    Raises:
        MediaFault: STREAM_NOT_SUPPORTED for formats and colour spaces that cannot be made of this source.
    """
    if not dataspaces_agree(stream.dataspace, pack_dataspace(video.colour)):
        raise MediaFault(
            "STREAM_NOT_SUPPORTED",
            f"The stream asks for dataspace {stream.dataspace}, the source has {pack_dataspace(video.colour)}; "
            "colours are not converted.",
        )
    kept = _DEPTHS[0] if video.bit_depth <= _DEPTHS[0] else _DEPTHS[1]
    if not stream.format:
        return kept
    asked = {int(known): depth for known, depth in _DEPTH_OF_FORMAT.items()}.get(stream.format)
    if asked is None:
        raise MediaFault("STREAM_NOT_SUPPORTED", f"Pixel format {stream.format} is not known.")
    if asked < kept and video.colour.transfer in HDR_TRANSFERS:
        raise MediaFault(
            "STREAM_NOT_SUPPORTED", "An HDR source is not encoded with 8 bits; ask for P010, or for SDR."
        )
    return asked


def choose_pixel_format(video: VideoTrackInfo, bit_depth: int) -> str:
    """Choose FFmpeg's name of the format that keeps the source's chroma resolution."""
    chroma_side = 64
    source = VideoFormat(video.pixel_format)
    if source.is_rgb:
        chroma = "444"
    elif len(source.components) < len("yuv"):
        chroma = "420"  # grey: there is nothing to keep
    elif source.chroma_width(chroma_side) == chroma_side:
        chroma = "444"
    else:
        chroma = "422" if source.chroma_height(chroma_side) == chroma_side else "420"
    return f"yuv{chroma}p" if bit_depth == _DEPTHS[0] else f"yuv{chroma}p{bit_depth}le"


def options_for_width(options: dict[str, str], width: int) -> dict[str, str]:
    """Take out of options what an encoder must not be asked for in narrow pictures.

    Args:
        options: of an encoder.
        width: of its pictures.
    """
    name = "x265-params"
    if name not in options or width >= _NARROWEST_CUTREE:
        return options
    return {**options, name: f"{options[name]}:cutree=0"}


def check_size(encoder: Encoder, width: int, height: int) -> None:
    """Refuse what the encoder cannot make.

    Raises:
        MediaFault: SIZE_NOT_SUPPORTED.
    """
    if min(width, height) < encoder.min_side:
        raise MediaFault(
            "SIZE_NOT_SUPPORTED",
            f"{width}x{height} is too small for {encoder.codec}: at least {encoder.min_side} a side.",
        )
    if max(width, height) > encoder.max_side or width * height > MAX_ENCODED_PIXELS:
        raise MediaFault(
            "SIZE_NOT_SUPPORTED", f"{width}x{height} is too large: at most {MAX_ENCODED_PIXELS} pixels."
        )


def declared_rate(measured: Fraction) -> Fraction:
    """Round a frame rate to the one value that all segments declare; time stamps do not depend on it."""
    nearest = min(_USUAL_RATES, key=lambda usual: abs(usual - measured))
    if abs(nearest - measured) <= nearest * _RATE_TOLERANCE:
        return nearest
    rounded = Fraction(round(measured * 1000), 1000)
    return min(max(rounded, Fraction(1, 1000)), _MAX_RATE)
