"""Puts frames of the source beside those of the result, in one JPEG.

A row a frame: the whole source's picture small, its middle as large as it is, a line, the same of the result, and that small.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av.error
import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoprocess_server.media.encode import EnhancedFrame, renditions_in
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.geometry import Geometry
from videoprocess_server.media.hdr import static_metadata
from videoprocess_server.media.own_files import settle
from videoprocess_server.media.planes import read_plane, write_plane
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.segment_pictures import decode_pictures, picture_sizes
from videoprocess_server.media.segments import filtered_frames
from videoprocess_server.media.still_colour import JPEG_PIXEL_FORMAT, map_to_jpeg
from videoprocess_server.media.still_encoding import known_colour, plan_jpeg, still_pixel_format
from videoprocess_server.media.stills import check_picture
from videoprocess_server.media.tone_mapping.stages import STILL_COLOUR, hdr_light, map_still
from videoprocess_server.media.upright import plan_upright
from videoprocess_server.model.media_info import VideoTrackInfo
from videoprocess_server.model.plan import EncoderPlan, Plan, Rendition, SegmentPlan
from videoprocess_server.model.quality import shown_rendition
from videoprocess_server.model.settings_snapshot import Rect
from videoprocess_server.model.tasks import StripResult, StripTask, TaskMessage, WrittenFile

#: frames that are shown, at the middles of equal parts
ROWS: Final = 3
#: pixels; all are even, as 4:2:0 wants it
DETAIL: Final = (480, 270)
OVERVIEW: Final = (240, 270)
LINE: Final = 4
WIDTH: Final = 2 * (DETAIL[0] + OVERVIEW[0]) + LINE

#: luma of the lines, and what chroma is without a colour
_GREY: Final = 160
_COLOURLESS: Final = 128
#: stages that turn a picture
_TURNS: Final = ("transpose", "hflip", "vflip")

Array = NDArray[np.uint8]


def write_strip(task: StripTask, fd: int, emit: Callable[[TaskMessage], None]) -> StripResult:
    """Write the JPEG; the same bytes whenever it is called.

    Args:
        task: the plan, its segments' files and where to write.
        fd: the source.
        emit: is told about twice a second that it gets on.

    Raises:
        MediaFault: DECODE_FAILED, ENCODE_FAILED; VERIFY_FAILED, what was written does not decode.
        FileExistsError: the output path exists.
    """
    started = time.process_time()
    rendition = shown_rendition(task.plan)
    if rendition is None:
        raise MediaFault("JOIN_FAILED", "The plan has no pictures to compare.")
    pulse = Pulse(emit)
    strip = _Strip(task, rendition, pulse.beat)
    rows = [strip.row(pair) for pair in _pairs(task, rendition, fd, strip.beat)]
    data, encoder = _encoded(_canvas(rows))
    path = Path(task.output_path)
    with path.open("xb") as file:
        file.write(data)
    size, digest = settle(path, pulse)
    check_picture(path.read_bytes(), encoder)
    return StripResult(
        file=WrittenFile(size_bytes=size, sha256=digest), cpu_seconds=time.process_time() - started
    )


@dataclass(frozen=True)
class _Pair:
    """A picture of the source, as the crop leaves it, and the result's of the same time."""

    source: VideoFrame
    result: VideoFrame


def _pairs(task: StripTask, rendition: Rendition, fd: int, beat: Callable[[], None]) -> Iterator[_Pair]:
    plan = _bare(task.plan)
    before: Fraction | None = None
    for segment, aim_pts in _places(plan, rendition):
        track = renditions_in(plan, segment).index(rendition)
        path = task.segment_paths[segment.index]
        times = picture_sizes(path, track)
        around = list(_around(plan, segment, aim_pts, fd, beat))
        aim = around[0].source_pts * plan.time_base
        shown_at = min(times, key=lambda at: (abs(at - aim), at))
        if shown_at == before:  # a video of fewer frames
            continue
        before = shown_at
        source = min(
            around, key=lambda frame: (abs(frame.source_pts * plan.time_base - shown_at), frame.source_pts)
        )
        for _, result in decode_pictures(path, track, {shown_at}):
            yield _Pair(source.picture, result)
        beat()


