"""How much the frames of a stabilised segment still shake."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import numpy as np
from av.video.frame import VideoFrame

from videoprocess_server.media.measure.pictures import luma_of
from videoprocess_server.media.stabilise.jitter import jitter_px
from videoprocess_server.media.stabilise.motion import Motion, MotionMeter
from videoprocess_server.media.stabilise.records import MOTION
from videoprocess_server.model.quality import MotionFigures

_DECIMALS: Final = 3


class ShakeMeter:
    """Measures the motion between all frames of a segment, as the source's was measured; keeps a few numbers of each.

    Args:
        width: of the frames, in pixels.
        height: of the frames.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._meter = MotionMeter(width, height)
        self._found: list[Motion] = []

    def add(self, frame: VideoFrame) -> None:
        """Take the next frame."""
        luma, bits = luma_of(frame)
        self._found.append(self._meter.measure(frame.pts or 0, (luma >> (bits - 8)).astype(np.uint8)))

    def figures(self, time_base: Fraction) -> MotionFigures | None:
        """Return what is left of the shake; None where there are no two frames.

        Args:
            time_base: of the frames' time stamps.
        """
        if len(self._found) < 2:
            return None
        rows = [(each.pts, each.dx, each.dy, each.turn, each.growth, int(each.kind)) for each in self._found]
        jitter = jitter_px(np.array(rows, MOTION), time_base, *self._size)
        return MotionFigures(pair_count=len(rows) - 1, jitter_px=round(jitter, _DECIMALS))
