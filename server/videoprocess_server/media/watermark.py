"""Burns a picture into frames.

The picture is turned, sized, and made of the frames' own samples once; a frame then costs one blend of the part it covers, in
integers, so that the pixels are the same on every machine. Graphics in HDR: white is the reference white of ITU-R BT.2408, 203 cd/m2.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import Final

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoprocess_server.media import colour_tables as tables
from videoprocess_server.media.colour_arrays import Array, Colours, from_srgb
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.images import decode_image
from videoprocess_server.media.planes import read_plane, write_plane
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import Colour, MediaInfo, VideoTrackInfo
from videoprocess_server.model.plan import NotKept, Overlay
from videoprocess_server.model.settings_snapshot import Rect, Watermark

#: pixels a side of a watermark that was sized
_MAX_SIDE: Final = 8192
_RIGHT_ANGLE: Final = 90
_FULL_RANGE: Final = 2
_OPAQUE: Final = 255
#: the order of the planes of planar RGB
_GBR: Final = (1, 2, 0)
#: bits behind the point
_SHIFT: Final = 24


def plan_overlay(
    watermark: Watermark | None, shown: Rect, video: VideoTrackInfo, colour: Colour
) -> Overlay | None:
    """Plan a watermark.

    Args:
        watermark: what is asked for.
        shown: the part of the picture that is left: what the place counts in.
        video: the source.
        colour: of its frames, all of it known.

    Raises:
        MediaFault: BAD_WATERMARK where it cannot be made, or would not be seen.
    """
    if watermark is None:
        return None
    if watermark.rotation_degrees % _RIGHT_ANGLE:
        raise _bad("It is turned by right angles only.")
    if not isfinite(watermark.scale_factor) or watermark.scale_factor <= 0:
        raise _bad("Its scale factor is no positive number.")
    if not _is_planar(video.pixel_format):
        raise _bad(f"It cannot be burnt into {video.pixel_format}.")
    image = decode_image(watermark.image)
    width, height = _size(watermark, (image.width, image.height))
    right, bottom = watermark.x + width, watermark.y + height
    if right <= 0 or bottom <= 0 or watermark.x >= shown.width or watermark.y >= shown.height:
        raise _bad(
            f"{width}x{height} at {watermark.x},{watermark.y} is outside the picture of {shown.width}x{shown.height}."
        )
    return Overlay(watermark=watermark, colour=colour)


def named_losses(media: MediaInfo) -> tuple[NotKept, ...]:
    """Tell of a watermark that the source only names by its path."""
    if not media.names_watermark:
        return ()
    reason = "The source names the path of a watermark, which is never opened; CommitStreams takes the picture itself."
    return (NotKept(what=Loss.EXTERNAL_REFERENCE, track_index=None, count=1, reason=reason),)


class Burner:
    """Burns a watermark into frames that are all alike; it is made when the first one comes.

    Args:
        overlay: of the plan.
    """

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._stamp: Stamp | None = None

    def burn_into(self, frame: VideoFrame) -> None:
        """Change a frame."""
        self._stamp = self._stamp or Stamp(self._overlay, frame)
        self._stamp.burn_into(frame)


class Stamp:
    """A watermark made of the samples of certain frames.

    Args:
        overlay: of the plan.
        frame: one like all that will come.

    Raises:
        MediaFault: BAD_WATERMARK.
    """

    def __init__(self, overlay: Overlay, frame: VideoFrame) -> None:
        colours, alpha = _picture(overlay.watermark)
        bits = frame.format.components[0].bits
        self._marks = [
            _mark(values, alpha, overlay.watermark, frame, index)
            for index, values in enumerate(_samples(colours, overlay.colour, frame.format, bits))
        ]

    def burn_into(self, frame: VideoFrame) -> None:
        """Change a frame; others that share its memory stay as they are."""
        frame.make_writable()
        for index, mark in enumerate(self._marks):
            if mark is None:
                continue
            values = read_plane(frame, index).astype(np.int32)
            part = values[mark.lines, mark.columns]
            values[mark.lines, mark.columns] = (part * mark.kept + mark.added) // mark.whole
            write_plane(frame, index, values)


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """A watermark's part in one plane: a sample becomes (sample x kept + added) / whole, rounded."""

    lines: slice
    columns: slice
    kept: NDArray[np.int32]
    added: NDArray[np.int32]
    whole: int


