"""Frame rates: every second frame of a clip is dropped and made up again, and compared with the one that was dropped.

Beside ours: the frame before once more, the mean of both neighbours, and FFmpeg's minterpolate, as it is by default and with an
exhaustive search of seven pixels, which unlike the default does not depend on frames before. SSIM is over windows of 8x8.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from videoprocess_server.media.interpolate.interpolation import Interpolator, Picture
from videoprocess_server.media.planes import read_plane

NAME: Final = "frame_rates"
DEFAULT_CLIPS: Final = ("dog_720p30_10s.mp4", "flower_540p_5s.mp4", "android14_hlg_main10_1080p.mp4")
#: frames of each clip at most, from the middle
MOST_FRAMES: Final = 49
#: goals: at least as good as minterpolate's default on average over the clips it takes, less what is not seen
MOST_WORSE_DB: Final = 0.2
_HALF: Final = Fraction(1, 2)
_WINDOW: Final = 8
_DEFAULT: Final = "mi_mode=mci"
#: of minterpolate: mode of motion estimation and search
_OTHERS: Final = {
    "minterpolate": _DEFAULT,
    "minterpolate, esa 7": f"{_DEFAULT}:mc_mode=aobmc:me_mode=bidir:me=esa:search_param=7",
}

Clip = Sequence[VideoFrame]
Luma = NDArray[Any]


def run(_work: Path, clips: Sequence[Path]) -> dict[str, Any]:
    """Measure each clip.

    Returns:
        For each clip and way PSNR and SSIM of luma, the worst frame's PSNR, and seconds of CPU for a frame that is made up; and
        whether the goal is met.
    """
    measured = {path.name: _measure(path) for path in clips}
    both = [ways for ways in measured.values() if "minterpolate" in ways]
    if both:
        gained = sum(ways["ours"]["psnr_y_db"] - ways["minterpolate"]["psnr_y_db"] for ways in both) / len(
            both
        )
        measured["all"] = {
            "more_db_than_minterpolate": {
                "value": round(gained, 2),
                "goal": f">= {-MOST_WORSE_DB}",
                "met": gained >= -MOST_WORSE_DB,
            }
        }
    return measured


def plot(measured: dict[str, Any], path: Path) -> None:
    """Draw a bar for each way and clip, as PATH.png."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    clips = [name for name in measured if name != "all"]
    ways = list(dict.fromkeys(way for name in clips for way in measured[name]))
    figure, axis = plt.subplots(figsize=(9, 3.2))
    for number, way in enumerate(ways):
        heights = [measured[name].get(way, {}).get("psnr_y_db", 0.0) for name in clips]
        axis.bar(np.arange(len(clips)) + number / (len(ways) + 1), heights, 1 / (len(ways) + 1), label=way)
    axis.set_xticks(np.arange(len(clips)) + 0.4, [Path(name).stem for name in clips], fontsize=7)
    axis.set_ylabel("PSNR Y, dB")
    axis.margins(y=0.18)
    axis.set_ylim(bottom=20)
    axis.legend(fontsize=7, ncols=len(ways))
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=80)
    plt.close(figure)


def _measure(path: Path) -> dict[str, dict[str, float]]:
    frames = _frames(path)
    dropped = [read_plane(frame, 0) for frame in frames[1:-1:2]]
    bits = frames[0].format.components[0].bits
    ways: dict[str, Callable[[Clip], Iterator[Luma]]] = {
        "frame before": lambda kept: (read_plane(frame, 0) for frame in kept[:-1]),
        "mean of both": _means,
        **({name: _minterpolate(how) for name, how in _OTHERS.items()} if _is_plain(frames[0]) else {}),
        "ours": _ours,
    }
    return {name: _figures(way, frames[::2], dropped, bits) for name, way in ways.items()}


