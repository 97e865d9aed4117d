"""Reads a joined file before it is published, and compares it with its plan and its source."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import Final

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.check import DisplayOrder, PacketDigest
from videoprocess_server.media.compare import unnamed_differences
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.edit_list import shown_ticks
from videoprocess_server.media.iso.movie import read_movie
from videoprocess_server.media.probe import plain_pixel_format
from videoprocess_server.media.pulse import Pulse, sha256_of
from videoprocess_server.media.source import open_source, video_stream
from videoprocess_server.media.video_usability import untold
from videoprocess_server.model.media_info import TrackKind
from videoprocess_server.model.plan import Rendition
from videoprocess_server.model.tasks import TaskMessage, VerifyResult, VerifyTask

_MICROSECONDS: Final = 1_000_000
#: half a tick of Matroska, in which its muxer rounds time stamps
_MATROSKA_ROUNDING: Final = Fraction(1, 2000)


def verify(task: VerifyTask, fd: int, emit: Callable[[TaskMessage], None]) -> VerifyResult:
    """Reads the result as a player would: every packet at its time, and all else is its source's or named as lost.

    Of the pictures those decode that segments begin with, by what the file itself declares; of all others the packets are told
    apart by digests, for `check_segment` decodes the very same ones.

    Args:
        task: the plan, what the join says it wrote, and the file.
        fd: what sound and metadata came from, opened for reading.
        emit: is told about twice a second how far it is.

    Raises:
        MediaFault: VERIFY_FAILED, and which of it is not as planned.
    """
    started = time.process_time()
    own = os.open(task.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pulse = Pulse(emit)
        _check_bytes(own, task, pulse)
        check = _Check(task, own, pulse)
        check.run()
        for difference in unnamed_differences(fd, own, task, pulse):
            raise _mismatch(difference.text)
    except av.error.FFmpegError as error:
        raise _mismatch(f"it does not decode: {error.strerror}") from error
    except MediaFault as fault:
        if fault.reason == "VERIFY_FAILED":
            raise
        raise _mismatch(fault.message) from fault
    finally:
        os.close(own)
    return VerifyResult(
        packets_sha256=tuple(check.digests),
        duration_us=int(check.end * _MICROSECONDS),
        cpu_seconds=time.process_time() - started,
    )


class _Check:
    """Goes over the pictures' packets once."""

    def __init__(self, task: VerifyTask, fd: int, pulse: Pulse) -> None:
        #: one a segment
        self.digests: list[str] = []
        #: seconds at which the last frame's display ends
        self.end = Fraction(0)
        self._task = task
        self._plan = task.plan
        self._rendition = task.plan.renditions[task.rendition_index]
        self._fd = fd
        self._pulse = pulse
        self._is_matroska = False

    def run(self) -> None:
        """Compare the times of all packets with the plan, and take their digests."""
        shown = DisplayOrder()
        with open_source(self._fd) as container:
            stream = self._picture(container)
            # By default decoders paint over damage without a word.
            stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
            for packet in self._in_segments(container, stream):
                if not packet.is_discard:
                    shown.add(self._ticks(packet.pts, stream), begins=packet.is_keyframe)
                self.end = max(self.end, ((packet.pts or 0) + (packet.duration or 0)) * packet.time_base)
                self._pulse.beat(size=packet.size)
            track_id = stream.id
        shown.end()
        self._compare_times(shown.ticks)
        self._check_end(track_id)

    def _in_segments(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
        """Give all packets; note each segment's digest, and decode its first picture."""
        packets = (packet for packet in container.demux(stream) if packet.size)
        for segment in self._plan.segments:
            digest = PacketDigest()
            for number, packet in enumerate(islice(packets, segment.frame_count)):
                if not number:
                    self._decode_first(packet, stream)
                digest.add(packet)
                yield packet
            self.digests.append(digest.hexdigest())
        yield from packets

    def _decode_first(self, packet: Packet[VideoStream], stream: VideoStream) -> None:
        frames = [*packet.decode(), *stream.decode(None)]
        stream.codec_context.flush_buffers()
        if len(frames) != 1 or frames[0].is_corrupt or not packet.is_keyframe:
            raise _mismatch(f"segment {len(self.digests)} does not begin with a picture that decodes")
        _check_picture(self._rendition, frames[0])

    def _compare_times(self, shown: Sequence[int]) -> None:
        if len(shown) != self._plan.frame_count:
            raise _mismatch(f"it has {len(shown)} frames where the plan has {self._plan.frame_count}")
        digest, before = hashlib.sha256(), None
        for number, pts in enumerate(shown):
            if before is not None and pts <= before:
                raise _mismatch(f"frame {number} is shown before the one before it")
            before = pts
            digest.update(f"{pts}\n".encode())
        if digest.hexdigest() != self._plan.pts_sha256:
            raise _mismatch("its time stamps are not those of the plan")

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


def _mismatch(what: str) -> MediaFault:
    return MediaFault("VERIFY_FAILED", f"The result is not what was planned: {what}.")
