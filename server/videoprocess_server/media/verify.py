"""Decodes a joined file before it is published, and compares it with its plan and its source."""

from __future__ import annotations

import hashlib
import os
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.compare import unnamed_differences
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.edit_list import shown_ticks
from videoprocess_server.media.iso.movie import read_movie
from videoprocess_server.media.noise import FRAMES_PER_PLACE, PLACES, NoiseMeter
from videoprocess_server.media.probe import plain_pixel_format
from videoprocess_server.media.pulse import Pulse, sha256_of
from videoprocess_server.media.source import open_source, video_stream
from videoprocess_server.media.timeline import output_pts
from videoprocess_server.media.video_usability import untold
from videoprocess_server.model.grid import slot_of, slot_pts
from videoprocess_server.model.media_info import TrackKind
from videoprocess_server.model.plan import Rendition
from videoprocess_server.model.tasks import TaskMessage, VerifyResult, VerifyTask

_MICROSECONDS: Final = 1_000_000
#: half a tick of Matroska, in which its muxer rounds time stamps
_MATROSKA_ROUNDING: Final = Fraction(1, 2000)


def verify(task: VerifyTask, fd: int, emit: Callable[[TaskMessage], None]) -> VerifyResult:
    """Reads the result as a player would: every frame decodes, at its time, and all else is its source's or named as lost.

    Parts begin at key frames, each with a decoder that knows nothing of the frames before.

    Args:
        task: the plan, what the join says it wrote, the file, and which part of it to decode.
        fd: what sound and metadata came from, opened for reading.
        emit: is told about twice a second how far it is.

    Returns:
        What the part is, its noise measured as the source's was.

    Raises:
        MediaFault: VERIFY_FAILED, and which of it is not as planned.
    """
    started = time.process_time()
    own = os.open(task.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pulse = Pulse(emit)
        if task.part == 0:
            _check_bytes(own, task, pulse)
        check = _Check(task, own, pulse)
        check.pictures()
        if task.part == 0:
            check.times()
            for difference in unnamed_differences(fd, own, task, pulse):
                raise _mismatch(difference.text)
    except av.error.FFmpegError as error:
        raise _mismatch(f"it does not decode to its end: {error.strerror}") from error
    except MediaFault as fault:
        if fault.reason == "VERIFY_FAILED":
            raise
        raise _mismatch(fault.message) from fault
    finally:
        os.close(own)
    return VerifyResult(
        frame_count=check.frames,
        noise=check.meter.frames,
        duration_us=int(check.end * _MICROSECONDS),
        cpu_seconds=time.process_time() - started,
    )


class _Check:
    """The check of one part."""

    def __init__(self, task: VerifyTask, fd: int, pulse: Pulse) -> None:
        self.frames = 0
        #: seconds at which the last frame's display ends
        self.end = Fraction(0)
        self.meter = NoiseMeter()
        self._task = task
        self._plan = task.plan
        self._rendition = task.plan.renditions[task.rendition_index]
        self._fd = fd
        self._pulse = pulse
        self._bounds = _Bounds.of(task)
        self._is_matroska = False
        self._shown = array("q")

    def pictures(self) -> None:
        """Decode the part: each packet has its frame, at its time."""
        coded = _DisplayOrder()
        with self._opened() as (container, stream):
            # By default decoders paint over damage without a word.
            stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
            for packet in self._of_part(container, stream):
                if not packet.is_discard:
                    coded.add(self._ticks(packet.pts, stream), begins=packet.is_keyframe)
                for frame in packet.decode():
                    self._frame(frame, stream)
                self._pulse.beat(frames=self.frames, size=packet.size)
            for frame in stream.decode(None):
                self._frame(frame, stream)
        coded.end()
        if self._shown != coded.ticks:
            raise _mismatch(f"{self.frames} frames decode of {len(coded.ticks)} packets, or at other times")

    def times(self) -> None:
        """Compare the times of all packets with the plan. Those are when what decodes of them is shown: `pictures` sees to it."""
        shown = _DisplayOrder()
        with open_source(self._fd) as container:
            stream = self._picture(container)
            for packet in _packets(container, stream):
                if not packet.is_discard:
                    shown.add(self._ticks(packet.pts, stream), begins=packet.is_keyframe)
                self.end = max(self.end, ((packet.pts or 0) + (packet.duration or 0)) * packet.time_base)
                self._pulse.beat(size=packet.size)
            track_id = stream.id
        shown.end()
        if len(shown.ticks) != self._plan.frame_count:
            raise _mismatch(f"{len(shown.ticks)} frames decode where the plan has {self._plan.frame_count}")
        digest, before = hashlib.sha256(), None
        for number, pts in enumerate(shown.ticks):
            if before is not None and pts <= before:
                raise _mismatch(f"frame {number} is shown before the one before it")
            before = pts
            digest.update(f"{pts}\n".encode())
        if digest.hexdigest() != self._plan.pts_sha256:
            raise _mismatch("its time stamps are not those of the plan")
        self._check_end(track_id)

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """Open the file before the part's first packet, not far from it where a seek leads there."""
        with open_source(self._fd) as container:
            stream = self._picture(container)
            if self._sought(container, stream):
                yield container, stream
                return
        with open_source(self._fd) as container:
            yield container, self._picture(container)

    def _sought(self, container: InputContainer, stream: VideoStream) -> bool:
        """Seek; tell whether what comes next is before the part: containers' indices may lead elsewhere."""
        begin, near = self._bounds.begin, self._bounds.near
        if begin is None or near is None:
            return True
        seek_near(container, stream, near, self._plan.output_time_base)
        first = next(_packets(container, stream), None)
        if first is None or self._ticks(first.pts, stream) >= begin:
            return False
        seek_near(container, stream, near, self._plan.output_time_base)
        return True

    def _of_part(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
        """Give the packets from the first key frame in the part's time to the first one after it."""
        begin, end = self._bounds.begin, self._bounds.end
        is_inside = begin is None
        for packet in _packets(container, stream):
            if packet.is_keyframe:
                ticks = self._ticks(packet.pts, stream)
                if end is not None and ticks >= end:
                    return
                is_inside = is_inside or begin is None or ticks >= begin
            if is_inside:
                yield packet
            else:
                self._pulse.beat(size=packet.size)

    def _picture(self, container: InputContainer) -> VideoStream:
        """The track of the picture; the result has the tracks that the join says it has, in that order."""
        self._is_matroska = "matroska" in container.format.name
        reports = [report for report in self._task.join.tracks if report.kept]
        streams = list(container.streams)
        if len(streams) < len(reports):
            raise _mismatch(f"it has {len(streams)} tracks, {len(reports)} were written")
        for stream, report in zip(streams, reports, strict=False):
            if report.kind not in {stream.type, TrackKind.UNKNOWN.value}:
                raise _mismatch(f"track {stream.index} is {stream.type}, not {report.kind}")
        places = [k for k, report in enumerate(reports) if report.index == self._task.media.video.index]
        if not places or not isinstance(streams[places[0]], VideoStream):
            raise _mismatch("it has no picture")
        picture = video_stream(container, places[0])
        _check_declared(self._rendition, picture)
        return picture

    def _frame(self, frame: VideoFrame, stream: VideoStream) -> None:
        number = self._bounds.first_number + self.frames
        if frame.is_corrupt:
            raise _mismatch(f"frame {number} is damaged")
        if not self.frames:
            _check_picture(self._rendition, frame)
        self._shown.append(self._ticks(frame.pts, stream))
        if _is_sampled(number, self._plan.frame_count):
            self.meter.add(frame)
        self.frames += 1

    def _ticks(self, pts: int | None, stream: VideoStream) -> int:
        """A time in ticks of the encoder: exact, or in Matroska the one tick its milliseconds can mean."""
        plan = self._plan
        if pts is None or stream.time_base is None:
            raise _mismatch("a frame has no time stamp")
        seconds = pts * stream.time_base
        if not self._is_matroska:
            ticks = seconds / plan.output_time_base
            if ticks.denominator != 1:
                raise _mismatch(f"a frame at {seconds} s lies between two ticks")
            return int(ticks)
        if plan.grid is not None:
            origin = plan.grid.origin_pts * plan.time_base
            seconds = origin + round((seconds - origin) * plan.grid.rate) / plan.grid.rate
        return round(seconds / plan.output_time_base)

    def _check_end(self, track_id: int) -> None:
        planned = self._plan.end_pts * self._plan.time_base
        tick = _MATROSKA_ROUNDING * 2
        if not self._is_matroska:
            self.end, tick = _declared_end(self._fd, track_id, self.end)
        if abs(self.end - planned) > max(self._plan.output_time_base, tick):
            raise _mismatch(f"it ends at {float(self.end):.4f} s, not {float(planned):.4f}")


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    """Where a part lies, in ticks of the encoder; None for the file's own begin and end."""

    begin: int | None
    end: int | None
    #: not long before its begin
    near: int | None
    #: of its first frame
    first_number: int

    @classmethod
    def of(cls, task: VerifyTask) -> _Bounds:
        """Parts have the same number of segments each, or one more."""
        plan = task.plan
        first, following = (
            len(plan.segments) * part // task.part_count for part in (task.part, task.part + 1)
        )

        def start_of(index: int) -> int | None:
            if index <= 0 or index >= len(plan.segments):
                return None
            start_pts = plan.segments[index].start_pts
            if plan.grid is None:
                return output_pts(start_pts, plan.time_base, plan.output_time_base)
            return slot_pts(slot_of(start_pts, plan.grid, plan.time_base), plan.grid, plan.time_base)

        return cls(
            begin=start_of(first),
            end=start_of(following),
            near=start_of(first - 1),
            first_number=sum(segment.frame_count for segment in plan.segments[:first]),
        )


class _DisplayOrder:
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


def seek_near(container: InputContainer, stream: VideoStream, ticks: int, time_base: Fraction) -> None:
    """Go on at the last key frame at or before a time, by the container's index."""
    container.seek(int(ticks * time_base / (stream.time_base or 1)), stream=stream)


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    return (packet for packet in container.demux(stream) if packet.size)


def _check_bytes(fd: int, task: VerifyTask, pulse: Pulse) -> None:
    with os.fdopen(os.dup(fd), "rb") as file:
        digest = sha256_of(file, pulse)
    if digest != task.join.sha256 or os.fstat(fd).st_size != task.join.size_bytes:
        raise _mismatch("its bytes are not those that were written")


def _declared_end(fd: int, track_id: int, last: Fraction) -> tuple[Fraction, Fraction]:
    """Second at which a track of an ISO file ends by its edit list, and the ticks that such a list counts in.

    FFmpeg does not tell it: packets' durations are distances of decode times there, with B frames at a variable rate those
    of other frames, and a stream's is no longer than their sum. A track without an edit list has no B frames.
    """
    movie = read_movie(fd)
    edits = movie.track(track_id).edits
    end = Fraction(shown_ticks(edits), movie.timescale) if edits else last
    return end, Fraction(1, movie.timescale)


def _check_declared(rendition: Rendition, stream: VideoStream) -> None:
    """Compares what the container says of the picture."""
    encoder, context = rendition.encoder, stream.codec_context
    if context.codec.canonical_name != encoder.codec:
        raise _mismatch(f"its picture is {context.codec.canonical_name}, not {encoder.codec}")
    if encoder.sample_aspect_ratio and (stream.sample_aspect_ratio or 1) != encoder.sample_aspect_ratio:
        raise _mismatch(f"its pixels are {stream.sample_aspect_ratio}, not {encoder.sample_aspect_ratio}")
    missing = untold(encoder.codec, encoder.options, context.extradata or b"")
    if missing:
        raise _mismatch(f"its parameter sets do not tell {', '.join(missing)}")


def _check_picture(rendition: Rendition, frame: VideoFrame) -> None:
    encoder = rendition.encoder
    made = (frame.width, frame.height, plain_pixel_format(frame.format.name))
    if made != (encoder.width, encoder.height, plain_pixel_format(encoder.pixel_format)):
        raise _mismatch(f"its picture is {made}")
    wanted = encoder.colour
    seen = (frame.color_primaries, frame.color_trc, frame.colorspace)
    if seen != (wanted.primaries, wanted.transfer, wanted.matrix):
        raise _mismatch(f"its colour is {seen}")
    full_range = 2
    if (frame.color_range == full_range or "yuvj" in frame.format.name) != (wanted.range == full_range):
        raise _mismatch(f"its range is {frame.color_range}, not {wanted.range}")


def _is_sampled(number: int, count: int) -> bool:
    """Whether the noise is measured on this frame: a few from the middle of each of a few equal parts on."""
    first = {
        min(count * (2 * k + 1) // (2 * PLACES), max(0, count - FRAMES_PER_PLACE)) for k in range(PLACES)
    }
    return any(number - ahead in first for ahead in range(FRAMES_PER_PLACE))


def _mismatch(what: str) -> MediaFault:
    return MediaFault("VERIFY_FAILED", f"The result is not what was planned: {what}.")
