"""Tells an encoder at the end of a segment that the video goes on: it gets the last frames again, backwards.

x264 and x265 spend less on frames that few others are predicted from (mbtree, cutree), and at the end of their input none
are: there the picture fades by 0.5 to 1.3 dB over a dozen frames, before every seam. In an unsegmented encode they take the
frames after a key frame into account, just so that those before it do not go down (x264, slicetype.c). The next segment's
frames would have to be decoded and enhanced for that; the same frames backwards move as the video does, and cost nothing.
None of them is encoded to its end. docs/encoding.md has the measurements.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from av.video.frame import PictureType, VideoFrame

from videoprocess_server.media.copies import Copier

#: more frames win less than 0.2 dB before a seam, and cost bytes
ECHO_FRAMES: Final = 8


class Echo:
    """Keeps the last frames of a segment.

    Args:
        time_base: of the frames.
        frame_count: of the segment.
    """

    def __init__(self, time_base: Fraction, frame_count: int) -> None:
        self._left = frame_count
        self._copier = Copier(time_base)
        self._last: deque[VideoFrame] = deque(maxlen=ECHO_FRAMES + 1)

    def heard(self, frame: VideoFrame) -> None:
        """Take a frame that the encoder gets next.

        The last one is no B frame, and so no frame before it refers to the echo. (A key frame in the echo would do, too, but
        where a buffer is to be kept it would be saved for: measured, 2 dB before the seam.)
        """
        assert frame.pts is not None
        self._left -= 1
        if not self._left and self._last:
            frame.pict_type = PictureType.P
        self._last.append(self._copier.at(frame, frame.pts))

    def frames(self) -> Iterator[VideoFrame]:
        """Give the echo; none of a single frame."""
        before = list(self._last)
        if len(before) < 2:
            return
        last, step = before[-1].pts or 0, (before[-1].pts or 0) - (before[-2].pts or 0)
        for number, frame in enumerate(reversed(before[:-1]), start=1):
            frame.pts = last + number * step
            frame.pict_type = PictureType.NONE
            yield frame
