"""What a bitstream tells of its picture's use beside colours: where chroma samples lie, the television standard, overscan.

PyAV shows none of it. What is read is a stranger's: anything odd is as if it were not told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from av.video.format import VideoFormat

from videoprocess_server.media.bit_reader import BitReader
from videoprocess_server.media.sequence_parameters import usability_of_h264, usability_of_h265


class ChromaLocation(IntEnum):
    """Where the first chroma sample of 4:2:0 lies (ISO/IEC 23091-2); the names are FFmpeg's."""

    LEFT = 0
    CENTER = 1
    TOPLEFT = 2
    TOP = 3
    BOTTOMLEFT = 4
    BOTTOM = 5


class TelevisionFormat(IntEnum):
    """What the picture was before it was coded, VideoFormat of ISO/IEC 23091-2; the names are x264's and x265's."""

    COMPONENT = 0
    PAL = 1
    NTSC = 2
    SECAM = 3
    MAC = 4


class Overscan(IntEnum):
    """Whether a display may hide the picture's edges; the names are x264's and x265's."""

    SHOW = 0
    CROP = 1


@dataclass(frozen=True, kw_only=True)
class VideoUsability:
    """What is told; None where it is not."""

    chroma_location: ChromaLocation | None = None
    video_format: TelevisionFormat | None = None
    overscan: Overscan | None = None


NOT_TOLD: Final = VideoUsability()


def read_usability(codec: str, configuration: bytes) -> VideoUsability:
    """Read what a track's configuration tells; never fails.

    Args:
        codec: FFmpeg's name.
        configuration: FFmpeg's extradata of the track.
    """
    try:
        told = set(_READERS[codec](configuration)) if codec in _READERS else set()
    except (EOFError, ValueError):
        told = set()
    # Sets that contradict each other tell nothing.
    found = told.pop() if len(told) == 1 else NOT_TOLD
    return _at(found, _FIXED_LOCATIONS[codec]) if codec in _FIXED_LOCATIONS else found


def kept_usability(
    source: VideoUsability, source_pixel_format: str, result_pixel_format: str
) -> VideoUsability:
    """Give what holds for the result, too: chroma has a place of its own in 4:2:0 only.

    Args:
        source: what it tells.
        source_pixel_format: FFmpeg's name.
        result_pixel_format: the same, of the encoder.
    """
    halved = _is_420(source_pixel_format) and _is_420(result_pixel_format)
    return source if halved else _at(source, None)


def with_usability(codec: str, options: Mapping[str, str], usability: VideoUsability) -> dict[str, str]:
    """Give an encoder's options with those that make it tell the same; the same options where nothing is told."""
    key = _PARAMETER_OPTIONS[codec]
    parameters = ":".join(filter(None, (options.get(key, ""), *_parameters(usability))))
    return {**options, key: parameters} if parameters else dict(options)


def untold(codec: str, options: Mapping[str, str], configuration: bytes) -> tuple[str, ...]:
    """Give the parameters among an encoder's options that its parameter sets do not tell.

    Args:
        codec: FFmpeg's name.
        options: of the encoder.
        configuration: that it made.
    """
    made = read_usability(codec, configuration)
    # It is the default, which x264 does not write.
    told = _parameters(_at(made, made.chroma_location or ChromaLocation.LEFT))
    asked = options.get(_PARAMETER_OPTIONS.get(codec, ""), "").split(":")
    return tuple(part for part in asked if part.partition("=")[0] in _NAMES and part not in told)


#: of x264's and x265's parameters, in order of `VideoUsability`
_NAMES: Final = ("chromaloc", "videoformat", "overscan")
#: by codec, where x264 and x265 are told
_PARAMETER_OPTIONS: Final[Mapping[str, str]] = {"h264": "x264-params", "hevc": "x265-params"}


def _parameters(usability: VideoUsability) -> tuple[str, ...]:
    location, video_format, overscan = usability.chroma_location, usability.video_format, usability.overscan
    values = (
        None if location is None else str(int(location)),
        None if video_format is None else video_format.name.lower(),
        None if overscan is None else overscan.name.lower(),
    )
    return tuple(f"{name}={value}" for name, value in zip(_NAMES, values, strict=True) if value is not None)


