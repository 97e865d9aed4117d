"""Geometry of pictures that are looked at as they are: turned upright, with square pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.geometry import Geometry, plan_geometry
from videoprocess_server.media.orientation import lies_on_side
from videoprocess_server.model.media_info import VideoTrackInfo
from videoprocess_server.model.settings_snapshot import ModeSetting, Rect

#: pixels a side of a JPEG that every reader takes
MAX_SIDE: Final = 16_384
MAX_PIXELS: Final = 8192 * 4320

_ONE: Final = 1 << 16
#: a, b, c and d of a display matrix → what turns the picture so. vflip gives the same memory, read backwards: another filter has to
#: follow that copies it
_TURNS: Final[dict[tuple[int, int, int, int], tuple[str, ...]]] = {
    (1, 0, 0, 1): (),
    (0, 1, -1, 0): ("transpose=clock",),
    (0, -1, 1, 0): ("transpose=cclock",),
    (-1, 0, 0, -1): ("vflip", "hflip"),
    (-1, 0, 0, 1): ("hflip",),
    (1, 0, 0, -1): ("vflip", "copy"),
    (0, 1, 1, 0): ("transpose=cclock_flip",),
    (0, -1, -1, 0): ("transpose=clock_flip",),
}
#: places of a, b, c and d
_LINEAR: Final = (0, 1, 3, 4)


def plan_upright(
    video: VideoTrackInfo,
    shown: Rect,
    matrix: tuple[int, ...] | None,
    asked: tuple[int, int],
    longest_side: int | None,
    pixel_format: str,
) -> Geometry:
    """Plan how a frame becomes a picture.

    Args:
        video: the source.
        shown: the part of its picture that is left.
        matrix: how a player turns it; None where it does not.
        asked: width and height of the picture as it is looked at. One that is 0 follows from the other; where both are 0 the
            source's size is. Where both are given, the picture is as large as it can be, on black.
        longest_side: pixels, where no size is asked for; a picture is never enlarged to it. None for no such bound.
        pixel_format: of the picture.

    Raises:
        MediaFault: SIZE_NOT_SUPPORTED.
    """
    turns = _turns(matrix)
    lies = any(turn.startswith("transpose") for turn in turns)
    coded = plan_geometry(video, shown, 0, 0, pixel_format)
    natural = _square(video.width, video.height, coded.sample_aspect_ratio)
    upright = natural[::-1] if lies else natural
    canvas = fit_size(upright, asked, longest_side)
    inside = _inside(upright, canvas) if all(asked) else canvas
    _check(canvas)
    width, height = inside[::-1] if lies else inside
    scaled = plan_geometry(video, shown, width, height, pixel_format, even=False)
    return Geometry(
        fit=(*scaled.fit, *turns, *_padding(inside, canvas)),
        width=canvas[0],
        height=canvas[1],
        sample_aspect_ratio=Fraction(1),
        made_even=False,
    )


def fit_size(
    size: tuple[int, int], asked: tuple[int, int], longest_side: int | None, step: int = 1
) -> tuple[int, int]:
    """Give the size that is asked for; what is left open keeps the shape.

    Args:
        size: of the picture.
        asked: width and height, each 0 where it is left open.
        longest_side: bound where both are left open; None for none.
        step: what a side that is left open is a multiple of.
    """
    (width, height), (asked_width, asked_height) = size, asked
    if asked_width and asked_height:
        return asked
    factor = Fraction(1)
    if asked_width or asked_height:
        factor = Fraction(asked_width, width) if asked_width else Fraction(asked_height, height)
    elif longest_side is not None:
        factor = min(Fraction(longest_side, max(size)), factor)
    return (
        asked_width or _scaled(width, factor, step),
        asked_height or _scaled(height, factor, step),
    )


def mirror_filters(setting: ModeSetting, matrix: tuple[int, ...] | None) -> tuple[str, ...]:
    """Give what mirrors coded pictures so that the one a player shows is mirrored left to right; none unless that is asked for.

    Args:
        setting: what is asked for.
        matrix: how the player turns the result.
    """
    if not setting.mirror:
        return ()
    return ("vflip", "copy") if lies_on_side(matrix) else ("hflip",)


def _turns(matrix: tuple[int, ...] | None) -> tuple[str, ...]:
    """Give the filters; none for what is no right angle, which players do not turn either."""
    if matrix is None:
        return ()
    a, b, c, d = (round(matrix[place] / _ONE) for place in _LINEAR)
    return _TURNS.get((a, b, c, d), ())


def _square(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Give the size with square pixels: the longer side of a pixel is made of more of them, so that none is lost."""
    if aspect in {0, 1}:
        return width, height
    return (_scaled(width, aspect), height) if aspect > 1 else (width, _scaled(height, 1 / aspect))


def _inside(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    factor = min(Fraction(canvas[0], size[0]), Fraction(canvas[1], size[1]))
    return min(_scaled(size[0], factor), canvas[0]), min(_scaled(size[1], factor), canvas[1])


def _padding(inside: tuple[int, int], canvas: tuple[int, int]) -> tuple[str, ...]:
    if inside == canvas:
        return ()
    x, y = ((canvas[side] - inside[side]) // 2 for side in range(2))
    return (f"pad={canvas[0]}:{canvas[1]}:{x}:{y}:black",)


def _check(size: tuple[int, int]) -> None:
    width, height = size
    if max(size) > MAX_SIDE or width * height > MAX_PIXELS:
        raise MediaFault("SIZE_NOT_SUPPORTED", f"A picture of {width}x{height} is too large.")


def _scaled(length: int, factor: Fraction, step: int = 1) -> int:
    return max(1, round(length * factor / step)) * step
