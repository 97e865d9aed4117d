"""A stage of our own that shows HDR as SDR: planar RGB of 12 bits to the same, through the table of table.py.

FFmpeg's haldclut looks it up, by tetrahedra; at 12 bits it gives the same on every processor, at 16 it does not (measured).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final

import av.error
import numpy as np
from av.video.frame import VideoFrame

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.graphs import add_source, filtered, new_graph
from videoprocess_server.media.planes import write_plane
from videoprocess_server.media.tone_mapping.table import CUBE_SIDE, Curve, build_cube

#: what it takes and gives, full range, as libswscale makes it of other formats and takes it
PIXEL_FORMAT: Final = "gbrp12le"

#: of ISO/IEC 23091-2, what frames are told they are afterwards
_BT709: Final = 1
_TRANSFERS: Final = {Curve.BT1886: 1, Curve.SRGB: 13}


class ToneMapping:
    """Maps frames that are all alike.

    Args:
        first: one of them.
        arguments: transfer, primaries, peak, curve and white, as `build_cube` takes them.
        time_base: of the frames.

    Raises:
        MediaFault: ENCODE_FAILED where they are of another format, or the build has no haldclut.
    """

    def __init__(self, first: VideoFrame, arguments: Mapping[str, str], time_base: Fraction) -> None:
        if first.format.name != PIXEL_FORMAT:
            raise MediaFault("ENCODE_FAILED", f"Tone mapping takes {PIXEL_FORMAT}, not {first.format.name}.")
        self._curve = Curve(arguments["curve"])
        cube = _as_picture(
            build_cube(
                *(int(arguments[name]) for name in ("transfer", "primaries", "peak")),
                self._curve,
                int(arguments["white"]),
            )
        )
        # It must be there when the first frame comes, or that would pass as it is.
        cube.pts, cube.time_base = first.pts, time_base
        graph = new_graph()
        try:
            self._source = add_source(graph, first, time_base)
            table = add_source(graph, cube, time_base)
            mapping = graph.add("haldclut", "clut=first:interp=tetrahedral")
            to_format = graph.add("format", f"pix_fmts={PIXEL_FORMAT}")
            self._sink = graph.add("buffersink")
            self._source.link_to(mapping, 0, 0)
            table.link_to(mapping, 0, 1)
            mapping.link_to(to_format)
            to_format.link_to(self._sink)
            graph.configure()
            table.push(cube)
            table.push(None)
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaFault(
                "ENCODE_FAILED", "haldclut is not in this build, or refuses the picture."
            ) from error
        self._graph = graph  # the contexts do not keep it alive

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Give it a frame, or None at the end, and take what comes out."""
        try:
            for mapped in filtered(self._source, self._sink, frame):
                mapped.color_primaries, mapped.color_trc = _BT709, _TRANSFERS[self._curve]
                yield mapped
        except av.error.FFmpegError as error:
            raise MediaFault("ENCODE_FAILED", "Tone mapping failed.") from error


def _as_picture(cube: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> VideoFrame:
    """Give a table as haldclut wants it: red changes from pixel to pixel, blue slowest.

    It takes a table's first plane for red, although planar RGB has green there (FFmpeg 8.1.2); of frames it does not.
    """
    side = round(CUBE_SIDE**1.5)
    picture = VideoFrame(side, side, PIXEL_FORMAT)
    by_blue = cube.transpose(2, 1, 0, 3)
    for channel in range(3):
        write_plane(picture, channel, by_blue[..., channel].reshape(side, side))
    return picture
