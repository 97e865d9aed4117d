"""Makes frames of the same picture, with what comes with it: for another time, or to be changed."""

from __future__ import annotations

from fractions import Fraction

from av.video.frame import VideoFrame

from videoprocess_server.media.filters import FilterChain


class Copier:
    """Copies frames that are all alike.

    Args:
        time_base: of the copies' times.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._chain = FilterChain(("null",), time_base)
        self._time_base = time_base

    def at(self, frame: VideoFrame, pts: int) -> VideoFrame:
        """Give the frame with another time stamp; the samples are shared."""
        (copied,) = self._chain.push(frame)
        copied.pts, copied.time_base = pts, self._time_base
        return copied


class SampleCopier:
    """Copies frames that are all alike with samples of their own, which may be changed; in memory of earlier ones.

    Args:
        time_base: of the frames.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._chain = FilterChain(("copy",), time_base)

    def copy(self, frame: VideoFrame) -> VideoFrame:
        """Give the frame again, and what comes with it."""
        (copied,) = self._chain.push(frame)
        return copied
