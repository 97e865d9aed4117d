"""Decodes a window of a source, and proves that every frame of it came, once and in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from heapq import heappop, heappush
from itertools import islice

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.carried_units import UnitStore
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.source import open_source, video_stream
from videoprocess_server.model.plan import Plan, SegmentPlan

#: seconds before the wanted key frame that seeks aim at, one after the other, before decoding starts at the beginning
_SEEK_MARGINS_SECONDS = (0, 2, 8, 32, 128, 512)
#: frames that may be shown before the key frame that they were coded after
_MOST_LEADING_FRAMES = 32


class Ledger:
    """Counts what a run of neighbouring segments is made from.

    Args:
        plan: of the result.
        segments: the run.
        inputs: gets, per index of a segment whose frames have all come, the SHA-256 over its packets in decode order:
            time stamp and size as decimals, then the bytes. It depends neither on the run nor on where decoding began.
    """

    def __init__(self, plan: Plan, segments: Sequence[SegmentPlan], inputs: dict[int, str]) -> None:
        self._time_base = plan.time_base
        self._segments = segments
        self._inputs = inputs
        #: heap of the time stamps of all packets, where damage is concealed: it takes out what it has passed
        self.announced: list[int] | None = [] if plan.damaged_pts else None
        length_size = max((rendition.carried_length_size for rendition in plan.renditions), default=0)
        #: what the packets say of their frames, where a rendition carries it
        self.units: UnitStore | None = UnitStore(length_size) if length_size else None
        self.reset()

    def reset(self) -> None:
        """Forget all; decoding starts anew."""
        self._digests = [hashlib.sha256() for _ in self._segments]
        self._packet_pts: list[list[int]] = [[] for _ in self._segments]
        self._current = 0
        self._frames = 0
        self._missing_pts: int | None = None
        self._last_pts: int | None = None
        if self.announced is not None:
            self.announced.clear()

    def packet(self, packet: Packet[VideoStream]) -> None:
        """Note a packet in decode order."""
        if packet.pts is None or packet.is_discard:
            return
        if self.announced is not None:
            heappush(self.announced, packet.pts)
        if self.units is not None:
            self.units.note(packet.pts, bytes(packet))
        position = self._position(packet.pts)
        if position is not None:
            note_packet(self._digests[position], packet)
            heappush(self._packet_pts[position], packet.pts)

    def frame(self, pts: int, *, damaged: bool) -> None:
        """Note a decoded frame in order of display; those around the segments too.

        Raises:
            MediaFault: DECODE_FAILED where frames of a segment are missing, damaged, come twice or out of order.
        """
        while self._current < len(self._segments) and pts >= self._segments[self._current].end_pts:
            self._settle()
        if self._current == len(self._segments) or pts < self._segments[self._current].start_pts:
            return
        if damaged:
            # What a decoder puts in the place of what it could not read depends on where decoding began.
            raise self._fault(pts, "the frame is damaged")
        if self._last_pts is not None and pts <= self._last_pts:
            raise self._fault(pts, "a frame comes after a later one")
        announced = self._packet_pts[self._current]
        self._pass_missing(announced, pts)
        if not announced or announced[0] != pts:
            raise self._fault(pts, "a frame comes that no packet of its time announced")
        heappop(announced)
        self._last_pts = pts
        self._frames += 1

    def finish(self) -> None:
        """Note the end of the run.

        Raises:
            MediaFault: DECODE_FAILED as `frame`.
        """
        while self._current < len(self._segments):
            self._settle()

    def _settle(self) -> None:
        segment = self._segments[self._current]
        self._pass_missing(self._packet_pts[self._current], segment.end_pts)
        if self._frames != segment.source_frame_count:
            raise self._fault(
                segment.start_pts if self._missing_pts is None else self._missing_pts,
                f"{self._frames} of the {segment.source_frame_count} frames of a segment decode, the first that is "
                "missing is there",
            )
        self._inputs[segment.index] = self._digests[self._current].hexdigest()
        self._current += 1
        self._frames = 0
        self._missing_pts = None

    def _pass_missing(self, announced: list[int], until_pts: int) -> None:
        """Take out the packets whose frames should have come before a time, and remember the first."""
        while announced and announced[0] < until_pts:
            pts = heappop(announced)
            self._missing_pts = pts if self._missing_pts is None else self._missing_pts

    def _position(self, pts: int) -> int | None:
        for position in range(self._current, len(self._segments)):
            if self._segments[position].start_pts <= pts < self._segments[position].end_pts:
                return position
        return None

    def _fault(self, pts: int, what: str) -> MediaFault:
        return decode_fault(pts, self._time_base, what)


def note_packet(digest: hashlib._Hash, packet: Packet[VideoStream]) -> None:
    """Add a packet that has a time stamp to a segment's digest."""
    digest.update(f"{packet.pts} {packet.size}\n".encode())
    digest.update(packet)


