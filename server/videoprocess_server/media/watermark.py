"""Burns a picture into frames.

The picture is turned, sized, and made of the frames' own samples once; a frame then costs one blend of the part it covers, in
integers, so that the pixels are the same on every machine. Graphics in HDR: white is the reference white of ITU-R BT.2408, 203 cd/m2.
"""

from __future__ import annotations

from fractions import Fraction
from math import isfinite
from typing import Any, Final

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from videoprocess_server.media import colour_tables as tables
from videoprocess_server.media.colour_arrays import Array, Colours, from_srgb
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.images import decode_image
from videoprocess_server.media.planes import read_plane, write_part
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import Colour, MediaInfo, VideoTrackInfo
from videoprocess_server.model.plan import NotKept, Overlay
from videoprocess_server.model.settings_snapshot import Rect, Watermark

#: pixels of a watermark that was sized, those that are not seen included: as many as a picture may have
_MAX_SIDE: Final = 16_384
_MAX_PIXELS: Final = 8192 * 4320
#: pixels a side that have one sample in the planes with the fewest
_GRID: Final = 4
#: lines worked on at once, a multiple of the grid: bounds memory
_BAND_LINES: Final = 64
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
    width, height = _size(watermark, image)
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
        image = decode_image(overlay.watermark.image)
        region = _region(frame, overlay.watermark, _size(overlay.watermark, image))
        pixels = _placed(overlay.watermark, image, region)
        self._marks = [_Mark(plane, frame, region) for plane in frame.planes]
        for top in range(0, region.height, _BAND_LINES):
            band = pixels[:, top : top + _BAND_LINES].astype(np.int64)
            samples = _samples((band[0], band[1], band[2]), overlay.colour, frame.format)
            for mark, values in zip(self._marks, samples, strict=False):
                mark.add(values, band[3], top)

    def burn_into(self, frame: VideoFrame) -> None:
        """Change a frame; others that share its memory stay as they are."""
        frame.make_writable()
        for index, mark in enumerate(self._marks):
            write_part(frame, index, mark.top, mark.left, mark.blended(read_plane(frame, index)))


