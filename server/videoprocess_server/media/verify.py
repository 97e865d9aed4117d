"""Decodes a joined file before it is published, and compares it with its plan and its source."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Final

import av.error
from av.container import InputContainer
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
from videoprocess_server.media.video_usability import untold
from videoprocess_server.model.media_info import TrackKind
from videoprocess_server.model.plan import Plan, Rendition
from videoprocess_server.model.tasks import TaskMessage, VerifyResult, VerifyTask

_MICROSECONDS: Final = 1_000_000
#: half a tick of Matroska, in which its muxer rounds time stamps
_MATROSKA_ROUNDING: Final = Fraction(1, 2000)


def verify(task: VerifyTask, fd: int, emit: Callable[[TaskMessage], None]) -> VerifyResult:
    """Reads the result as a player would: every frame decodes, at its time, and all else is its source's or named as lost.

    Args:
        task: the plan, what the join says it wrote, and the file.
        fd: what sound and metadata came from, opened for reading.
        emit: is told about twice a second how far it is.

    Returns:
        What the result is, its noise measured as the source's was.

    Raises:
        MediaFault: VERIFY_FAILED, and which of it is not as planned.
    """
    started = time.process_time()
    own = os.open(task.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pulse = Pulse(emit)
        _check_bytes(own, task, pulse)
        with open_source(own) as container:
            check = _Check(task, container, own, pulse)
            check.run()
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
        noise=check.meter.estimate(),
        duration_us=int(check.end * _MICROSECONDS),
        cpu_seconds=time.process_time() - started,
    )


class _Check:
    """One pass over a result."""

    def __init__(self, task: VerifyTask, container: InputContainer, fd: int, pulse: Pulse) -> None:
        self.frames = 0
        #: seconds at which the last frame's display ends
        self.end = Fraction(0)
        self.meter = NoiseMeter()
        self._task = task
        self._plan = task.plan
        self._rendition = task.plan.renditions[task.rendition_index]
        self._container = container
        self._is_matroska = "matroska" in container.format.name
        self._fd = fd
        self._pulse = pulse
        self._time_base = Fraction(1)
        self._last_pts: int | None = None
        self._digest = hashlib.sha256()

    def run(self) -> None:
        """Reads all packets once and decodes those of the picture."""
        stream = self._picture()
        _check_declared(self._rendition, stream)
        # By default decoders paint over damage without a word.
        stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
        self._time_base = stream.time_base or Fraction(1)
        for packet in self._container.demux(stream):
            if not packet.size:
                continue
            self.end = max(self.end, ((packet.pts or 0) + (packet.duration or 0)) * packet.time_base)
            for frame in packet.decode():
                self._frame(frame)
            self._pulse.beat(frames=self.frames, size=packet.size)
        for frame in stream.decode(None):
            self._frame(frame)
        self._check_times(stream.id)

    def _picture(self) -> VideoStream:
        """The track of the picture; the result has the tracks that the join says it has, in that order."""
        reports = [report for report in self._task.join.tracks if report.kept]
        streams = list(self._container.streams)
        if len(streams) < len(reports):
            raise _mismatch(f"it has {len(streams)} tracks, {len(reports)} were written")
        for stream, report in zip(streams, reports, strict=False):
            if report.kind not in {stream.type, TrackKind.UNKNOWN.value}:
                raise _mismatch(f"track {stream.index} is {stream.type}, not {report.kind}")
        places = [k for k, report in enumerate(reports) if report.index == self._task.media.video.index]
        if not places or not isinstance(streams[places[0]], VideoStream):
            raise _mismatch("it has no picture")
        return video_stream(self._container, places[0])

    def _frame(self, frame: VideoFrame) -> None:
        if frame.pts is None:
            raise _mismatch(f"frame {self.frames} has no time stamp")
        if frame.is_corrupt:
            raise _mismatch(f"frame {self.frames} is damaged")
        if not self.frames:
            _check_picture(self._rendition, frame)
        pts = _planned_ticks(frame.pts * self._time_base, self._plan, rounded=self._is_matroska)
        if self._last_pts is not None and pts <= self._last_pts:
            raise _mismatch(f"frame {self.frames} is shown before the one before it")
        self._last_pts = pts
        self._digest.update(f"{pts}\n".encode())
        if _is_sampled(self.frames, self._plan.frame_count):
            self.meter.add(frame)
        self.frames += 1

    def _check_times(self, track_id: int) -> None:
        plan = self._plan
        if self.frames != plan.frame_count:
            raise _mismatch(f"{self.frames} frames decode where the plan has {plan.frame_count}")
        if self._digest.hexdigest() != plan.pts_sha256:
            raise _mismatch("its time stamps are not those of the plan")
        planned = plan.end_pts * plan.time_base
        tick = _MATROSKA_ROUNDING * 2
        if not self._is_matroska:
            self.end, tick = _declared_end(self._fd, track_id, self.end)
        if abs(self.end - planned) > max(plan.output_time_base, tick):
            raise _mismatch(f"it ends at {float(self.end):.4f} s, not {float(planned):.4f}")


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


def _planned_ticks(seconds: Fraction, plan: Plan, *, rounded: bool) -> int:
    """A frame's time in ticks of the encoder: exact, or in Matroska the one tick its milliseconds can mean."""
    if not rounded:
        ticks = seconds / plan.output_time_base
        if ticks.denominator != 1:
            raise _mismatch(f"a frame at {seconds} s lies between two ticks")
        return int(ticks)
    if plan.grid is not None:
        origin = plan.grid.origin_pts * plan.time_base
        seconds = origin + round((seconds - origin) * plan.grid.rate) / plan.grid.rate
    return round(seconds / plan.output_time_base)


def _is_sampled(number: int, count: int) -> bool:
    """Whether the noise is measured on this frame: a few from the middle of each of a few equal parts on."""
    first = {
        min(count * (2 * k + 1) // (2 * PLACES), max(0, count - FRAMES_PER_PLACE)) for k in range(PLACES)
    }
    return any(number - ahead in first for ahead in range(FRAMES_PER_PLACE))


def _mismatch(what: str) -> MediaFault:
    return MediaFault("VERIFY_FAILED", f"The result is not what was planned: {what}.")