def _figures(
    way: Callable[[Clip], Iterator[Luma]], kept: Clip, dropped: Sequence[Luma], bits: int
) -> dict[str, float]:
    began = time.process_time()
    made = list(way(kept))
    seconds = time.process_time() - began
    peak = 2**bits - 1
    psnr = [_psnr(one, other, peak) for one, other in zip(made, dropped, strict=True)]
    ssim = [_ssim(one, other, peak) for one, other in zip(made, dropped, strict=True)]
    return {
        "psnr_y_db": round(sum(psnr) / len(psnr), 2),
        "worst_psnr_y_db": round(min(psnr), 2),
        "ssim_y": round(sum(ssim) / len(ssim), 4),
        "cpu_seconds_a_frame": round(seconds / len(made), 3),
    }


def _frames(path: Path) -> list[VideoFrame]:
    """An odd number of frames from the middle."""
    with av.open(str(path)) as container:
        count = sum(1 for packet in container.demux(video=0) if packet.size)
    begin = max(0, (count - MOST_FRAMES) // 2)
    frames = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= begin:
                frames.append(frame)
            if len(frames) == MOST_FRAMES:
                break
    return frames[: len(frames) - 1 + len(frames) % 2]


def _is_plain(frame: VideoFrame) -> bool:
    """Whether minterpolate takes such frames: 8 bits."""
    return frame.format.name in {"yuv420p", "yuvj420p", "yuv422p", "yuv444p"}


def _means(kept: Clip) -> Iterator[Luma]:
    lumas = [read_plane(frame, 0).astype(np.uint32) for frame in kept]
    return ((one + other + 1) // 2 for one, other in pairwise(lumas))


def _ours(kept: Clip) -> Iterator[Luma]:
    interpolator, pictures = Interpolator(), [Picture.of(frame) for frame in kept]
    for earlier, later in pairwise(pictures):
        yield read_plane(interpolator.between(earlier, later, _HALF), 0)


def _minterpolate(how: str) -> Callable[[Clip], Iterator[Luma]]:
    def made(kept: Clip) -> Iterator[Luma]:
        """On a time line of one frame a second; the last frame comes twice more, or the end is left out."""
        graph = Graph()
        graph.threads = 1
        first = kept[0]
        source = graph.add(
            "buffer",
            video_size=f"{first.width}x{first.height}",
            pix_fmt=first.format.name,
            time_base="1/1",
            pixel_aspect="1/1",
        )
        sink = graph.add("buffersink")
        graph.link_nodes(source, graph.add("minterpolate", f"fps=2:{how}"), sink).configure()
        wanted = {Fraction(2 * number + 1, 2) for number in range(len(kept) - 1)}
        for number, frame in enumerate([*kept, kept[-1], kept[-1], None]):
            if frame is not None:
                copy = VideoFrame(frame.width, frame.height, frame.format.name)
                for plane, other in zip(copy.planes, frame.planes, strict=True):
                    plane.update(_relined(other, plane.line_size))
                copy.pts, copy.time_base = number, Fraction(1)
                frame = copy  # noqa: PLW2901 - whose time is another
            source.push(frame)
            try:
                while True:
                    shown = sink.pull()
                    assert isinstance(shown, VideoFrame)
                    if shown.pts is not None and shown.time_base and shown.pts * shown.time_base in wanted:
                        yield read_plane(shown, 0)
            except (av.error.BlockingIOError, av.error.EOFError):
                pass

    return made


def _relined(plane: VideoPlane, line_size: int) -> bytes:
    """A plane's bytes with other padding."""
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    made = np.zeros((plane.height, line_size), np.uint8)
    shared = min(line_size, plane.line_size)
    made[:, :shared] = lines[:, :shared]
    return made.tobytes()


def _psnr(one: Luma, other: Luma, peak: int) -> float:
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 10 * math.log10(peak**2 / max(error, 1e-9))


def _ssim(one: Luma, other: Luma, peak: int) -> float:
    height, width = (length // _WINDOW * _WINDOW for length in one.shape)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        blocks = values[:height, :width].reshape(height // _WINDOW, _WINDOW, width // _WINDOW, _WINDOW)
        averages: NDArray[np.float64] = blocks.mean(axis=(1, 3))
        return averages

    a, b = one.astype(np.float64), other.astype(np.float64)
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    both = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    return float(
        np.mean(
            (2 * mean_a * mean_b + c1)
            * (2 * both + c2)
            / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        )
    )
