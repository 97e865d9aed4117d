"""Moves, turns and zooms a frame: each plane is interpolated once, bicubically, where its samples lie.

The samples of a plane that has fewer of them than pixels lie between or on those of the luma (H.273's chroma sample
location); the warp is put into each plane's own coordinates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.stabilise.exact_cv2 import exact_cv2
from videoprocess_server.media.stabilise.fixed_point import PIXEL_TICKS, UNIT_TICKS
from videoprocess_server.media.stabilise.records import PATH, read_records
from videoprocess_server.media.video_usability import ChromaLocation

#: where a chroma sample lies on the grid of luma samples, across and down, in luma samples from the first of those it
#: stands for, if there are two of them: 0 on the first, 1/2 between them
_SITING: Final[dict[ChromaLocation, tuple[float, float]]] = {
    ChromaLocation.LEFT: (0.0, 0.5),
    ChromaLocation.CENTER: (0.5, 0.5),
    ChromaLocation.TOPLEFT: (0.0, 0.0),
    ChromaLocation.TOP: (0.5, 0.0),
    ChromaLocation.BOTTOMLEFT: (0.0, 1.0),
    ChromaLocation.BOTTOM: (0.5, 1.0),
}


#: channels of each plane, where a plane holds several
_PACKED: Final[Mapping[str, tuple[int, ...]]] = {
    **dict.fromkeys(("nv12", "nv21", "nv16", "nv24"), (1, 2)),
    **dict.fromkeys(("rgb24", "bgr24", "rgb48le", "bgr48le"), (3,)),
    **dict.fromkeys(("rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb", "0bgr", "rgba64le"), (4,)),
}


def channels_of(pixel_format: str) -> tuple[int, ...]:
    """Give how many channels each plane of a pixel format has; none where frames of it cannot be warped."""
    if pixel_format in _PACKED:
        return _PACKED[pixel_format]
    components = VideoFormat(pixel_format).components
    planar = len({component.plane for component in components}) == len(components)
    known = pixel_format.startswith(("yuv", "gray", "gbr")) and not pixel_format.endswith(
        ("be", "f32le", "f16le")
    )
    return (1,) * len(components) if planar and known else ()


class Warper:
    """Warps frames as a camera path says.

    Args:
        path: the file of the camera path.
        chroma_location: of the source; None is taken for LEFT, as decoders do.

    Raises:
        MediaFault: INTERNAL, it is no camera path.
        ImportError: the optional extra is not installed.
    """

    def __init__(self, path: Path, chroma_location: ChromaLocation | None = None) -> None:
        self._cv2 = exact_cv2()
        self._width, self._height, self._records = read_records(path, PATH)
        self._siting = _SITING[chroma_location or ChromaLocation.LEFT]

    def warp(self, frame: VideoFrame, source_pts: int) -> None:
        """Change a frame; one that the path does not name, or leaves where it is, keeps its bits.

        Args:
            frame: others that share its memory stay as they are.
            source_pts: its time stamp in ticks of the source.

        Raises:
            MediaFault: ENCODE_FAILED where it is not such a frame as the path was made of.
        """
        position = bisect_left(self._records["pts"], source_pts)
        if position == len(self._records) or self._records["pts"][position] != source_pts:
            return
        _, *ticks = self._records[position].tolist()
        if ticks == [UNIT_TICKS, 0, 0, 0]:
            return
        channels = channels_of(frame.format.name)
        if (frame.width, frame.height) != (self._width, self._height) or not channels:
            raise MediaFault(
                "ENCODE_FAILED", f"A frame of {frame.width}x{frame.height} {frame.format.name} has no path."
            )
        a, b = ticks[0] / UNIT_TICKS, ticks[1] / UNIT_TICKS
        dx, dy = ticks[2] / PIXEL_TICKS, ticks[3] / PIXEL_TICKS
        frame.make_writable()
        bits = frame.format.components[0].bits
        for plane, count in zip(frame.planes, channels, strict=True):
            lines = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else "<u2").reshape(
                plane.height, -1
            )
            columns = plane.width * count
            samples = np.ascontiguousarray(lines[:, :columns]).reshape(plane.height, plane.width, count)
            matrix = self._matrix(frame, (plane.width, plane.height), (a, b, dx, dy))
            changed = lines.copy()
            changed[:, :columns] = self._warped(samples, matrix, bits).reshape(plane.height, columns)
            plane.update(changed.tobytes())

    def _warped(self, samples: NDArray[Any], matrix: NDArray[np.float64], bits: int) -> NDArray[Any]:
        cv2 = self._cv2
        made: NDArray[Any] = cv2.warpAffine(
            samples,
            matrix,
            (samples.shape[1], samples.shape[0]),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if bits not in (8, 16):
            np.minimum(made, (1 << bits) - 1, out=made)
        return made

    def _matrix(
        self, frame: VideoFrame, size: tuple[int, int], inverse: tuple[float, float, float, float]
    ) -> NDArray[np.float64]:
        """Put "from the middle of the picture, in pixels" into "from the first sample, in samples of the plane"."""
        a, b, dx, dy = inverse
        across, down = (
            (1 if samples == whole else 2) if samples * 4 > whole else 4
            for samples, whole in zip(size, (frame.width, frame.height), strict=True)
        )
        # where the plane's first sample lies, from the middle, in pixels
        first_x = (across - 1) * self._siting[0] - (frame.width - 1) / 2
        first_y = (down - 1) * self._siting[1] - (frame.height - 1) / 2
        return np.array(
            [
                [a, -b * down / across, (a * first_x - b * first_y + dx - first_x) / across],
                [b * across / down, a, (b * first_x + a * first_y + dy - first_y) / down],
            ]
        )