class _Mark:
    """A watermark's part in one plane: a sample becomes (sample x kept + added) / whole, rounded.

    Where the plane has fewer samples than the frame has pixels, each gets the mean of its pixels.
    """

    def __init__(self, plane: VideoPlane, frame: VideoFrame, region: Rect) -> None:
        self._across, self._down = -(-frame.width // plane.width), -(-frame.height // plane.height)
        self.top, self.left = region.y // self._down, region.x // self._across
        shape = (region.height // self._down, region.width // self._across)
        self._whole = _OPAQUE * self._down * self._across
        self._kept = np.full(shape, self._whole, np.int32)
        self._added = np.full(shape, self._whole // 2, np.int32)

    def add(self, values: Array, alpha: Array, top: int) -> None:
        """Note lines of the region, which begin at a multiple of the grid."""
        lines = slice(top // self._down, (top + alpha.shape[0]) // self._down)
        self._kept[lines] -= self._sums(alpha)
        self._added[lines] += self._sums(alpha * values)

    def blended(self, plane: NDArray[Any]) -> NDArray[np.int32]:
        """Give the samples of the part of a plane that is marked."""
        lines, columns = self._kept.shape
        part = plane[self.top : self.top + lines, self.left : self.left + columns].astype(np.int32)
        seen = (slice(part.shape[0]), slice(part.shape[1]))
        marked: NDArray[np.int32] = (part * self._kept[seen] + self._added[seen]) // self._whole
        return marked

    def _sums(self, values: Array) -> NDArray[np.int32]:
        lines, columns = values.shape
        blocks = values.reshape(lines // self._down, self._down, columns // self._across, self._across)
        return np.asarray(blocks.sum(axis=(1, 3)), dtype=np.int32)


def _region(frame: VideoFrame, watermark: Watermark, size: tuple[int, int]) -> Rect:
    """Give the part of a frame that the watermark covers, out to the grid of the planes with the fewest samples."""
    width, height = size
    left, top = (max(begin, 0) // _GRID * _GRID for begin in (watermark.x, watermark.y))
    right = -(-min(watermark.x + width, frame.width) // _GRID) * _GRID
    bottom = -(-min(watermark.y + height, frame.height) // _GRID) * _GRID
    return Rect(x=left, y=top, width=right - left, height=bottom - top)


def _placed(watermark: Watermark, image: VideoFrame, region: Rect) -> NDArray[np.uint8]:
    """Give red, green, blue and alpha of a region, each of 255; the watermark is turned, sized and cut off in it.

    One plane after the other: a picture may be large.
    """
    size = _size(watermark, image)
    lines = np.frombuffer(memoryview(image.planes[0]), np.uint8).reshape(image.height, -1)
    pixels = lines[:, : image.width * 4].reshape(image.height, image.width, 4)
    turned = np.rot90(pixels, watermark.rotation_degrees // _RIGHT_ANGLE)
    own_alpha = turned[..., 3].astype(np.uint16)
    alpha = _cut_out(_sized(own_alpha * _OPAQUE, size), watermark, region)
    opaque = np.maximum(alpha, 1)
    placed = np.zeros((4, region.height, region.width), np.uint8)
    for channel in range(3):
        by_alpha = _cut_out(_sized(turned[..., channel] * own_alpha, size), watermark, region)
        placed[channel] = np.minimum((by_alpha * _OPAQUE + opaque // 2) // opaque, _OPAQUE)
    placed[3] = (alpha + _OPAQUE // 2) // _OPAQUE
    return placed


def _cut_out(plane: NDArray[np.uint16], watermark: Watermark, region: Rect) -> NDArray[np.uint32]:
    """Give what a region has of a plane of the watermark; 0 beside it."""
    made = np.zeros((region.height, region.width), np.uint32)
    top, left = watermark.y - region.y, watermark.x - region.x
    seen = plane[max(-top, 0) : region.height - top, max(-left, 0) : region.width - left]
    lines, columns = seen.shape
    made[max(top, 0) : max(top, 0) + lines, max(left, 0) : max(left, 0) + columns] = seen
    return made


def _size(watermark: Watermark, image: VideoFrame) -> tuple[int, int]:
    """Give width and height on the frame."""
    quarters = watermark.rotation_degrees // _RIGHT_ANGLE
    turned = (image.height, image.width) if quarters % 2 else (image.width, image.height)
    factor = Fraction(watermark.scale_factor)
    asked = (watermark.width or turned[0], watermark.height or turned[1])
    width, height = (max(1, round(side * factor)) for side in asked)
    if max(width, height) > _MAX_SIDE or width * height > _MAX_PIXELS:
        raise _bad(f"It would be {width}x{height}; it may have {_MAX_SIDE} a side and {_MAX_PIXELS} pixels.")
    return width, height


def _sized(plane: NDArray[np.uint16], size: tuple[int, int]) -> NDArray[np.uint16]:
    """Scale one plane; areas are averaged where it becomes smaller."""
    if size == (plane.shape[1], plane.shape[0]):
        return plane
    grey = VideoFrame.from_ndarray(np.ascontiguousarray(plane, dtype="<u2"), format="gray16le")
    grey.pts = 0
    smaller = size[0] <= grey.width and size[1] <= grey.height
    way = "area" if smaller else "bilinear"
    stages = (f"scale={size[0]}:{size[1]}:flags={way}+accurate_rnd+bitexact", "format=pix_fmts=gray16le")
    chain = FilterChain(stages, Fraction(1))
    made = [*chain.push(grey), *chain.push(None)][0]
    return read_plane(made, 0).copy()


def _samples(colours: Colours, colour: Colour, kind: VideoFormat) -> list[Array]:
    """Give the values of each plane, of as many bits as the frame's."""
    signals, bits = _signals(colours, colour), kind.components[0].bits
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
