"""Finds the frames of a source that do not decode, and shows others in their place, so that a result keeps all of its time.

What a decoder makes up for a frame that it cannot read depends on where decoding began. So such a frame is never shown; the
last good one before it is. Frames that refer to it do decode, with what the decoder made up in them: they are shown as every
player shows them, and named, too; a segment near them is decoded from one place only, whoever makes it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import heappop, heappush
from typing import Final

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.copies import Copier
from videoprocess_server.media.decode import decode_fault, decode_tolerantly
from videoprocess_server.media.filters import picture_of
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.references import is_referred_to
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.plan import NotKept, Plan, SegmentPlan

#: frames that wait for an earlier one at most
_MOST_WAITING: Final = 8
#: frames that a plan names at most: an hour of 30 a second, a megabyte
MOST_DAMAGED_FRAMES: Final = 108_000
#: times that a reason names
_NAMED_TIMES: Final = 3


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Time stamps of frames, ascending."""

    #: of those that do not decode whole
    damaged: Sequence[int] = ()
    #: of those that may show traces of them
    affected: Sequence[int] = ()


@dataclass
class _Packets:
    """What the packets of a track say, in decode order: ten bytes a frame."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    keys: bytearray = field(default_factory=bytearray)
    referred: bytearray = field(default_factory=bytearray)


def find_damage(
    container: InputContainer,
    stream: VideoStream,
    shown: Sequence[int],
    picture: str,
    pulse: Pulse,
) -> Damage:
    """Decode a freshly opened source to its end.

    Args:
        container: of the source.
        stream: its video track.
        shown: time stamps of the frames that a plan shows, ascending.
        picture: what `picture_of` tells of a good frame.
        pulse: told of every packet.

    Raises:
        MediaFault: DECODE_FAILED where more frames do not decode than a plan can name.
    """
    packets, announced, good = _Packets(), list[int](), bytearray(len(shown))

    def decoded() -> Iterator[VideoFrame]:
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None:
                packets.pts.append(packet.pts)
                packets.keys.append(packet.is_keyframe)
                packets.referred.append(is_referred_to(packet))
                if not packet.is_discard:
                    heappush(announced, packet.pts)
            yield from decode_tolerantly(packet)
            pulse.beat(size=packet.size)

    for frame, _ in in_order(decoded(), announced, picture):
        if frame is not None and frame.pts is not None and _is_in(shown, frame.pts):
            good[bisect_left(shown, frame.pts)] = True
    damaged = [shown[at] for at, whole in enumerate(good) if not whole]
    if len(damaged) > MOST_DAMAGED_FRAMES:
        raise decode_fault(
            damaged[0], stream.time_base or Fraction(1), f"{len(damaged)} frames do not decode from there on"
        )
    return Damage(damaged=damaged, affected=_affected(packets, frozenset(damaged), shown))


def in_order(
    frames: Iterable[VideoFrame], announced: list[int], picture: str, damaged: AbstractSet[int] = frozenset()
) -> Iterator[tuple[VideoFrame | None, list[int]]]:
    """Give the good frames in order of their time, each with the times of frames before it that do not come.

    Where key frames are missing, decoders give frames in a wrong order: a frame waits while an earlier one is due, but not for
    more than a few others. At the end, None comes with what is left.

    Args:
        frames: as they decode.
        announced: heap of the time stamps of the packets that were given to the decoder; what is passed is taken out.
        picture: what `picture_of` tells of a good frame; "" for any.
        damaged: time stamps of frames that are not waited for and not given.
    """
    waiting: list[tuple[int, int, VideoFrame]] = []
    missing: list[int] = []

    def passed(pts: int, *, all_of_them: bool) -> bool:
        """Take out what is before a time; say whether nothing is left there."""
        while announced and announced[0] < pts and (all_of_them or announced[0] in damaged):
            missing.append(heappop(announced))
        return not announced or announced[0] >= pts

    def ready(most: int) -> Iterator[tuple[VideoFrame | None, list[int]]]:
        while waiting and (passed(waiting[0][0], all_of_them=False) or len(waiting) > most):
            pts, _, frame = heappop(waiting)
            passed(pts, all_of_them=True)
            if announced and announced[0] == pts:  # else it comes twice, too late, or of no packet
                heappop(announced)
                yield frame, missing.copy()
                missing.clear()

    for number, frame in enumerate(frames):
        if frame.pts is not None and frame.pts not in damaged and is_good(frame, picture):
            heappush(waiting, (frame.pts, number, frame))
        yield from ready(_MOST_WAITING)
    yield from ready(0)
    yield None, missing + sorted(announced)
    announced.clear()


def is_good(frame: VideoFrame, picture: str) -> bool:
    """Whether a frame can be shown: whole, by the decoder's word, and such a picture as the others."""
    return not frame.is_corrupt and picture in {"", picture_of(frame)}


