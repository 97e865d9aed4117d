"""Clips as planes of code values of 255, noise as cameras make it, and how far two clips are apart."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from frame_pictures import fill_plane, plane_values
from videoprocess_server.media.filters import run_filters

#: of each frame: luma and both colour differences of 4:2:0
Planes = list[NDArray[np.float64]]
TIME_BASE = Fraction(1, 30)


def read_clip(path: Path, frames: int = 16, size: tuple[int, int] = (768, 432)) -> list[Planes]:
    """Reads consecutive frames from the middle of an 8 bit 4:2:0 clip, cut to the middle of the picture."""
    clip: list[Planes] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        skip = max(0, int((stream.frames or 100) * 0.45))
        for number, decoded in enumerate(container.decode(stream)):
            if number < skip:
                continue
            if len(clip) == frames:
                break
            planar = decoded.format.name in {"yuv420p", "yuvj420p"}
            frame = decoded if planar else decoded.reformat(format="yuv420p")
            width, height = min(size[0], frame.width) // 16 * 16, min(size[1], frame.height) // 16 * 16
            x, y = (frame.width - width) // 4 * 2, (frame.height - height) // 4 * 2
            clip.append(
                [
                    plane_values(frame, index)[y // d : (y + height) // d, x // d : (x + width) // d]
                    for index, d in enumerate((1, 2, 2))
                ]
            )
    return clip


def with_noise(clip: Sequence[Planes], sigma: float, bits: int = 8, *, camera: bool = False) -> list[Planes]:
    """Adds Gaussian noise in the frames' bit depth, seeded; the result is in code values of 255.

    Args:
        clip: clean.
        sigma: standard deviation in code values of 255.
        bits: that the result is rounded to.
        camera: whether luma's variance is sigma² (0.4 + 0.6 Y / 128) and chroma's deviation 0.7 sigma, as of a sensor.
    """
    rng = np.random.default_rng(1)
    scale = 2 ** (bits - 8)

    def deviation(plane: NDArray[np.float64], index: int) -> NDArray[np.float64] | float:
        if not camera:
            return sigma
        return sigma * np.sqrt(0.4 + 0.6 * plane / 128) if index == 0 else 0.7 * sigma

    return [
        [
            np.clip(
                np.rint((plane + rng.normal(0, 1, plane.shape) * deviation(plane, index)) * scale),
                0,
                256 * scale - 1,
            )
            / scale
            for index, plane in enumerate(planes)
        ]
        for planes in clip
    ]


def to_frames(clip: Sequence[Planes], bits: int = 8) -> list[VideoFrame]:
    """Makes frames of code values of 255."""
    frames = []
    for number, planes in enumerate(clip):
        height, width = planes[0].shape
        frame = VideoFrame(width, height, "yuv420p" if bits == 8 else "yuv420p10le")
        for plane, values in zip(frame.planes, planes, strict=True):
            fill_plane(plane, values * (1 if bits == 8 else 4), ten=bits == 10)
        frame.pts, frame.time_base = number, TIME_BASE
        frames.append(frame)
    return frames


def enhance(frames: Sequence[VideoFrame], filters: Sequence[str]) -> list[Planes]:
    """Runs a chain as segments do; the result is in code values of 255."""
    stages = (*filters, f"format=pix_fmts={frames[0].format.name}")
    made = list(run_filters(frames, stages, TIME_BASE, ""))
    assert [frame.pts for frame in made] == [frame.pts for frame in frames]
    scale = 2 ** (frames[0].format.components[0].bits - 8)
    return [[plane_values(frame, index) / scale for index in range(3)] for frame in made]


def psnr(clip: Sequence[Planes], clean: Sequence[Planes], plane: int = 0) -> float:
    """Decibels of a plane, capped at 99."""
    error = np.mean([np.mean((a[plane] - b[plane]) ** 2) for a, b in zip(clip, clean, strict=True)])
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))
