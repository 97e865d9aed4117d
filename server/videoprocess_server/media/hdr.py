"""HDR metadata: the static part goes into x265's parameters, that of each picture with the packets or nowhere."""

from __future__ import annotations

import re
import struct
from enum import Enum
from fractions import Fraction

from av.video.frame import VideoFrame

from videoprocess_server.model.media_info import Colour

#: ISO/IEC 23091-2 transfers of HDR: PQ and HLG
HDR_TRANSFERS = frozenset({16, 18})


class PictureMetadata(Enum):
    """Metadata of single pictures that no encoder here writes, by what a person calls it."""

    HDR10_PLUS = "HDR10+"
    DOLBY_VISION = "Dolby Vision"
    HDR_VIVID = "HDR Vivid"
    AMBIENT_VIEWING = "ambient viewing environment"
    TIME_CODE = "time code"


#: FFmpeg's name of a frame's side data
_SIDE_DATA = {
    "DYNAMIC_HDR_PLUS": PictureMetadata.HDR10_PLUS,
    "DOVI_METADATA": PictureMetadata.DOLBY_VISION,
    "DYNAMIC_HDR_VIVID": PictureMetadata.HDR_VIVID,
    "AMBIENT_VIEWING_ENVIRONMENT": PictureMetadata.AMBIENT_VIEWING,
    "S12M_TIMECODE": PictureMetadata.TIME_CODE,
}
#: AVMasteringDisplayMetadata: ten AVRational, then two flags; red, green, blue, white point, least and most light
_MASTERING = struct.Struct("=20i2i")
#: AVContentLightMetadata
_LIGHT_LEVEL = struct.Struct("=2I")
#: x265 counts chromaticity in 0.00002 and luminance in 0.0001 cd/m2
_CHROMATICITY_UNITS = 50_000
_LUMINANCE_UNITS = 10_000
#: x265's parameters of the brightest light, of the content and of the display
_MAX_CLL = re.compile(r"max-cll=(\d+),")
_MASTER_PEAK = re.compile(r"L\((\d+),")


def static_metadata(frame: VideoFrame) -> str:
    """Give x265's parameters of HDR10's static metadata, "" where the frame has none."""
    parts = []
    mastering = side_data(frame, "MASTERING_DISPLAY_METADATA")
    if mastering is not None and len(mastering) >= _MASTERING.size:
        parts += _master_display(_MASTERING.unpack_from(mastering))
    light = side_data(frame, "CONTENT_LIGHT_LEVEL")
    if light is not None and len(light) >= _LIGHT_LEVEL.size:
        most, average = _LIGHT_LEVEL.unpack_from(light)
        parts.append(f"max-cll={most},{average}")
    return ":".join(["hdr10=1", *parts]) if parts else ""


def peak_luminance(parameters: str) -> int | None:
    """Tell the brightest light of a PQ source in cd/m2: of its content, or else of the display it was mastered on.

    Args:
        parameters: as `static_metadata` gives them.

    Returns:
        None where neither is told.
    """
    content, display = _MAX_CLL.search(parameters), _MASTER_PEAK.search(parameters)
    told = int(content[1]) if content else 0
    mastered = int(display[1]) // _LUMINANCE_UNITS if display else 0
    return told or mastered or None


def is_mapped(source: Colour, result: Colour) -> bool:
    """Tell whether HDR became SDR."""
    return source.transfer in HDR_TRANSFERS and result.transfer not in HDR_TRANSFERS


def picture_metadata(frame: VideoFrame) -> tuple[PictureMetadata, ...]:
    """Tell which kinds of metadata the frame has."""
    return tuple(kind for key, kind in _SIDE_DATA.items() if side_data(frame, key) is not None)


def side_data(frame: VideoFrame, key: str) -> bytes | None:
    """Give what comes with a frame, None where it has no such thing."""
    try:
        data = frame.side_data.get(key)
    except ValueError:
        # PyAV 18 cannot list a frame's side data if it does not know one kind of it.
        return None
    return None if data is None else bytes(data)  # type: ignore[call-overload]


def _master_display(values: tuple[int, ...]) -> list[str]:
    *terms, has_primaries, has_luminance = values
    numbers = [
        Fraction(num, den) if den else Fraction(0) for num, den in zip(terms[::2], terms[1::2], strict=True)
    ]
    if not has_primaries or not has_luminance:
        return []
    chromaticities = [round(number * _CHROMATICITY_UNITS) for number in numbers[:8]]
    red, green, blue, white = (f"({chromaticities[k]},{chromaticities[k + 1]})" for k in range(0, 8, 2))
    least, most = (round(number * _LUMINANCE_UNITS) for number in numbers[8:])
    return [f"master-display=G{green}B{blue}R{red}WP{white}L({most},{least})"]