def _affected(packets: _Packets, damaged: frozenset[int], shown: Sequence[int]) -> Sequence[int]:
    """Give the frames that may refer to a damaged one: all after it in decode order, until a good key frame ends that.

    Frames that are shown before the key frame they were coded after may refer to it and to what was before it.
    """
    affected: array[int] = array("q")
    spoilt, leading_spoilt, key_pts = False, False, None
    for pts, is_key, is_referred in zip(packets.pts, packets.keys, packets.referred, strict=True):
        is_damaged = pts in damaged
        if is_key:
            key_pts, leading_spoilt, spoilt = pts, spoilt or is_damaged, is_damaged
        leads = key_pts is not None and pts < key_pts
        if not is_damaged and (leading_spoilt if leads else spoilt) and _is_in(shown, pts):
            affected.append(pts)
        leading_spoilt |= leads and is_damaged and bool(is_referred)
        spoilt |= not leads and is_damaged and bool(is_referred)
    return sorted(affected)


def _is_in(ascending: Sequence[int], pts: int) -> bool:
    at = bisect_left(ascending, pts)
    return at < len(ascending) and ascending[at] == pts


def damage_losses(damage: Damage, time_base: Fraction, track_index: int) -> Iterator[NotKept]:
    """Name the frames that are not shown as they were."""

    def lost(pts: Sequence[int], what: str) -> NotKept:
        return NotKept(
            what=Loss.DAMAGED_FRAMES,
            track_index=track_index,
            count=len(pts),
            reason=f"At {_times(pts, time_base)}: {what}.",
        )

    if damage.damaged:
        yield lost(damage.damaged, "frames do not decode; the last good one before them is shown")
    if damage.affected:
        yield lost(damage.affected, "frames were coded after damaged ones and may show traces of them")


def untimed_losses(count: int, track_index: int) -> Iterator[NotKept]:
    """Name the frames at the beginning that have no time."""
    if count:
        yield NotKept(
            what=Loss.UNTIMED_FRAMES,
            track_index=track_index,
            count=count,
            reason="Frames before the first one that has a time have none; no player shows them.",
        )


def _times(pts: Sequence[int], time_base: Fraction) -> str:
    times = [f"{float(each * time_base):.3f} s" for each in pts[:_NAMED_TIMES]]
    if len(pts) > _NAMED_TIMES:
        return f"{', '.join(times)} and {len(pts) - _NAMED_TIMES} more"
    return " and ".join([", ".join(times[:-1]), times[-1]] if len(times) > 1 else times)


def is_near_damage(plan: Plan, segment: SegmentPlan) -> bool:
    """Whether a damaged frame is between the key frame that a segment decodes from and the end of the next segment."""
    following = bisect_left(plan.segments, segment.end_pts, key=lambda each: each.start_pts)
    end_pts = plan.segments[following].end_pts if following < len(plan.segments) else plan.end_pts
    at = bisect_left(plan.damaged_pts, segment.decode_from_pts)
    return at < len(plan.damaged_pts) and plan.damaged_pts[at] < end_pts


def conceal(
    frames: Iterable[VideoFrame], plan: Plan, decode_from_pts: int, announced: list[int]
) -> Iterator[VideoFrame]:
    """Give a frame for every packet: in the place of a damaged one the last good one before it, else the first good one.

    Args:
        frames: as they decode; missing, damaged and misplaced ones among them.
        plan: names the damaged frames; what else turns out not to decode is treated alike.
        decode_from_pts: before it, nothing is made up.
        announced: heap of the time stamps of the packets that were given to the decoder; what is passed is taken out.

    Raises:
        MediaFault: DECODE_FAILED where no frame is good.
    """
    good, copy, damaged = None, None, frozenset(plan.damaged_pts)
    # A packet may be the second field of an interlaced frame, whose time is no frame's.
    one_packet_a_frame = not plan.filters.prepare
    for frame, missing in in_order(frames, announced, plan.filters.source_picture, damaged):
        due = [
            pts
            for pts in missing
            if decode_from_pts <= pts <= plan.last_pts and (one_packet_a_frame or pts in damaged)
        ]
        shown = good or frame
        if due and shown is None:
            raise decode_fault(due[0], plan.time_base, "no frame decodes from there on")
        if due and shown is not None:
            copy = copy or Copier(plan.time_base)
            for pts in due:
                yield copy.at(shown, pts)
        if frame is not None:
            good = frame
            yield frame
