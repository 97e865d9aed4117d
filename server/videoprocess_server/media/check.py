"""Decodes what was encoded: every frame of a segment's videos, before the segment becomes a part of a result."""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import Callable
from typing import Final

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.encode import renditions_in
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.noise import FRAMES_PER_PLACE, PLACES, NoiseMeter
from videoprocess_server.media.own_files import open_own
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.source import prepare_decoder
from videoprocess_server.model.tasks import CheckedVideo, CheckResult, CheckTask, TaskMessage

#: of a packet's size in a digest of packets
_SIZE_BYTES: Final = 4


def check_segment(task: CheckTask, emit: Callable[[TaskMessage], None]) -> CheckResult:
    """Decodes a segment's file with decoders that know nothing of other segments: its GOPs are closed.

    Args:
        task: the plan, the segment and its file.
        emit: is told about twice a second how far it is.

    Returns:
        What each video of it is, its noise measured as the source's was.

    Raises:
        MediaFault: VERIFY_FAILED, a frame does not decode, is missing, or is shown at another time than its packet says.
    """
    started, pulse = time.process_time(), Pulse(emit)
    try:
        videos: list[CheckedVideo] = []
        for track, rendition in enumerate(renditions_in(task.plan, task.segment)):
            if rendition.is_moving:
                done = sum(video.frame_count for video in videos)
                videos.append(_checked(task, track, task.plan.renditions.index(rendition), pulse, done))
    except av.error.FFmpegError as error:
        raise _mismatch(
            f"segment {task.segment.index} does not decode to its end: {error.strerror}"
        ) from error
    return CheckResult(
        index=task.segment.index, videos=tuple(videos), cpu_seconds=time.process_time() - started
    )


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
    task: CheckTask, track: int, rendition_index: int, pulse: Pulse, frames_before: int
) -> CheckedVideo:
    """Decode one track, so many frames of others having been decoded before: each packet has its frame, at its time."""
    plan, digest, coded = task.plan, PacketDigest(), DisplayOrder()
    first_number = sum(segment.frame_count for segment in plan.segments if segment.index < task.segment.index)
    meter, shown = NoiseMeter(), array("q")

    def take(frame: VideoFrame) -> None:
        number = first_number + len(shown)
        if frame.is_corrupt:
            raise _mismatch(f"frame {number} is damaged")
        if frame.pts is None:
            raise _mismatch(f"frame {number} has no time stamp")
        if _is_sampled(number, plan.frame_count):
            meter.add(frame)
        shown.append(frame.pts)

    with open_own(task.path) as container:
        stream = container.streams.video[track]
        prepare_decoder(stream)
        # By default decoders paint over damage without a word.
        stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
        for packet in container.demux(stream):
            if not packet.size:
                continue
            digest.add(packet)
            if packet.pts is None:
                raise _mismatch("a packet has no time stamp")
            coded.add(packet.pts, begins=packet.is_keyframe)
            for frame in packet.decode():
                take(frame)
            pulse.beat(frames=frames_before + len(shown), size=packet.size)
        for frame in stream.decode(None):
            take(frame)
    coded.end()
    if shown != coded.ticks or len(shown) != task.segment.frame_count:
        raise _mismatch(
            f"{len(shown)} frames decode of {len(coded.ticks)} packets of segment {task.segment.index}, or at other times"
        )
    return CheckedVideo(
        rendition_index=rendition_index,
        frame_count=len(shown),
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
