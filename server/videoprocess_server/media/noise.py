"""How noisy a video is, without a clean original: per plane, over time, and at each of the places that are looked at.

Noise is measured within frames and between neighbours (`noise_blocks`). Both read the same on a camera's noise; where an
encoder copied blocks, noise stands still, and differences read less: 4 instead of 9 on noise of 10 after x264 at crf 23, where
frames read 8.6. What stands still cannot be averaged away. docs/picture.md has the measurements.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Final

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.cover import score_frame
from videoprocess_server.media.decode import decode_tolerantly
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.noise_blocks import MOST_BLOCKS, PlaneBlocks
from videoprocess_server.media.planes import read_plane
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.source import open_source
from videoprocess_server.model.noise import AnalyzeResult, FrameNoise, estimate_of
from videoprocess_server.model.plan import FrameScore, NoiseEstimate
from videoprocess_server.model.tasks import AnalyzeTask, TaskMessage

#: places spread over the video, and consecutive frames at each: an encoder treats I, P and B frames' noise differently
PLACES: Final = 8
FRAMES_PER_PLACE: Final = 3
#: packets decoded from one key frame at most: of a longer GOP only the first frames are measured
LONGEST_RUN: Final = 300
#: what a decoder passes over before a place: frames that no others are made from
_PASSED_OVER: Final = "NONREF"
#: packets read for them at most: those that do not decode give no frame
_MOST_PACKETS: Final = 4 * LONGEST_RUN


def analyze(task: AnalyzeTask, fd: int, emit: Callable[[TaskMessage], None] | None = None) -> AnalyzeResult:
    """Measures the noise at fixed places of the source.

    Args:
        task: says which track, and which part of the places.
        fd: the source, opened for reading.
        emit: is told about twice a second how many frames were decoded.

    Returns:
        What each frame measures, and how good it is as a cover; nothing where no frame at these places decodes.

    Raises:
        MediaFault: DECODE_FAILED, the track is no video any more.
    """
    started = time.process_time()
    with open_source(fd) as container:
        stream = container.streams[task.video.index]
        if not isinstance(stream, VideoStream):
            raise MediaFault("DECODE_FAILED", f"track {task.video.index} is not video any more")
        stream.thread_count = 1
        scores: list[FrameScore] = []
        meter = NoiseMeter()
        for place, frame in _sampled(container, stream, task, Pulse(emit)):
            scores.append(_score(frame))
            meter.add(frame, place)
    return AnalyzeResult(frames=meter.frames, scores=tuple(scores), cpu_seconds=time.process_time() - started)


def _score(frame: VideoFrame) -> FrameScore:
    """Judge a frame as a cover."""
    luma = _planar(frame)
    assert frame.pts is not None
    return score_frame(frame.pts, read_plane(luma, 0), luma.format.components[0].bits)


def estimate_frames(frames: Iterable[VideoFrame]) -> NoiseEstimate:
    """Measures the noise of neighbouring frames, one at a time.

    Args:
        frames: any pixel format; other than planar YUV is converted.

    Returns:
        The median over the frames, in code values of 255, rounded to hundredths.

    Raises:
        ValueError: there is no frame.
    """
    meter = NoiseMeter()
    for frame in frames:
        meter.add(frame, place=0)
    return meter.estimate()


class NoiseMeter:
    """Measures frames as they come by and keeps a few numbers of each.

    Args:
        most_blocks: that are looked at per plane and frame.
    """

    def __init__(self, most_blocks: int = MOST_BLOCKS) -> None:
        self._most_blocks = most_blocks
        self._frames: list[FrameNoise] = []
        self._before: tuple[int, list[PlaneBlocks]] | None = None

    def add(self, frame: VideoFrame, place: int | None = None) -> None:
        """Measures one frame; other pixel formats than planar YUV are converted.

        Args:
            frame: the frame.
            place: frames of the same place, one after the other, are neighbours in the video, and what changes between
                them is measured too. None: it has no neighbour.
        """
        frame = _planar(frame)
        planes = [
            PlaneBlocks(
                read_plane(frame, index),
                self._most_blocks,
                2.0 ** (frame.format.components[index].bits - 8),
            )
            for index in range(min(3, len(frame.planes)))
        ]
        changes = levels = None
        if place is not None:
            levels = planes[0].levels()
            if self._before is not None and self._before[0] == place:
                pairs = zip(planes, self._before[1], strict=True)
                changes = _padded([plane.change_since(before) for plane, before in pairs])
            self._before = (place, planes)
        sigmas = _padded([plane.sigma for plane in planes])
        self._frames.append(
            FrameNoise(place=place, pts=frame.pts, sigmas=sigmas, changes=changes, levels=levels)
        )

    @property
    def frames(self) -> tuple[FrameNoise, ...]:
        """What each frame measured."""
        return tuple(self._frames)

    def estimate(self) -> NoiseEstimate:
        """The median over the frames, in code values of 255, rounded to hundredths.

        Raises:
            ValueError: there was no frame.
        """
        return estimate_of(self._frames)


def _padded(sigmas: Sequence[float]) -> tuple[float, float, float]:
    """Planes that are not there as 0."""
    y, u, v = (*sigmas, 0.0, 0.0)[:3]
    return float(y), float(u), float(v)


def sample_places(first: int, duration: int | None) -> list[int]:
    """Ticks at which frames are measured: the middles of `PLACES` equal parts, or the begin where no end is known."""
    if not duration or duration <= 0:
        return [first]
    return sorted({first + duration * (2 * k + 1) // (2 * PLACES) for k in range(PLACES)})


def _planar(frame: VideoFrame) -> VideoFrame:
    """Give the frame as planes of luma and colour differences."""
    if _is_planar_yuv(frame):
        return frame
    bits = max((component.bits for component in frame.format.components), default=8)
    return frame.reformat(format="yuv444p10le" if bits > 8 else "yuv444p")


def _is_planar_yuv(frame: VideoFrame) -> bool:
    name = frame.format.name
    return (name.startswith("yuv") and "p" in name and not name.endswith("be")) or name in {
        "gray",
        "gray10le",
    }


def _sampled(
    container: InputContainer, stream: VideoStream, task: AnalyzeTask, pulse: Pulse
) -> Iterator[tuple[int, VideoFrame]]:
    """The part's places and the frames there, none twice; a place that does not decode is passed over."""
    time_base = stream.time_base or Fraction(1)
    first, duration = stream.start_time or 0, stream.duration
    if duration is None and container.duration is not None:
        # Matroska counts from 0, wherever its first frame lies.
        duration = int(Fraction(container.duration, 1_000_000) / time_base) - max(0, first)
    last: int | None = None
    decoded = itertools.count(1)
    groups = _by_key_frame(container, stream, sample_places(first, duration))
    begin, end = (len(groups) * part // task.part_count for part in (task.part, task.part + 1))
    for places in groups[begin:end]:
        for place, frame in _run(container, stream, places, lambda: pulse.beat(frames=next(decoded))):
            if frame.pts is not None and (last is None or frame.pts > last):
                last = frame.pts
                yield place, frame


def _by_key_frame(container: InputContainer, stream: VideoStream, places: Sequence[int]) -> list[list[int]]:
    """Groups the places that decode from the same key frame, so that it is decoded from once."""
    groups: dict[int | None, list[int]] = {}
    for place in places:
        try:
            container.seek(place, stream=stream, backward=True)
            key = next((packet.pts for packet in container.demux(stream) if packet.size), None)
        except av.error.FFmpegError:
            continue
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def _run(
    container: InputContainer, stream: VideoStream, places: Sequence[int], decoded: Callable[[], None]
) -> Iterator[tuple[int, VideoFrame]]:
    """Each place and the frames from it on; where the video ends before a place, its last one."""
    waiting, given = list(places), 0
    before: VideoFrame | None = None
    try:
        container.seek(places[0], stream=stream, backward=True)
        for number, packet in enumerate(itertools.islice(container.demux(stream), _MOST_PACKETS)):
            at_its_end = number >= LONGEST_RUN
            is_needed = packet.pts is None or packet.pts >= waiting[0] or at_its_end or not number
            # Before a place only what others are made from needs to be decoded. dav1d is told once, when the first packet opens it.
            stream.codec_context.skip_frame = "DEFAULT" if is_needed else _PASSED_OVER
            for frame in decode_tolerantly(packet):  # where one does not decode, later ones may
                decoded()
                if frame.pts is None or frame.is_corrupt:
                    continue
                if frame.pts < waiting[0] and not at_its_end:
                    before = frame
                    continue
                before = None
                given += 1
                yield waiting[0], frame
                if given == FRAMES_PER_PLACE:
                    waiting, given = [place for place in waiting if place > frame.pts], 0
                    if at_its_end or not waiting:
                        return
    except av.error.FFmpegError:
        return
    if before is not None:
        yield waiting[0], before
