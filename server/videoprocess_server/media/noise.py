"""How noisy a video is: the standard deviation of its noise per plane, without a clean original.

After N. Ponomarenko, V. Lukin, M. Zriakhov, A. Kaarna, J. Astola, "An automatic approach to lossy compression of AVIRIS
images", IGARSS 2007: of all 8x8 blocks those with the least energy at low and middle frequencies of the DCT show next to
no picture, and what they hold at high frequencies is noise. White noise is independent between the two sets of
coefficients, so choosing blocks by the one leaves the estimate of the other unbiased. Blocks near black or white are
left out (clipping narrows their noise), and blocks without any variation (letterbox, graphics, skipped blocks).
Temporal differences, the other known way, read 0 where an encoder copied a block: 4 instead of 9 on noise of 10 after
x264 at crf 23, where this one reads 8.6. docs/picture.md has the measurements.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from videoprocess_server.media.cover import score_frame
from videoprocess_server.media.decode import decode_tolerantly
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.planes import read_plane
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.source import open_source
from videoprocess_server.model.plan import FrameScore, NoiseEstimate
from videoprocess_server.model.tasks import AnalyzeTask, TaskMessage

#: places spread over the video, and consecutive frames at each: an encoder treats I, P and B frames' noise differently
PLACES: Final = 8
FRAMES_PER_PLACE: Final = 3
#: frames decoded from one key frame at most: of a longer GOP only the first frames are measured
LONGEST_RUN: Final = 300
#: packets read for them at most: those that do not decode give no frame
_MOST_PACKETS: Final = 4 * LONGEST_RUN

#: pixels a side of a block
_SIDE: Final = 8
#: blocks looked at per plane and frame, evenly spread: bounds memory and time whatever the size of the picture
_MOST_BLOCKS: Final = 16_384
#: share of the blocks taken for quiet, and the least number that makes an estimate
_QUIET_SHARE: Final = 0.05
_FEWEST_BLOCKS: Final = 30
#: code values of 255 that a block's mean keeps from black and white, and its multiple of the noise found first
_MARGIN: Final = 24.0
_MARGIN_SIGMAS: Final = 3.0

_ROWS, _COLUMNS = np.meshgrid(np.arange(_SIDE), np.arange(_SIDE), indexing="ij")
#: the DCT of H.265 (ITU-T H.265 8.6.4.2), a frequency a row: of whole numbers, and all rows but the first add up to exactly 0
_ROW_DCT: Final = np.array(
    [
        [64, 64, 64, 64, 64, 64, 64, 64],
        [89, 75, 50, 18, -18, -50, -75, -89],
        [83, 36, -36, -83, -83, -36, 36, 83],
        [75, -18, -89, -50, 50, 89, 18, -75],
        [64, -64, -64, 64, 64, -64, -64, 64],
        [50, -89, 18, 75, -75, -18, 89, -50],
        [36, -83, 83, -36, -36, 83, -83, 36],
        [18, -50, 75, -89, 89, -75, 50, -18],
    ]
)
#: the DCT of a whole block, for blocks as rows of a matrix. Sums of products stay below 2^53 and are exact in whatever order a
#: processor adds them: estimates decide pixels, and must be the same everywhere
_DCT: Final = np.kron(_ROW_DCT, _ROW_DCT).T.astype(np.float64)
#: what makes code values of 255 whole numbers, up to 12 bits, and what the DCT enlarges its coefficients by
_WHOLE: Final = 16
_DCT_GAIN: Final = 1 << 15
#: coefficients that tell picture, without the mean, and those that tell noise
_PICTURE: Final = np.flatnonzero((_ROWS + _COLUMNS >= 1) & (_ROWS + _COLUMNS <= 5))
_NOISE: Final = np.flatnonzero(_ROWS + _COLUMNS >= 8)


def analyze(task: AnalyzeTask, fd: int, emit: Callable[[TaskMessage], None] | None = None) -> NoiseEstimate:
    """Measures the noise at fixed places of the source.

    Args:
        task: says which track.
        fd: the source, opened for reading.
        emit: is told about twice a second how many frames were decoded.

    Returns:
        The median over the frames measured, in code values of 255, rounded to hundredths: a plan holds it. And how good
        each of the frames is as a cover.

    Raises:
        MediaFault: DECODE_FAILED, no frame at any place decodes.
    """
    with open_source(fd) as container:
        stream = container.streams[task.video.index]
        if not isinstance(stream, VideoStream):
            raise MediaFault("DECODE_FAILED", f"track {task.video.index} is not video any more")
        stream.thread_count = 1
        scores: list[FrameScore] = []
        noise = estimate_frames(_scored(_sampled(container, stream, Pulse(emit)), scores))
    return replace(noise, frames=tuple(scores))


def _scored(frames: Iterable[VideoFrame], scores: list[FrameScore]) -> Iterator[VideoFrame]:
    """Pass frames on and judge each as a cover."""
    for frame in frames:
        luma = _planar(frame)
        assert frame.pts is not None
        scores.append(score_frame(frame.pts, read_plane(luma, 0), luma.format.components[0].bits))
        yield frame


def estimate_frames(frames: Iterable[VideoFrame]) -> NoiseEstimate:
    """Measures the noise of frames, one at a time.

    Args:
        frames: any pixel format; other than planar YUV is converted.

    Returns:
        The median over the frames, in code values of 255, rounded to hundredths.

    Raises:
        MediaFault: DECODE_FAILED, there is no frame.
    """
    meter = NoiseMeter()
    for frame in frames:
        meter.add(frame)
    return meter.estimate()


class NoiseMeter:
    """Measures frames as they come by and keeps three numbers of each.

    Args:
        most_blocks: that are looked at per plane and frame.
    """

    def __init__(self, most_blocks: int = _MOST_BLOCKS) -> None:
        self._most_blocks = most_blocks
        self._found: list[tuple[float, float, float]] = []

    def add(self, frame: VideoFrame) -> None:
        """Measures one frame; other pixel formats than planar YUV are converted."""
        self._found.append(_frame_sigmas(frame, self._most_blocks))

    def estimate(self) -> NoiseEstimate:
        """The median over the frames, in code values of 255, rounded to hundredths.

        Raises:
            MediaFault: DECODE_FAILED, there was no frame.
        """
        if not self._found:
            raise MediaFault("DECODE_FAILED", "No frame decodes at any place the noise is measured at.")
        y, u, v = (round(float(sigma), 2) for sigma in np.median(np.asarray(self._found), axis=0))
        return NoiseEstimate(sigma_y=y, sigma_u=u, sigma_v=v, frame_count=len(self._found))


def sample_places(first: int, duration: int | None) -> list[int]:
    """Ticks at which frames are measured: the middles of `PLACES` equal parts, or the begin where no end is known."""
    if not duration or duration <= 0:
        return [first]
    return sorted({first + duration * (2 * k + 1) // (2 * PLACES) for k in range(PLACES)})


def estimate_plane(values: NDArray[np.float32], most_blocks: int = _MOST_BLOCKS) -> float:
    """The standard deviation of the noise of one plane.

    Args:
        values: code values of 255, rows by columns.
        most_blocks: that are looked at.

    Returns:
        Code values of 255; 0 where the plane has no block to judge by.
    """
    blocks = _blocks(values, most_blocks)
    sigma = _estimate_blocks(blocks, _MARGIN)
    if sigma * _MARGIN_SIGMAS > _MARGIN:
        return _estimate_blocks(blocks, min(sigma * _MARGIN_SIGMAS, 96.0))
    return sigma


def _estimate_blocks(blocks: NDArray[np.float32], margin: float) -> float:
    if not len(blocks):
        return 0.0
    means = blocks.mean(axis=1)
    varied = np.ptp(blocks, axis=1) > 0
    usable = blocks[(means > margin) & (means < 255 - margin) & varied]
    if len(usable) < _FEWEST_BLOCKS:
        usable = blocks
    coefficients = (usable * _WHOLE).astype(np.float64) @ _DCT
    picture = np.square(coefficients[:, _PICTURE].astype(np.int64)).sum(axis=1)
    count = min(len(usable), max(_FEWEST_BLOCKS, int(len(usable) * _QUIET_SHARE)))
    quiet = np.argsort(picture, kind="stable")[:count]
    squares = np.square(coefficients[quiet][:, _NOISE].astype(np.int64)).sum(axis=0)
    return float(np.sqrt(np.median(squares) / count)) / (_WHOLE * _DCT_GAIN)


def _blocks(values: NDArray[np.float32], most_blocks: int) -> NDArray[np.float32]:
    """The plane's blocks as rows, every nth where they are more than enough."""
    rows, columns = values.shape[0] // _SIDE, values.shape[1] // _SIDE
    whole = values[: rows * _SIDE, : columns * _SIDE].reshape(rows, _SIDE, columns, _SIDE)
    every = max(1, -(-rows * columns // most_blocks))
    row, column = np.divmod(np.arange(0, rows * columns, every), max(1, columns))
    return whole[row, :, column, :].reshape(-1, _SIDE * _SIDE)


def _frame_sigmas(frame: VideoFrame, most_blocks: int) -> tuple[float, float, float]:
    frame = _planar(frame)
    sigmas = [
        estimate_plane(_plane_values(frame, index), most_blocks) for index in range(min(3, len(frame.planes)))
    ]
    y, u, v = (*sigmas, 0.0, 0.0)[:3]
    return y, u, v


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


def _plane_values(frame: VideoFrame, index: int) -> NDArray[np.float32]:
    """A plane in code values of 255."""
    values: NDArray[np.float32] = read_plane(frame, index).astype(np.float32)
    return values / np.float32(2 ** (frame.format.components[index].bits - 8))


def _sampled(container: InputContainer, stream: VideoStream, pulse: Pulse) -> Iterator[VideoFrame]:
    """The frames at the places, none twice; a place that does not decode is passed over."""
    time_base = stream.time_base or Fraction(1)
    first, duration = stream.start_time or 0, stream.duration
    if duration is None and container.duration is not None:
        # Matroska counts from 0, wherever its first frame lies.
        duration = int(Fraction(container.duration, 1_000_000) / time_base) - max(0, first)
    last: int | None = None
    decoded = itertools.count(1)
    for places in _by_key_frame(container, stream, sample_places(first, duration)):
        for frame in _run(container, stream, places, lambda: pulse.beat(frames=next(decoded))):
            if frame.pts is not None and (last is None or frame.pts > last):
                last = frame.pts
                yield frame


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
) -> Iterator[VideoFrame]:
    """The frames from each place on; where the video ends before a place, its last one."""
    waiting, given = list(places), 0
    before: VideoFrame | None = None
    try:
        container.seek(places[0], stream=stream, backward=True)
        packets = itertools.islice(container.demux(stream), _MOST_PACKETS)
        # Where one does not decode, later ones may.
        for number, frame in enumerate(frame for packet in packets for frame in decode_tolerantly(packet)):
            decoded()
            at_its_end = number >= LONGEST_RUN
            if frame.pts is None or frame.is_corrupt:
                continue
            if frame.pts < waiting[0] and not at_its_end:
                before = frame
                continue
            before = None
            given += 1
            yield frame
            if given == FRAMES_PER_PLACE:
                waiting, given = [place for place in waiting if place > frame.pts], 0
                if at_its_end or not waiting:
                    return
    except av.error.FFmpegError:
        return
    if before is not None:
        yield before
