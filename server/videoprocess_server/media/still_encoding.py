"""How stills are encoded, and what of a source's colours they can show."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Final

from videoprocess_server.media.encoders import ENCODER_THREADS
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.geometry import Geometry, encoded_colour
from videoprocess_server.media.hdr import HDR_TRANSFERS
from videoprocess_server.media.still_colour import JPEG_COLOUR, JPEG_PIXEL_FORMAT, PIXEL_FORMATS
from videoprocess_server.model.dataspace import dataspaces_agree, pack_dataspace
from videoprocess_server.model.hdi import EncodeType, PixelFormat
from videoprocess_server.model.media_info import Colour, VideoTrackInfo
from videoprocess_server.model.plan import EncoderPlan
from videoprocess_server.model.settings_snapshot import StreamInfo

#: pixels of a thumbnail's longer side, unless the source's is shorter or a size is asked for
THUMBNAIL_SIDE: Final = 320

#: measured: the same bytes on every CPU, and neither a time nor a version in them. dct=int is the one transform without
#: variants, qmin and qmax fix the quality near the best.
_OPTIONS: Final = {"qmin": "2", "qmax": "2", "dct": "int", "flags": "+bitexact"}

_ENCODE_TYPES: Final = frozenset({EncodeType.NULL, EncodeType.JPEG})
_FORMATS: Final = frozenset({0, *PixelFormat} - {PixelFormat.YCBCR_P010})
#: ISO/IEC 23091-2: not said
_UNSPECIFIED: Final = frozenset({0, 2})
#: pixels from which on players take a video that does not tell its matrix for BT.709, and not for BT.601
_HD_WIDTH: Final = 1280
_HD_HEIGHT: Final = 577
_BT709: Final = 1
_BT601: Final = 6
_BT2020: Final = 9
_DEEP: Final = 10


def plan_jpeg(geometry: Geometry, frame_rate: Fraction) -> EncoderPlan:
    """Plan the encoder of pictures of that geometry."""
    return EncoderPlan(
        encoder="mjpeg",
        codec="mjpeg",
        options=dict(_OPTIONS),
        pixel_format=JPEG_PIXEL_FORMAT,
        width=geometry.width,
        height=geometry.height,
        frame_rate=frame_rate,
        sample_aspect_ratio=geometry.sample_aspect_ratio,
        colour=JPEG_COLOUR,
        codec_tag="",
        thread_count=ENCODER_THREADS,
    )


def check_still(video: VideoTrackInfo, stream: StreamInfo) -> None:
    """Refuse what a JPEG cannot be.

    Raises:
        MediaFault: STREAM_NOT_SUPPORTED.
    """
    if stream.encode_type not in _ENCODE_TYPES:
        raise MediaFault("STREAM_NOT_SUPPORTED", f"Stills are JPEG here, not {stream.encode_type.name}.")
    if stream.format not in _FORMATS:
        raise MediaFault("STREAM_NOT_SUPPORTED", "A JPEG has 8 bits a sample.")
    spaces = (pack_dataspace(JPEG_COLOUR), pack_dataspace(video.colour))
    if not any(dataspaces_agree(stream.dataspace, space) for space in spaces):
        raise MediaFault(
            "STREAM_NOT_SUPPORTED", f"A JPEG is sRGB here; the stream asks for dataspace {stream.dataspace}."
        )


def still_pixel_format(video: VideoTrackInfo) -> str:
    """Choose FFmpeg's name of the format in which a frame is scaled and turned."""
    return PIXEL_FORMATS[_DEEP if video.bit_depth > min(PIXEL_FORMATS) else min(PIXEL_FORMATS)]


def known_colour(video: VideoTrackInfo) -> Colour:
    """Give the colour of the encoded frames; a matrix that the source does not tell is what players take it for."""
    colour = encoded_colour(video)
    if colour.matrix not in _UNSPECIFIED:
        return colour
    if colour.transfer in HDR_TRANSFERS:
        return replace(colour, matrix=_BT2020)
    is_hd = video.width >= _HD_WIDTH or video.height >= _HD_HEIGHT
    return replace(colour, matrix=_BT709 if is_hd else _BT601)
