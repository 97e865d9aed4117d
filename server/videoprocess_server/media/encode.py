"""Encodes one segment into a file of its own, all renditions of it, and proves that every frame is in it."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.banners import without_banner
from videoprocess_server.media.carried_units import NO_UNITS, Units, with_units
from videoprocess_server.media.echo import Echo
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.instruction_sets import exact_options
from videoprocess_server.media.timeline import output_pts
from videoprocess_server.model.plan import EncoderPlan, Plan, Rendition, SegmentPlan

if TYPE_CHECKING:
    from videoprocess_server.media.measure.segment_meter import SegmentMeter

#: packets by which decoding runs ahead of display at most: x264 and x265 use B frames as references one level deep
REORDER_DEPTH = 2
#: a longer step between frames is a pause of the recording
LONGEST_STEP_SECONDS = 4
#: of a frame in a segment's file: FFmpeg's muxer takes no more, which a hostile file can ask for
_MOST_TICKS = (1 << 31) - 1


class Beat(Protocol):
    """Is told of work done, so that somebody knows the worker lives."""

    def encoded(self) -> None:
        """Note a frame."""

    def written(self, size: int) -> None:
        """Note bytes."""


@dataclass(frozen=True, kw_only=True)
class EnhancedFrame:
    """A frame that renditions are made of."""

    segment_index: int
    #: its time in the source; of one that is made up, that of the frame before it
    source_pts: int
    interpolated: bool = False
    #: its time stamp is in ticks of the renditions
    picture: VideoFrame
    #: what the source's packet says of it
    units: Units = NO_UNITS
    #: the source's picture of a frame that is measured, as the crop leaves it
    source: VideoFrame | None = None


def encode_file(
    path: Path,
    plan: Plan,
    segment: SegmentPlan,
    frames: Iterable[EnhancedFrame],
    beat: Beat,
    meter: SegmentMeter | None,
) -> str:
    """Encode frames into a closed MP4 file without wall time or anything of the machine in it.

    It has one track for each rendition that shows frames of the segment, in the plan's order. The encoders, which hold many
    pictures, are gone when it is closed.

    Args:
        path: must not exist.
        plan: of the result.
        segment: which part of it.
        frames: of the segment.
        beat: told of frames and bytes.
        meter: told of its rendition's frames, and of the source's.

    Returns:
        the SHA-256 of the encoders' parameter sets.

    Raises:
        MediaFault: ENCODE_FAILED, or DECODE_FAILED where another number of frames came.
    """
    with path.open("xb"):
        pass
    ticks = str(plan.output_time_base.denominator)
    # Both time scales make every time stamp exact, also the start, which an edit list of movie ticks tells.
    options = {"movie_timescale": ticks, "video_track_timescale": ticks}
    count = 0
    with av.open(str(path), "w", format="mp4", options=options) as container:
        channels = [
            _Channel(container, plan, segment, rendition, beat, meter)
            for rendition in renditions_in(plan, segment)
        ]
        _start(container)
        for frame in frames:
            if meter is not None and frame.source is not None:
                meter.source(frame.source)
            for channel in channels:
                if _is_shown(frame, channel.rendition):
                    channel.push(frame.picture, frame.units)
            count += 1
            beat.encoded()
        if count != segment.frame_count:
            raise MediaFault(
                "DECODE_FAILED", f"{count} frames came where the plan has {segment.frame_count}."
            )
        for channel in channels:
            channel.finish()
        digest = hashlib.sha256()
        for channel in channels:
            if channel.rendition.is_moving:
                digest.update(channel.parameter_sets)
    return digest.hexdigest()


def renditions_in(plan: Plan, segment: SegmentPlan) -> tuple[Rendition, ...]:
    """Give the renditions that have a track in a segment's file, in order of the tracks."""
    return tuple(
        rendition
        for rendition in plan.renditions
        if rendition.still_pts is None
        or any(segment.start_pts <= pts < segment.end_pts for pts in rendition.still_pts)
    )


def _is_shown(frame: EnhancedFrame, rendition: Rendition) -> bool:
    """Whether a frame is one of a rendition's; stills show frames of the source only."""
    return rendition.shows(frame.source_pts) and (rendition.is_moving or not frame.interpolated)