def _at(usability: VideoUsability, location: ChromaLocation | None) -> VideoUsability:
    return VideoUsability(
        chroma_location=location, video_format=usability.video_format, overscan=usability.overscan
    )


def _is_420(pixel_format: str) -> bool:
    side = 64
    halves = VideoFormat(pixel_format)
    is_colour = len(halves.components) >= len("yuv") and not halves.is_rgb
    return is_colour and (halves.chroma_width(side), halves.chroma_height(side)) == (side // 2, side // 2)


def _of_sets(read: Callable[[bytes], Iterable[BitReader]], configuration: bytes) -> Iterator[VideoUsability]:
    """Read on in VUIs, which H.264 and H.265 begin alike."""
    for bits in read(configuration):
        overscan = Overscan(bits.number(1)) if bits.flag() else None
        video_format = None
        if bits.flag():
            video_format = _television_format(bits.number(3))
            bits.flag()
            if bits.flag():
                bits.number(24)
        yield VideoUsability(chroma_location=_location(bits), video_format=video_format, overscan=overscan)


def _location(bits: BitReader) -> ChromaLocation | None:
    """Read that of both fields, which a picture that is shown as a whole cannot have at two places."""
    if not bits.flag():
        return None
    top, bottom = bits.unsigned(), bits.unsigned()
    return ChromaLocation(top) if top == bottom else None


def _television_format(code: int) -> TelevisionFormat | None:
    """Give what a code means; the others are unspecified or reserved."""
    return TelevisionFormat(code) if code in set(TelevisionFormat) else None


def _of_av1(configuration: bytes) -> Iterator[VideoUsability]:
    """Read an av1C (AV1 in ISO base media, 2.3.3): one bit of grey, two of 4:2:0, two of the location."""
    version = 0x81
    code = int.from_bytes(configuration[2:3], "big") & 0b11111 if configuration[:1] == bytes([version]) else 0
    if code in _AV1_LOCATIONS:
        yield VideoUsability(chroma_location=_AV1_LOCATIONS[code])


def _of_mpeg2(configuration: bytes) -> Iterator[VideoUsability]:
    """Read sequence_display_extension (ITU-T H.262, 6.2.2.4)."""
    display = 2
    for part in configuration.split(_EXTENSION)[1 : _MOST_EXTENSIONS + 1]:
        bits = BitReader(part[:2])
        if bits.number(4) == display:
            yield VideoUsability(video_format=_television_format(bits.number(3)))


def _of_mpeg4(configuration: bytes) -> Iterator[VideoUsability]:
    """Read the visual object (ISO/IEC 14496-2, 6.2.2)."""
    video = 1
    for part in configuration.split(_EXTENSION)[1:2]:
        bits = BitReader(part[:4])
        if bits.flag():
            bits.number(7)
        if bits.number(4) == video and bits.flag():
            yield VideoUsability(video_format=_television_format(bits.number(3)))


#: of MPEG-2; MPEG-4 has its visual object there
_EXTENSION: Final = b"\x00\x00\x01\xb5"
_MOST_EXTENSIONS: Final = 16

#: the last five bits of an av1C's third byte
_AV1_LOCATIONS: Final[Mapping[int, ChromaLocation]] = {
    0b01101: ChromaLocation.LEFT,
    0b01110: ChromaLocation.TOPLEFT,
}
#: by codecs that know one place only
_FIXED_LOCATIONS: Final[Mapping[str, ChromaLocation]] = {
    "h263": ChromaLocation.CENTER,
    "mpeg1video": ChromaLocation.CENTER,
    "mjpeg": ChromaLocation.CENTER,
    "mpeg2video": ChromaLocation.LEFT,
    "mpeg4": ChromaLocation.LEFT,
}
_READERS: Final[Mapping[str, Callable[[bytes], Iterable[VideoUsability]]]] = {
    "h264": lambda configuration: _of_sets(usability_of_h264, configuration),
    "hevc": lambda configuration: _of_sets(usability_of_h265, configuration),
    "av1": _of_av1,
    "mpeg2video": _of_mpeg2,
    "mpeg4": _of_mpeg4,
}