def _bare(plan: Plan) -> Plan:
    """Give the plan of all frames of the source as the crop leaves them, and nothing else."""
    filters = replace(plan.filters, enhancement=(), pre_roll_frames=0, post_roll_frames=0, overlay=None)
    return replace(plan, filters=filters, grid=None, interpolation=None, stabilisation=None)


def _places(plan: Plan, rendition: Rendition) -> Iterator[tuple[SegmentPlan, int]]:
    """Give the segments that are looked into, and about where: spread over the enhanced part, or over all where none is enhanced."""
    segments = [part for part in plan.segments if part.enhanced] or list(plan.segments)
    if rendition.still_pts is None:
        begin, length = segments[0].start_pts, segments[-1].end_pts - segments[0].start_pts
        aims = [begin + length * (2 * row + 1) // (2 * ROWS) for row in range(ROWS)]
    else:
        stills = [pts for pts in rendition.still_pts if pts >= segments[0].start_pts] or list(
            rendition.still_pts
        )
        aims = [stills[len(stills) * (2 * row + 1) // (2 * ROWS)] for row in range(ROWS)]
    for aim in dict.fromkeys(aims):
        yield next(part for part in reversed(plan.segments) if part.start_pts <= aim), aim


def _around(
    plan: Plan, segment: SegmentPlan, aim_pts: int, fd: int, beat: Callable[[], None]
) -> Iterator[EnhancedFrame]:
    """Give the source's frame that is shown at a time, then those beside it."""
    last: deque[EnhancedFrame] = deque(maxlen=2)
    following: EnhancedFrame | None = None
    for frame in filtered_frames(plan, [replace(segment, enhanced=False)], fd, beat=beat):
        if last and frame.source_pts > aim_pts:
            following = frame
            break
        last.append(frame)
    if not last:
        raise MediaFault("DECODE_FAILED", "No frame comes where one was before.")
    yield from reversed(last)
    if following is not None:
        yield following


class _Strip:
    """Makes rows, all alike."""

    def __init__(self, task: StripTask, rendition: Rendition, beat: Callable[[], None]) -> None:
        self.beat = beat
        self._video = task.video
        self._rendition = rendition
        self._turns = tuple(stage for stage in rendition.geometry if stage.partition("=")[0] in _TURNS)

    def row(self, pair: _Pair) -> list[Array]:
        """Give luma and both colour differences of a row."""
        source = _as_video(self._video, pair.source)
        encoder = self._rendition.encoder
        result = replace(
            _as_video(self._video, pair.result),
            sample_aspect_ratio=encoder.sample_aspect_ratio,
            colour=encoder.colour,
        )
        matrix = self._rendition.display_matrix
        upright = _whole(result, matrix, (0, 0))
        size = (upright.width, upright.height)
        static = static_metadata(pair.source)
        self.beat()
        cells = [
            self._cell(pair.source, source, OVERVIEW, self._turns, None, static),
            self._cell(pair.source, source, size, self._turns, DETAIL, static),
            None,
            self._cell(pair.result, result, size, (), DETAIL, static),
            self._cell(pair.result, result, OVERVIEW, (), None, static),
        ]
        self.beat()
        return [
            np.concatenate(
                [_line(DETAIL[1], LINE, plane) if cell is None else cell[plane] for cell in cells], axis=1
            )
            for plane in range(3)
        ]

    def _cell(
        self,
        frame: VideoFrame,
        video: VideoTrackInfo,
        size: tuple[int, int],
        turns: tuple[str, ...],
        window: tuple[int, int] | None,
        static: str,
    ) -> list[Array]:
        """Give the planes of a picture.

        Args:
            frame: as it is coded.
            video: that it is of.
            size: of the picture as it is looked at.
            turns: stages that the result's pictures are turned by, besides its display matrix.
            window: size of the middle that is shown; None for all of it.
            static: metadata of a high dynamic range.
        """
        matrix = self._rendition.display_matrix
        lies = any(turn.startswith("transpose") for turn in turns)
        geometry = _whole(video, matrix, size[::-1] if lies else size)
        light = hdr_light(video, static)
        stages = (
            *geometry.fit,
            *turns,
            *(() if window is None else _middle(size, window)),
            *(() if light is None else map_still(light, still_pixel_format(video))),
        )
        chain = FilterChain(stages, frame.time_base or Fraction(1))
        made = next(iter([*chain.push(frame), *chain.push(None)]))
        picture = map_to_jpeg(made, STILL_COLOUR if light is not None else known_colour(video))
        return [read_plane(picture, plane).copy() for plane in range(3)]


def _as_video(video: VideoTrackInfo, frame: VideoFrame) -> VideoTrackInfo:
    """Give what the source is told as, for pictures of another size or format."""
    bits = max((component.bits for component in frame.format.components), default=8)
    return replace(
        video, width=frame.width, height=frame.height, pixel_format=frame.format.name, bit_depth=bits
    )


def _whole(video: VideoTrackInfo, matrix: tuple[int, ...] | None, size: tuple[int, int]) -> Geometry:
    shown = Rect(x=0, y=0, width=video.width, height=video.height)
    return plan_upright(video, shown, matrix, size, None, still_pixel_format(video))


def _middle(size: tuple[int, int], window: tuple[int, int]) -> tuple[str, ...]:
    """Give the stages that cut the middle out, on black where the picture is smaller."""
    (width, height), (across, down) = size, window
    inside = min(width, across), min(height, down)
    left, top = ((side - part) // 2 for side, part in zip(size, inside, strict=True))
    cut = (f"crop={inside[0]}:{inside[1]}:{left}:{top}:exact=1",)
    if inside == window:
        return cut
    return (*cut, f"pad={across}:{down}:{(across - inside[0]) // 2}:{(down - inside[1]) // 2}:black")


def _line(height: int, width: int, plane: int) -> Array:
    """Give a grey part of a plane; colour differences have half its height and width."""
    if plane == 0:
        return np.full((height, width), _GREY, np.uint8)
    return np.full((height // 2, width // 2), _COLOURLESS, np.uint8)


def _canvas(rows: Sequence[Sequence[Array]]) -> VideoFrame:
    """Put rows below each other, lines between them."""
    if not rows:
        raise MediaFault("JOIN_FAILED", "The plan has no frame to compare.")
    parts: list[list[Any]] = [[], [], []]
    for number, row in enumerate(rows):
        for plane in range(3):
            if number:
                parts[plane].append(_line(LINE, WIDTH, plane))
            parts[plane].append(row[plane])
    planes = [np.concatenate(part) for part in parts]
    frame = VideoFrame(WIDTH, planes[0].shape[0], JPEG_PIXEL_FORMAT)
    for index, values in enumerate(planes):
        write_plane(frame, index, values)
    return frame


def _encoded(frame: VideoFrame) -> tuple[bytes, EncoderPlan]:
    """Give the JPEG's bytes, encoded as stills are."""
    rate = Fraction(1)
    shape = Geometry(
        fit=(), width=frame.width, height=frame.height, sample_aspect_ratio=Fraction(1), made_even=False
    )
    encoder = plan_jpeg(shape, rate)
    context = CodecContext.create(encoder.encoder, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = frame.width, frame.height
    context.pix_fmt = encoder.pixel_format
    context.time_base, context.framerate = 1 / rate, rate
    context.sample_aspect_ratio = encoder.sample_aspect_ratio
    context.color_range = encoder.colour.range
    context.thread_count = encoder.thread_count
    context.options = dict(encoder.options)
    frame.pts, frame.time_base, frame.color_range = 0, 1 / rate, encoder.colour.range
    try:
        packets = [*context.encode(frame), *context.encode(None)]
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaFault("ENCODE_FAILED", "The encoder failed.") from error
    return b"".join(bytes(packet) for packet in packets), encoder