class _Channel:
    """One rendition of a segment: its geometry, its encoder, its track."""

    def __init__(
        self,
        container: OutputContainer,
        plan: Plan,
        segment: SegmentPlan,
        rendition: Rendition,
        beat: Beat,
        meter: SegmentMeter | None,
    ) -> None:
        self.rendition = rendition
        self._meter = meter if meter is not None and rendition is meter.rendition else None
        self._time_base = plan.output_time_base
        options = {**rendition.encoder.options, **segment.encoder_options.get(rendition.stream_id, {})}
        goes_on = rendition.is_moving and segment.index < plan.segments[-1].index
        self._echo = Echo(plan.output_time_base, segment.frame_count) if goes_on else None
        stream = _add_encoder(container, rendition.encoder, options, self._time_base)
        self._context = stream.codec_context
        end_pts = output_pts(segment.end_pts, plan.time_base, plan.output_time_base)
        self._writer = _Writer(
            container=container,
            stream=stream,
            time_base=plan.output_time_base,
            end_pts=end_pts,
            beat=beat,
            reorder_depth=REORDER_DEPTH if rendition.is_moving else 0,
        )
        self._geometry = FilterChain(rendition.geometry, plan.output_time_base)

    @property
    def parameter_sets(self) -> bytes:
        """Of the encoder."""
        return self._context.extradata or b""

    def push(self, picture: VideoFrame, units: Units) -> None:
        """Give it the next frame."""
        if units and self.rendition.carried_length_size and picture.pts is not None:
            self._writer.units[picture.pts] = units
        self._take(self._geometry.push(picture))

    def finish(self) -> None:
        """Write what is left and check that nothing is missing."""
        self._take(self._geometry.push(None))
        for frame in self._echo.frames() if self._echo is not None else ():
            _encode(self._context, frame, self._writer)
        _encode(self._context, None, self._writer)
        self._writer.finish()

    def _take(self, frames: Iterable[VideoFrame]) -> None:
        for filtered in frames:
            frame = self._mapped(filtered)
            _check_picture(frame, self.rendition.encoder)
            assert frame.pts is not None
            assert frame.time_base is not None
            frame.pts = output_pts(frame.pts, frame.time_base, self._time_base)
            frame.time_base = self._time_base
            pts = frame.pts
            # The source's picture type would be taken as an order to make such a picture.
            frame.pict_type = PictureType.NONE
            if self._meter is not None:
                self._meter.encoding(frame)
            frame.pts = self._writer.expect(pts)
            if self._echo is not None:
                self._echo.heard(frame)
            _encode(self._context, frame, self._writer)

    def _mapped(self, frame: VideoFrame) -> VideoFrame:
        """Give the colours that readers of stills expect; imports numpy, which most segments do without."""
        if self.rendition.mapped_from is None:
            return frame
        from videoprocess_server.media.still_colour import map_to_jpeg

        return map_to_jpeg(frame, self.rendition.mapped_from)


@dataclass
class _Writer:
    """Gives packets their times and writes them; the encoder's own decode times are thrown away, and what comes of an echo."""

    container: OutputContainer
    stream: VideoStream
    #: of all times
    time_base: Fraction
    end_pts: int
    beat: Beat
    #: packets by which decoding runs ahead of display at most
    reorder_depth: int
    #: time stamps of the frames the encoder got, ascending
    shown: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    #: the time that the encoder was told of each, and its own
    told: dict[int, int] = field(default_factory=dict)
    #: by how much the encoder's time is behind
    paused_ticks: int = 0
    waiting: deque[Packet[VideoStream]] = field(default_factory=deque)
    #: by time stamp, what packets carry besides the picture
    units: dict[int, Units] = field(default_factory=dict)

    def expect(self, pts: int) -> int:
        """Note a frame that the encoder gets next; return the time to tell the encoder.

        A pause of the recording is told as a short one: x264's buffer model starves a frame that comes after minutes (measured).
        """
        longest = int(LONGEST_STEP_SECONDS / self.time_base)
        if self.shown and pts - self.shown[-1] > longest:
            self.paused_ticks += pts - self.shown[-1] - longest
        self.shown.append(pts)
        self.told[pts - self.paused_ticks] = pts
        return pts - self.paused_ticks

    def take(self, packet: Packet[VideoStream]) -> None:
        """Take a packet in decode order; it waits until the frame after it is known."""
        if self.is_full:
            return
        if packet.pts is not None:
            packet.pts = self.told.get(packet.pts)
        if packet.pts is None or packet.pts in self.seen:
            raise MediaFault("ENCODE_FAILED", "The encoder gave a packet without a time of its own.")
        if not self.seen and not packet.is_keyframe:
            raise MediaFault("ENCODE_FAILED", "The segment does not begin with a key frame.")
        packet = _rewritten(packet, self.units.pop(packet.pts, NO_UNITS), is_first=not self.seen)
        assert packet.pts is not None
        packet.dts = self._decode_time(len(self.seen), packet.pts)
        self.seen.add(packet.pts)
        self.waiting.append(packet)
        while self.waiting and (self.waiting[0].pts or 0) < self.shown[-1]:
            self._write(self.waiting.popleft())

    @property
    def is_full(self) -> bool:
        """Whether all frames have their packets."""
        return len(self.seen) == len(self.shown)

    def finish(self) -> None:
        """Write the rest and check that nothing is missing."""
        while self.waiting:
            self._write(self.waiting.popleft())
        if self.seen != set(self.shown):
            raise MediaFault(
                "ENCODE_FAILED", f"{len(self.shown)} frames went in, {len(self.seen)} packets came out."
            )

    def _decode_time(self, number: int, pts: int) -> int:
        if number >= self.reorder_depth:
            dts = self.shown[number - self.reorder_depth]
        else:
            # An encoder without B frames gives its first packet before there is a second frame to tell the step.
            dts = self.shown[0] - (self.reorder_depth - number)
        if dts > pts:
            raise MediaFault("ENCODE_FAILED", "The encoder reorders frames further than it may.")
        return dts

    def _write(self, packet: Packet[VideoStream]) -> None:
        assert packet.pts is not None
        following = bisect_left(self.shown, packet.pts) + 1
        next_pts = self.shown[following] if following < len(self.shown) else self.end_pts
        packet.duration = next_pts - packet.pts
        if packet.duration > _MOST_TICKS:
            raise MediaFault("ENCODE_FAILED", "A frame is shown for longer than a file can tell.")
        packet.stream = self.stream
        size = packet.size
        self.container.mux_one(packet)
        self.beat.written(size)


