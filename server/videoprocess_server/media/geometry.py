"""Zoom, crop, scale and pixel format: what turns a source picture into the picture that is encoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from av.video.format import VideoFormat

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.video_usability import ChromaLocation
from videoprocess_server.model.media_info import Colour, VideoTrackInfo
from videoprocess_server.model.settings_snapshot import ModeSetting, Rect

#: same pixels on every CPU: without accurate_rnd the SIMD classes differ
SCALE_FLAGS = "lanczos+accurate_rnd+full_chroma_int+bitexact"
#: a zoom ratio arrives as a binary float; 1.1 means 11/10
_ZOOM_DENOMINATOR = 10_000
#: largest part of a ratio that parameter sets hold, 16 bits
_MAX_ASPECT_TERM = 65_535

_FULL_RANGE = 2


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What is done to every picture."""

    #: scale and pixel format
    fit: tuple[str, ...]
    width: int
    height: int
    sample_aspect_ratio: Fraction
    #: the source's width or height was odd and the result's is not
    made_even: bool


def plan_geometry(
    video: VideoTrackInfo,
    shown: Rect,
    asked_width: int,
    asked_height: int,
    pixel_format: str,
    *,
    chroma_location: ChromaLocation | None = None,
    even: bool = True,
) -> Geometry:
    """Plan scale and format.

    Args:
        video: the source.
        shown: the part of its picture that is left.
        asked_width: of the stream, 0 for the source's.
        asked_height: of the stream, 0 for the source's.
        pixel_format: of the encoder.
        chroma_location: of source and result; None where it is not told.
        even: whether the encoder takes even sizes only.

    Raises:
        MediaFault: SIZE_NOT_SUPPORTED where the asked size is odd.
    """
    width, height = asked_width or _even_up(video.width), asked_height or _even_up(video.height)
    if even and (width % 2 or height % 2):
        raise MediaFault("SIZE_NOT_SUPPORTED", f"{width}x{height} is odd; the encoders take even sizes.")
    return Geometry(
        fit=_fit(shown, width, height, video, pixel_format, chroma_location),
        width=width,
        height=height,
        sample_aspect_ratio=_aspect(video.sample_aspect_ratio, shown, width, height),
        made_even=(width, height) != (asked_width or video.width, asked_height or video.height),
    )


def crop_filters(shown: Rect, video: VideoTrackInfo) -> tuple[str, ...]:
    """Give the stage that cuts a part out of the picture; none where that is all of it."""
    if (shown.width, shown.height) == (video.width, video.height):
        return ()
    return (f"crop={shown.width}:{shown.height}:{shown.x}:{shown.y}",)


def zoomed(whole: Rect, setting: ModeSetting) -> Rect:
    """Give the part of the picture that is shown: centred, even, in source pixels.

    Raises:
        MediaFault: CROP_OUTSIDE_PICTURE, or SIZE_NOT_SUPPORTED where nothing is left.
    """
    base = setting.zoom_crop_region or whole
    inside = base.x >= 0 and base.y >= 0 and base.width > 0 and base.height > 0
    if not inside or base.x + base.width > whole.width or base.y + base.height > whole.height:
        raise MediaFault(
            "CROP_OUTSIDE_PICTURE",
            f"zoom_crop_region: {base.width}x{base.height} at {base.x},{base.y} is not inside the picture "
            f"of {whole.width}x{whole.height} (as coded, before rotation).",
        )
    zoom = Fraction(setting.zoom_ratio).limit_denominator(_ZOOM_DENOMINATOR)
    if zoom <= 1 and base == whole:
        return whole
    width, height = _even_down(int(base.width / zoom)), _even_down(int(base.height / zoom))
    if not width or not height:
        raise MediaFault(
            "SIZE_NOT_SUPPORTED", f"Nothing is left of {base.width}x{base.height} at a zoom of {zoom}."
        )
    return Rect(
        x=_even_down(base.x + (base.width - width) // 2),
        y=_even_down(base.y + (base.height - height) // 2),
        width=width,
        height=height,
    )


def _fit(
    shown: Rect,
    width: int,
    height: int,
    video: VideoTrackInfo,
    pixel_format: str,
    chroma_location: ChromaLocation | None,
) -> tuple[str, ...]:
    """Give the last stages; the explicit format keeps FFmpeg from choosing another one on its own."""
    to_format = f"format=pix_fmts={pixel_format}"
    if (shown.width, shown.height) == (width, height) and pixel_format == video.pixel_format:
        return (to_format,)
    colour = _from_rgb() if VideoFormat(video.pixel_format).is_rgb else _unchanged_colour(video.colour)
    siting = "" if chroma_location is None else _unchanged_siting(chroma_location.name.lower())
    return (f"scale={width}:{height}:flags={SCALE_FLAGS}{colour}{siting}", to_format)


def _from_rgb() -> str:
    """Options of the colours that `encoded_colour` declares."""
    return ":out_range=limited:out_color_matrix=bt709"


def _unchanged_siting(location: str) -> str:
    """Options that keep chroma samples where they are; the filter does not ask frames, and takes them for centred."""
    return f":in_chroma_loc={location}:out_chroma_loc={location}"


def encoded_colour(video: VideoTrackInfo) -> Colour:
    """Colour of the result: the source's, but for RGB, which is encoded as BT.709 of limited range."""
    if not VideoFormat(video.pixel_format).is_rgb:
        return video.colour
    return replace(video.colour, matrix=1, range=1)


def _unchanged_colour(colour: Colour) -> str:
    """Options that keep range and matrix as they are, where they are known."""
    level = "full" if colour.range == _FULL_RANGE else "limited"
    options = f":in_range={level}:out_range={level}"
    matrix = SCALE_MATRICES.get(colour.matrix)
    return options if matrix is None else f"{options}:in_color_matrix={matrix}:out_color_matrix={matrix}"


#: ISO/IEC 23091-2 number → the scale filter's name
SCALE_MATRICES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020"}


def _aspect(source: Fraction, shown: Rect, width: int, height: int) -> Fraction:
    """Shape of a pixel that shows the picture undistorted; a scale to the next even size does not count."""
    scaled = Fraction(_even_up(shown.width) * height, _even_up(shown.height) * width)
    if scaled == 1:
        return source
    aspect = (source or Fraction(1)) * scaled
    limited = aspect.limit_denominator(_MAX_ASPECT_TERM)
    return limited if 0 < limited <= _MAX_ASPECT_TERM else Fraction(1)


def _even_down(value: int) -> int:
    return value - value % 2


def _even_up(value: int) -> int:
    return value + value % 2