def decode_fault(pts: int, time_base: Fraction, what: str) -> MediaFault:
    """Make the fault of a place in the source."""
    return MediaFault("DECODE_FAILED", f"At {float(pts * time_base):.3f} s: {what}.")


def decode_tolerantly(packet: Packet[VideoStream]) -> list[VideoFrame]:
    """Give the frames that come after a packet; none where it does not decode, and the decoder goes on with the next."""
    try:
        return packet.decode()
    except (av.error.FFmpegError, MemoryError, ValueError):
        return []


def decoded_frames(
    fd: int, plan: Plan, decode_from_pts: int, ledger: Ledger, beat: Callable[[], None]
) -> Iterator[VideoFrame]:
    """Decode from a key frame on, to the end of the source unless the caller stops.

    Seeks land elsewhere on files with edit lists, open GOPs or poor indexes, and some files (a 2004 handset's H.263) mark
    frames as key frames that are none, which then decode to rubbish without any error. So it counts what comes out: a key
    frame by the decoder's word, not later than the one that is wanted. Otherwise decoding starts earlier, at last at the
    file's beginning.

    Args:
        fd: the source.
        plan: of the result.
        decode_from_pts: of the key frame.
        ledger: told of every packet that is decoded.
        beat: called after every packet.

    Raises:
        MediaFault: DECODE_FAILED.
    """
    for seek_pts in _attempts(plan, decode_from_pts):
        ledger.reset()
        with open_source(fd) as container:
            stream = video_stream(container, plan.video_track_index)
            if seek_pts is not None and not _seek(container, stream, seek_pts):
                continue
            frames = _decode(container, stream, plan, ledger, beat)
            if seek_pts is None:
                yield from frames
                return
            key = _first_key(frames)
            if key is not None and key.pts is not None and key.pts <= decode_from_pts:
                yield key
                yield from frames
                return


def _attempts(plan: Plan, decode_from_pts: int) -> Iterator[int | None]:
    """Give the time stamps to seek to, one after the other; None is the file's beginning."""
    if decode_from_pts > plan.first_pts:
        for margin in _SEEK_MARGINS_SECONDS:
            aim = decode_from_pts - int(margin / plan.time_base)
            if aim > plan.first_pts or margin == 0:
                yield aim
    yield None


def _seek(container: InputContainer, stream: VideoStream, pts: int) -> bool:
    try:
        container.seek(pts, stream=stream, backward=True)
    except (av.error.FFmpegError, OverflowError):
        return False
    return True


def _first_key(frames: Iterator[VideoFrame]) -> VideoFrame | None:
    """Pass over frames that are shown before the key frame they were coded after; they are not wanted."""
    try:
        return next((frame for frame in islice(frames, _MOST_LEADING_FRAMES) if frame.key_frame), None)
    except MediaFault:
        return None


def _decode(
    container: InputContainer, stream: VideoStream, plan: Plan, ledger: Ledger, beat: Callable[[], None]
) -> Iterator[VideoFrame]:
    at = plan.first_pts
    try:
        for packet in container.demux(stream):
            at = at if packet.pts is None else packet.pts
            if packet.size:
                ledger.packet(packet)
            yield from decode_tolerantly(packet) if plan.damaged_pts else packet.decode()
            beat()
    except (av.error.FFmpegError, MemoryError, ValueError, OSError) as error:
        raise decode_fault(at, plan.time_base, "the video track does not decode") from error