def _rewritten(packet: Packet[VideoStream], units: Units, *, is_first: bool) -> Packet[VideoStream]:
    """Give the packet with the units in it and without what its encoder says of itself."""
    if not units and not is_first:
        return packet
    data = with_units(without_banner(bytes(packet)), units)
    # A packet's bytes cannot be changed in place.
    made = cast("Packet[VideoStream]", Packet(data))
    made.pts, made.time_base, made.is_keyframe = packet.pts, packet.time_base, packet.is_keyframe
    return made


def _add_encoder(
    container: OutputContainer, encoder: EncoderPlan, options: dict[str, str], time_base: Fraction
) -> VideoStream:
    exact = exact_options(encoder, options)
    stream = container.add_stream(encoder.encoder, rate=encoder.frame_rate, options=exact)
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.thread_count = encoder.thread_count
    context.width, context.height = encoder.width, encoder.height
    context.pix_fmt = encoder.pixel_format
    context.time_base = time_base
    # Without it x264 takes 1 / time_base for the frame rate, and declares a far too high level.
    context.framerate = encoder.frame_rate
    if encoder.sample_aspect_ratio:
        context.sample_aspect_ratio = encoder.sample_aspect_ratio
    context.color_primaries = encoder.colour.primaries
    context.color_trc = encoder.colour.transfer
    context.colorspace = encoder.colour.matrix
    context.color_range = encoder.colour.range
    if encoder.codec_tag:
        context.codec_tag = encoder.codec_tag
    return stream


def _start(container: OutputContainer) -> None:
    try:
        container.start_encoding()
    except OSError:  # it writes the container's header, too: this is the disk's answer
        raise
    except (av.error.FFmpegError, ValueError) as error:
        made = ", ".join(
            f"{stream.codec_context.name} {stream.codec_context.width}x{stream.codec_context.height}"
            for stream in container.streams.video
        )
        raise MediaFault("ENCODE_FAILED", f"An encoder refuses its picture: {made}.") from error


def _encode(context: VideoCodecContext, frame: VideoFrame | None, writer: _Writer) -> None:
    packets = context.encode_lazy(frame)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            raise MediaFault("ENCODE_FAILED", "The encoder failed.") from error
        if packet is None or (frame is None and writer.is_full):
            return
        writer.take(packet)


def _check_picture(frame: VideoFrame, encoder: EncoderPlan) -> None:
    """PyAV would convert another picture by itself, with FFmpeg's default scaler."""
    if (frame.width, frame.height, frame.format.name) != (
        encoder.width,
        encoder.height,
        encoder.pixel_format,
    ):
        raise MediaFault(
            "ENCODE_FAILED",
            f"A picture of {frame.width}x{frame.height} {frame.format.name} came to the encoder.",
        )
