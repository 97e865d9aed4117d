"""Decodes a picture that a caller handed over. One picture, one decoder, no demuxer: nothing else is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av.error
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.model.tasks import WatermarkInfo, WatermarkTask

#: what an image may be at most
MAX_IMAGE_BYTES: Final = 512 * 1024
MAX_IMAGE_PIXELS: Final = 16 * 1024 * 1024

#: red, green, blue and straight alpha; the same values on every CPU
_TO_RGBA: Final = ("scale=flags=accurate_rnd+full_chroma_int+bitexact", "format=pix_fmts=rgba")


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A kind of file."""

    #: whether a file begins as one of this kind does
    begins: Callable[[bytes], bool]
    decoder: str


_KINDS: Final = (
    _Kind(begins=lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), decoder="png"),
    _Kind(begins=lambda head: head.startswith(b"\xff\xd8\xff"), decoder="mjpeg"),
    _Kind(begins=lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", decoder="webp"),
)
#: a decoder of JPEG computes with integers in one fixed way
_DECODER_OPTIONS: Final[Mapping[str, str]] = {
    "max_pixels": str(MAX_IMAGE_PIXELS),
    "err_detect": "explode",
    "flags": "+bitexact",
    "idct": "simple",
}


def check_image(task: WatermarkTask) -> WatermarkInfo:
    """Tell the size of a picture that can be burnt into a video.

    Raises:
        MediaFault: BAD_WATERMARK.
    """
    image = decode_image(task.image)
    return WatermarkInfo(width=image.width, height=image.height)


def decode_image(data: bytes) -> VideoFrame:
    """Decode a PNG, JPEG or WebP file to RGBA.

    Raises:
        MediaFault: BAD_WATERMARK, the message tells why.
    """
    if not data or len(data) > MAX_IMAGE_BYTES:
        raise _bad(f"The image has {len(data)} bytes; 1 to {MAX_IMAGE_BYTES} are taken.")
    kind = next((kind for kind in _KINDS if kind.begins(data[:16])), None)
    if kind is None:
        raise _bad("The image is no PNG, JPEG or WebP file.")
    try:
        frames = _decode(kind, data)
    except (av.error.FFmpegError, MemoryError, ValueError, OSError) as error:
        raise _bad(f"The image does not decode, or has more than {MAX_IMAGE_PIXELS} pixels.") from error
    if not frames:
        raise _bad("The image does not decode.")
    return _as_rgba(frames[0])


def _decode(kind: _Kind, data: bytes) -> list[VideoFrame]:
    context = CodecContext.create(kind.decoder, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    context.options = dict(_DECODER_OPTIONS)
    return [*context.decode(Packet(data)), *context.decode(None)]


def _as_rgba(frame: VideoFrame) -> VideoFrame:
    if frame.width * frame.height > MAX_IMAGE_PIXELS:
        raise _bad(f"The image has more than {MAX_IMAGE_PIXELS} pixels.")
    frame.pts, frame.time_base = 0, Fraction(1)
    try:
        chain = FilterChain(_TO_RGBA, Fraction(1))
        converted = [*chain.push(frame), *chain.push(None)]
    except MediaFault as error:
        raise _bad("The image's kind of pixels is not taken.") from error
    return converted[0]


def _bad(message: str) -> MediaFault:
    return MediaFault("BAD_WATERMARK", message)
