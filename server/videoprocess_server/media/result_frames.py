"""Turns the enhanced frames of a source into those of a result: all of them, some, or with others made up between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from av.video.frame import VideoFrame

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.timeline import output_pts
from videoprocess_server.model.cadence import Cadence, Moment, moments
from videoprocess_server.model.plan import Plan

if TYPE_CHECKING:
    from videoprocess_server.media.interpolate.interpolation import Picture


@dataclass(frozen=True, kw_only=True)
class ResultFrame:
    """A frame of the result; its picture is the receiver's, who may draw on it."""

    picture: VideoFrame
    #: of the frame of the source that it is, or of the one before it
    source_pts: int
    #: when it is shown, in ticks of the result
    pts: int
    interpolated: bool
    #: the source's picture; None where it is not known, or the frame is made up
    source: VideoFrame | None


@dataclass(frozen=True)
class _Source:
    frame: VideoFrame
    pts: int
    #: as it was before anybody drew on it; None where nothing is made up
    picture: Picture | None
    #: before it was filtered
    source: VideoFrame | None


def result_frames(
    filtered: Iterable[VideoFrame],
    plan: Plan,
    is_wanted: Callable[[int], bool],
    source_of: Callable[[int], VideoFrame | None],
) -> Iterator[ResultFrame]:
    """Give the frames of the result.

    Args:
        filtered: enhanced frames in order of their time stamps.
        plan: of the result.
        is_wanted: tells by the time stamp of a frame of the source whether those that it is or comes before are.
        source_of: gives the source's picture of a filtered frame by its time stamp; called once for each, in order.

    Raises:
        MediaFault: ENCODE_FAILED where a frame has no time, or is of a kind of which none are made up.
    """
    make = _maker(plan)
    for moment in moments(_sources(filtered, plan, source_of), lambda source: source.pts, Cadence.of(plan)):
        if is_wanted(moment.item.pts):
            yield ResultFrame(
                picture=moment.item.frame if moment.following is None else make(moment),
                source_pts=moment.item.pts,
                pts=moment.pts,
                interpolated=moment.following is not None,
                source=moment.item.source if moment.following is None else None,
            )


def source_pts_of(frame: VideoFrame, plan: Plan) -> int:
    """Give a filtered frame's time stamp in ticks of the source.

    Raises:
        MediaFault: ENCODE_FAILED where it has none.
    """
    if frame.pts is None or frame.time_base is None:
        raise MediaFault("ENCODE_FAILED", "A filter of the plan gives a frame without a time.")
    return output_pts(frame.pts, frame.time_base, plan.time_base)


def _sources(
    filtered: Iterable[VideoFrame], plan: Plan, source_of: Callable[[int], VideoFrame | None]
) -> Iterator[_Source]:
    copy = _copier(plan)
    for frame in filtered:
        pts = source_pts_of(frame, plan)
        yield _Source(frame, pts, copy(frame), source_of(pts))


def _copier(plan: Plan) -> Callable[[VideoFrame], Picture | None]:
    """Give what keeps a frame's samples, where others are made of them; imports numpy, which most segments do without."""
    if plan.interpolation is None:
        return lambda _frame: None
    from videoprocess_server.media.interpolate.interpolation import Picture

    return Picture.of


def _maker(plan: Plan) -> Callable[[Moment[_Source]], VideoFrame]:
    """Give what makes up the picture of a moment; a plan without such moments never calls it."""
    if plan.interpolation is None:
        return lambda moment: moment.item.frame
    from videoprocess_server.media.interpolate.interpolation import Interpolator

    interpolator = Interpolator()

    def made(moment: Moment[_Source]) -> VideoFrame:
        assert moment.following is not None
        earlier, later = moment.item.picture, moment.following.picture
        assert earlier is not None
        assert later is not None
        return interpolator.between(earlier, later, moment.fraction)

    return made
