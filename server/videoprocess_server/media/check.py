"""Decodes what was encoded: every frame of a segment's videos, before the segment becomes a part of a result."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.noise import FRAMES_PER_PLACE, PLACES, NoiseMeter
from videoprocess_server.media.own_files import open_own
from videoprocess_server.media.source import prepare_decoder
from videoprocess_server.model.plan import Plan, SegmentPlan
from videoprocess_server.model.quality import CheckedVideo

#: of a packet's size in a digest of packets
_SIZE_BYTES: Final = 4


@dataclass(frozen=True, kw_only=True)
class Track:
    """One of a segment's file that is to be decoded."""

    #: of the file's tracks
    number: int
    #: of plan.renditions
    rendition_index: int
    #: told of each frame, in order
    decoded: Callable[[VideoFrame], None]


def check_segment(
    path: Path, plan: Plan, segment: SegmentPlan, tracks: Iterable[Track], beat: Callable[[int], None]
) -> tuple[CheckedVideo, ...]:
    """Decodes a segment's file with decoders that know nothing of other segments: its GOPs are closed.

    Args:
        path: of the file, closed.
        plan: of the result.
        segment: which part of it.
        tracks: those of moving pictures.
        beat: told the bytes of every packet.

    Returns:
        What each track is, its noise measured as the source's was.

    Raises:
        MediaFault: VERIFY_FAILED, a frame does not decode, is missing, or is shown at another time than its packet says.
    """
    try:
        return tuple(_checked(path, plan, segment, track, beat) for track in tracks)
    except av.error.FFmpegError as error:
        raise _mismatch(f"segment {segment.index} does not decode to its end: {error.strerror}") from error


class PacketDigest:
    """A SHA-256 over packets, which tells them apart."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, packet: Packet[VideoStream]) -> None:
        """Take the next one, in the order of decoding."""
        self._digest.update(packet.size.to_bytes(_SIZE_BYTES, "big"))
        self._digest.update(packet)

    def hexdigest(self) -> str:
        """Return the digest of all so far."""
        return self._digest.hexdigest()


class DisplayOrder:
    """Puts the times of packets, which come in decode order, into the order of display: GOPs are closed."""

    def __init__(self) -> None:
        self.ticks = array("q")
        self._gop: list[int] = []

    def add(self, ticks: int, *, begins: bool) -> None:
        """Take the next packet's; say whether a GOP begins with it."""
        if begins:
            self.end()
        self._gop.append(ticks)

    def end(self) -> None:
        """The last GOP is complete."""
        self.ticks.extend(sorted(self._gop))
        self._gop.clear()


def _checked(
    path: Path, plan: Plan, segment: SegmentPlan, track: Track, beat: Callable[[int], None]
) -> CheckedVideo:
    """Decode one track: each packet has its frame, at its time."""
    first_number = sum(before.frame_count for before in plan.segments if before.index < segment.index)
    digest, coded = PacketDigest(), DisplayOrder()
    meter, shown, size_bytes = NoiseMeter(), array("q"), 0

    def take(frame: VideoFrame) -> None:
        number = first_number + len(shown)
        if frame.is_corrupt:
            raise _mismatch(f"frame {number} is damaged")
        if frame.pts is None:
            raise _mismatch(f"frame {number} has no time stamp")
        if _is_sampled(number, plan.frame_count):
            meter.add(frame)
        shown.append(frame.pts)
        track.decoded(frame)

    with open_own(str(path)) as container:
        stream = container.streams.video[track.number]
        prepare_decoder(stream)
        # By default decoders paint over damage without a word.
        stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
        for packet in container.demux(stream):
            if not packet.size:
                continue
            digest.add(packet)
            size_bytes += packet.size
            if packet.pts is None:
                raise _mismatch("a packet has no time stamp")
            coded.add(packet.pts, begins=packet.is_keyframe)
            for frame in packet.decode():
                take(frame)
            beat(packet.size)
        for frame in stream.decode(None):
            take(frame)
    coded.end()
    if shown != coded.ticks or len(shown) != segment.frame_count:
        raise _mismatch(
            f"{len(shown)} frames decode of {len(coded.ticks)} packets of segment {segment.index}, or at other times"
        )
    return CheckedVideo(
        rendition_index=track.rendition_index,
        frame_count=len(shown),
        size_bytes=size_bytes,
        packets_sha256=digest.hexdigest(),
        noise=meter.frames,
    )


def _is_sampled(number: int, count: int) -> bool:
    """Whether the noise is measured on this frame: a few from the middle of each of a few equal parts on."""
    first = {
        min(count * (2 * k + 1) // (2 * PLACES), max(0, count - FRAMES_PER_PLACE)) for k in range(PLACES)
    }
    return any(number - ahead in first for ahead in range(FRAMES_PER_PLACE))


def _mismatch(what: str) -> MediaFault:
    return MediaFault("VERIFY_FAILED", f"The result is not what was planned: {what}.")
