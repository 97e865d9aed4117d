"""Keeps the source's pictures while their frames go through the filters, so that what comes out is measured beside them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from av.video.frame import VideoFrame

from videoprocess_server.media.filters import FilterChain
from videoprocess_server.model.plan import Plan

#: frames that lie between what went in and what came out, besides those that filters look at
_MOST_BETWEEN = 32


class SourcePictures:
    """The pictures of one run of segments.

    Args:
        plan: of the result.
    """

    def __init__(self, plan: Plan) -> None:
        filters = plan.filters
        rolls = filters.pre_roll_frames + filters.post_roll_frames + 2 * filters.prepare_roll_frames
        self._frames: deque[VideoFrame] = deque(maxlen=_MOST_BETWEEN + rolls)
        self._crop = FilterChain(filters.crop, plan.time_base) if filters.crop else None

    def watch(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Pass decoded frames on to the filters."""
        for frame in frames:
            self._frames.append(frame)
            yield frame

    def take(self, source_pts: int) -> VideoFrame | None:
        """Give the picture of a frame that came out, and forget it and those before; None where the source has none."""
        while self._frames and (self._frames[0].pts or 0) < source_pts:
            self._frames.popleft()
        if not self._frames or self._frames[0].pts != source_pts:
            return None
        return self._frames.popleft()

    def cropped(self, picture: VideoFrame) -> VideoFrame | None:
        """Give a picture as the crop leaves it."""
        return picture if self._crop is None else next(self._crop.push(picture), None)
