"""How a small proxy of a video is encoded."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from videoprocess_server.media.encoders import ENCODERS, KEYFRAME_INTERVAL, Encoder, choose_bit_depth
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.hdr import HDR_TRANSFERS
from videoprocess_server.media.upright import fit_size
from videoprocess_server.model.hdi import EncodeType
from videoprocess_server.model.media_info import VideoTrackInfo
from videoprocess_server.model.settings_snapshot import StreamInfo

#: pixels of a proxy's longer side, unless the source's is shorter or a size is asked for
PROXY_SIDE: Final = 640

_EVEN: Final = 2
_SDR_DEPTH: Final = 8
_HDR_DEPTH: Final = 10
#: what plays everywhere in that depth
_CODEC_OF_DEPTH: Final = {_SDR_DEPTH: "h264", _HDR_DEPTH: "hevc"}
_CODEC_OF_TYPE: Final = {EncodeType.H264: "h264", EncodeType.H265: "hevc"}
#: instead of the encoders' own: a proxy is to be there soon, and small
_QUICK: Final = {"h264": {"preset": "veryfast", "crf": "26"}, "hevc": {"preset": "veryfast", "crf": "28"}}


def choose_proxy_depth(video: VideoTrackInfo, stream: StreamInfo) -> int:
    """Choose bits a sample: 8, or 10 for HDR, unless the stream asks for more.

    Raises:
        MediaFault: STREAM_NOT_SUPPORTED.
    """
    kept = choose_bit_depth(video, stream)
    if stream.format or video.colour.transfer in HDR_TRANSFERS:
        return kept
    return _SDR_DEPTH


def choose_proxy_encoder(stream: StreamInfo, bit_depth: int, hdr_static: str) -> Encoder:
    """Choose the encoder by what is asked for, or else by the depth.

    Args:
        stream: what is asked for.
        bit_depth: of the proxy.
        hdr_static: x265's parameters of HDR10's static metadata, "" without.

    Raises:
        MediaFault: STREAM_NOT_SUPPORTED where the encode type is not one of video.
    """
    codec = _CODEC_OF_DEPTH[bit_depth]
    if stream.encode_type is not EncodeType.NULL:
        codec = _CODEC_OF_TYPE.get(stream.encode_type, "")
    if codec not in ENCODERS:
        raise MediaFault(
            "STREAM_NOT_SUPPORTED", f"A PREVIEW stream cannot be encoded as {stream.encode_type.name}."
        )
    encoder = ENCODERS[codec]
    options = {**encoder.options, **_QUICK[codec], "g": str(KEYFRAME_INTERVAL)}
    if hdr_static and "x265-params" in options:
        options["x265-params"] += f":{hdr_static}"
    return replace(encoder, options=options)


def proxy_pixel_format(bit_depth: int) -> str:
    """Give FFmpeg's name of the format."""
    return "yuv420p" if bit_depth == _SDR_DEPTH else f"yuv420p{bit_depth}le"


def fit_proxy(size: tuple[int, int], stream: StreamInfo, min_side: int) -> tuple[int, int]:
    """Give width and height as they are coded; a side that is left open becomes even and keeps the shape."""
    asked = (stream.width, stream.height)
    width, height = fit_size(size, asked, PROXY_SIDE, _EVEN)
    return asked[0] or max(width, min_side), asked[1] or max(height, min_side)