def _mark(values: Array, alpha: Array, watermark: Watermark, frame: VideoFrame, index: int) -> _Mark | None:
    """Give what a plane gets; where it has fewer samples than the frame has pixels, each gets the mean of its pixels."""
    plane = frame.planes[index]
    across, down = -(-frame.width // plane.width), -(-frame.height // plane.height)
    before = (watermark.y % down, watermark.x % across)
    after = tuple(
        -(begin + side) % step for begin, side, step in zip(before, alpha.shape, (down, across), strict=True)
    )
    padding = ((before[0], after[0]), (before[1], after[1]))
    weights = _blocks(np.pad(alpha, padding), down, across)
    weighted = _blocks(np.pad(alpha * values, padding), down, across)
    top, left = watermark.y // down, watermark.x // across
    lines = slice(max(top, 0), min(top + weights.shape[0], plane.height))
    columns = slice(max(left, 0), min(left + weights.shape[1], plane.width))
    if lines.start >= lines.stop or columns.start >= columns.stop:
        return None
    seen = (slice(lines.start - top, lines.stop - top), slice(columns.start - left, columns.stop - left))
    whole = _OPAQUE * down * across
    return _Mark(
        lines=lines,
        columns=columns,
        kept=(whole - weights[seen]).astype(np.int32),
        added=(weighted[seen] + whole // 2).astype(np.int32),
        whole=whole,
    )


def _blocks(values: Array, down: int, across: int) -> Array:
    lines, columns = values.shape
    blocks = values.reshape(lines // down, down, columns // across, across)
    return np.asarray(blocks.sum(axis=(1, 3)), dtype=np.int64)


def _picture(watermark: Watermark) -> tuple[Colours, Array]:
    """Give red, green, blue and alpha, each of 255, turned and sized."""
    image = decode_image(watermark.image)
    lines = np.frombuffer(memoryview(image.planes[0]), np.uint8).reshape(image.height, -1)
    pixels = lines[:, : image.width * 4].reshape(image.height, image.width, 4).astype(np.int64)
    turned = np.rot90(pixels, watermark.rotation_degrees // _RIGHT_ANGLE)
    size = _size(watermark, (image.width, image.height))
    alpha = turned[..., 3] * _OPAQUE
    by_alpha = [turned[..., channel] * turned[..., 3] for channel in range(3)]
    if size != (turned.shape[1], turned.shape[0]):
        alpha, *by_alpha = (_sized(plane, size) for plane in (alpha, *by_alpha))
    opaque = np.maximum(alpha, 1)
    red, green, blue = (np.minimum((plane * _OPAQUE + opaque // 2) // opaque, _OPAQUE) for plane in by_alpha)
    return (red, green, blue), (alpha + _OPAQUE // 2) // _OPAQUE


def _size(watermark: Watermark, image: tuple[int, int]) -> tuple[int, int]:
    """Give width and height on the frame."""
    quarters = watermark.rotation_degrees // _RIGHT_ANGLE
    turned = image[::-1] if quarters % 2 else image
    factor = Fraction(watermark.scale_factor)
    asked = (watermark.width or turned[0], watermark.height or turned[1])
    width, height = (max(1, round(side * factor)) for side in asked)
    if max(width, height) > _MAX_SIDE:
        raise _bad(f"It would be {width}x{height}, more than {_MAX_SIDE} a side.")
    return width, height


def _sized(plane: Array, size: tuple[int, int]) -> Array:
    """Scale one plane of 16 bits; areas are averaged where it becomes smaller."""
    grey = VideoFrame.from_ndarray(np.ascontiguousarray(plane, dtype="<u2"), format="gray16le")
    grey.pts = 0
    smaller = size[0] <= grey.width and size[1] <= grey.height
    way = "area" if smaller else "bilinear"
    stages = (f"scale={size[0]}:{size[1]}:flags={way}+accurate_rnd+bitexact", "format=pix_fmts=gray16le")
    chain = FilterChain(grey, stages, Fraction(1))
    made = [*chain.push(grey), *chain.push(None)][0]
    return read_plane(made, 0).astype(np.int64)


def _samples(colours: Colours, colour: Colour, kind: VideoFormat, bits: int) -> list[Array]:
    """Give the values of each plane, of as many bits as the frame's."""
    signals = _signals(colours, colour)
    if kind.is_rgb:
        most = (1 << bits) - 1
        return [(signals[channel] * most + tables.SIGNAL_MAX // 2) // tables.SIGNAL_MAX for channel in _GBR]
    full = colour.range == _FULL_RANGE
    shares = tables.luma_shares(colour.matrix)
    luma_steps = (1 << bits) - 1 if full else 219 << (bits - 8)
    chroma_steps = (1 << bits) - 1 if full else 224 << (bits - 8)
    black, middle = (0 if full else 16 << (bits - 8)), 1 << (bits - 1)
    planes = [_weighted(signals, shares, luma_steps) + black]
    if len(kind.components) < len("yuv"):
        return planes
    red, green, blue = shares
    for rest, weights in (
        (1 - blue, (-red, -green, 1 - blue)),
        (1 - red, (1 - red, -green, -blue)),
    ):
        halved = (weights[0] / (2 * rest), weights[1] / (2 * rest), weights[2] / (2 * rest))
        planes.append(np.clip(_weighted(signals, halved, chroma_steps) + middle, 0, (1 << bits) - 1))
    return planes


def _weighted(signals: Colours, weights: tuple[Fraction, Fraction, Fraction], steps: int) -> Array:
    first, second, third = (round(weight * steps * (1 << _SHIFT) / tables.SIGNAL_MAX) for weight in weights)
    total: Array = signals[0] * first + signals[1] * second + signals[2] * third
    return (total + (1 << (_SHIFT - 1))) >> _SHIFT


def _signals(colours: Colours, colour: Colour) -> Colours:
    """Give the frame's own signals of sRGB's colours."""
    red, green, blue = ((part * tables.SIGNAL_MAX + _OPAQUE // 2) // _OPAQUE for part in colours)
    return from_srgb((red, green, blue), colour)


def _is_planar(pixel_format: str) -> bool:
    """Whether each component has a plane of its own."""
    kind = VideoFormat(pixel_format)
    planes = {component.plane for component in kind.components}
    known = pixel_format.startswith(("yuv", "gray", "gbrp")) and not pixel_format.endswith("be")
    return known and len(planes) == len(kind.components)


def _bad(message: str) -> MediaFault:
    return MediaFault("BAD_WATERMARK", f"The watermark cannot be made: {message}")
