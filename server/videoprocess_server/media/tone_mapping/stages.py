"""Plans how pictures of HDR become SDR: the stages they go through, and what a report says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from av.video.format import VideoFormat

from videoprocess_server.media.colour_tables import HDR_PRIMARIES, HLG, PEAK, REFERENCE_WHITE, knows_primaries
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.geometry import SCALE_FLAGS, SCALE_MATRICES
from videoprocess_server.media.hdr import HDR_TRANSFERS, peak_luminance
from videoprocess_server.media.still_encoding import known_colour
from videoprocess_server.media.tone_mapping.filter import PIXEL_FORMAT
from videoprocess_server.media.tone_mapping.table import CUBE_BITS, KNEE, WHITE, Curve
from videoprocess_server.media.video_usability import ChromaLocation
from videoprocess_server.model.media_info import Colour, VideoTrackInfo

#: of a video that was mapped: BT.709 in limited range
SDR_COLOUR: Final = Colour(primaries=1, transfer=1, matrix=1, range=1)
#: of a still before JPEG's own colours: sRGB, coded by BT.709
STILL_COLOUR: Final = Colour(primaries=1, transfer=13, matrix=1, range=1)
#: bits a sample that SDR has unless more are asked for
SDR_DEPTH: Final = 8

_FULL_RANGE: Final = 2
#: cd/m2 of PQ's brightest light
_PQ_PEAK: Final = 10_000
_BT2020: Final = "bt2020"


@dataclass(frozen=True, kw_only=True)
class HdrLight:
    """What the mapping of a source follows from."""

    #: of its frames, all of it known
    colour: Colour
    #: cd/m2 of its brightest light
    peak: int

    @property
    def note(self) -> str:
        """One sentence for a report."""
        begin = round(KNEE * REFERENCE_WHITE)
        way = (
            f"HLG as a display of {self.peak} cd/m2 shows it"
            if self.colour.transfer == HLG
            else f"PQ up to {self.peak} cd/m2"
        )
        return f"The picture is SDR: {way}, what is brighter than {begin} cd/m2 rolled off."


def hdr_light(video: VideoTrackInfo, hdr_static: str) -> HdrLight | None:
    """Tell what a source's light is; None for SDR.

    Args:
        video: the source.
        hdr_static: x265's parameters of HDR10's static metadata, "" without.
    """
    colour = known_colour(video)
    if colour.transfer not in HDR_TRANSFERS:
        return None
    told = None if colour.transfer == HLG else peak_luminance(hdr_static)
    return HdrLight(colour=colour, peak=min(max(told or round(PEAK), round(REFERENCE_WHITE)), _PQ_PEAK))


def check_mappable(light: HdrLight) -> None:
    """Refuse what no filter makes RGB of: ICtCp, constant luminance.

    Raises:
        MediaFault: STREAM_NOT_SUPPORTED.
    """
    if light.colour.matrix not in SCALE_MATRICES:
        raise MediaFault(
            "STREAM_NOT_SUPPORTED", f"HDR of matrix {light.colour.matrix} is not mapped to SDR here."
        )


def map_video(
    light: HdrLight,
    source_pixel_format: str,
    size: tuple[int, int],
    pixel_format: str,
    chroma_location: ChromaLocation | None,
) -> tuple[str, ...]:
    """Give the stages from the source's pixels to a video's.

    Args:
        light: of the source.
        source_pixel_format: of the frames that come in.
        size: width and height of the result.
        pixel_format: of the result.
        chroma_location: of source and result; None where it is not told, which means left.
    """
    location = (chroma_location or ChromaLocation.LEFT).name.lower()
    sited_in, sited_out = (
        f":{way}_chroma_loc={location}" if _is_subsampled(name) else ""
        for way, name in (("in", source_pixel_format), ("out", pixel_format))
    )
    return (
        *_to_rgb(light, source_pixel_format, f"{size[0]}:{size[1]}:", sited_in),
        _mapping(light, source_pixel_format, Curve.BT1886),
        f"scale=flags={SCALE_FLAGS}:in_range=full:out_range=limited:out_color_matrix=bt709{sited_out}",
        f"format=pix_fmts={pixel_format}",
    )


def map_still(light: HdrLight, pixel_format: str) -> tuple[str, ...]:
    """Give the stages that make pictures of the source's light pictures of `STILL_COLOUR`; arguments as of `map_video`."""
    return (
        *_to_rgb(light, pixel_format, "", ""),
        _mapping(light, pixel_format, Curve.SRGB),
        f"scale=flags={SCALE_FLAGS}:in_range=full:out_range=limited:out_color_matrix=bt709",
        f"format=pix_fmts={pixel_format}",
    )


def _to_rgb(light: HdrLight, pixel_format: str, size: str, siting: str) -> tuple[str, ...]:
    if VideoFormat(pixel_format).is_rgb:
        way = "in_range=full"
    else:
        level = "full" if light.colour.range == _FULL_RANGE else "limited"
        way = f"in_range={level}:in_color_matrix={SCALE_MATRICES.get(light.colour.matrix, _BT2020)}"
    return (
        f"scale={size}flags={SCALE_FLAGS}:{way}:out_range=full{siting}",
        f"format=pix_fmts={PIXEL_FORMAT}",
    )


def _mapping(light: HdrLight, pixel_format: str, curve: Curve) -> str:
    colour, kind = light.colour, VideoFormat(pixel_format)
    full = kind.is_rgb or colour.range == _FULL_RANGE
    arguments = {
        "transfer": colour.transfer,
        "primaries": colour.primaries if knows_primaries(colour.primaries) else HDR_PRIMARIES,
        "peak": light.peak,
        "curve": curve.value,
        "white": _white_of_full_range(kind.components[0].bits) if full else WHITE,
    }
    return "tone_map=" + ":".join(f"{name}={value}" for name, value in arguments.items())


def _white_of_full_range(bits: int) -> int:
    """Give what libswscale makes of the last code: it shifts full range, and does not stretch it."""
    return ((1 << bits) - 1) << CUBE_BITS >> bits


def _is_subsampled(pixel_format: str) -> bool:
    side, kind = 64, VideoFormat(pixel_format)
    return len(kind.components) >= len("yuv") and not kind.is_rgb and kind.chroma_width(side) < side
