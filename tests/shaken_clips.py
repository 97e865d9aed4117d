"""Clips of a window that moves over a large still picture in a known way."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from frame_pictures import fill_plane
from videoprocess_server.media.stabilise.exact_cv2 import exact_cv2

Array = NDArray[np.float64]


@cache
def large_picture(height: int, width: int, seed: int = 7) -> NDArray[np.float32]:
    """Texture of all sizes with hard edges: code values 16 to 235."""
    cv2, rng = exact_cv2(), np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for cell in (128, 64, 32, 16, 8):
        grid = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * cell**0.4
    for _ in range(width * height // 4000):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        total[y : y + int(rng.integers(4, 24)), x : x + int(rng.integers(4, 24))] += rng.uniform(-6, 6)
    return np.clip(126 + total * (90 / np.abs(total).max()) * 2, 16, 235)


def window(
    size: tuple[int, int], x: float = 0, y: float = 0, turn: float = 0, growth: float = 0, seed: int = 7
) -> NDArray[np.float32]:
    """What a camera sees whose picture is moved by x, y pixels, turned and grown."""
    cv2, (width, height) = exact_cv2(), size
    picture = large_picture(height * 2, width * 3, seed)
    a, b = np.exp(growth) * np.cos(turn), np.exp(growth) * np.sin(turn)
    from_x, from_y = (picture.shape[1] - 1) / 2, (picture.shape[0] - 1) / 2
    matrix = np.array(
        [
            [a, -b, x + (width - 1) / 2 - a * from_x + b * from_y],
            [b, a, y + (height - 1) / 2 - b * from_x - a * from_y],
        ]
    )
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC)


def hand_held(frames: int, most_px: float, seed: int = 1, rate: float = 30) -> Array:
    """Rows of x, y, turn and growth: sums of sines of 1 to 8 Hz, up to about `most_px`."""
    rng, seconds = np.random.default_rng(seed), np.arange(frames) / rate
    rows = np.zeros((4, frames))
    for row, most in enumerate((most_px, most_px, 0.006, 0.002)):
        for hertz in (1.1, 2.3, 3.7, 5.9, 7.7):
            rows[row] += most / hertz * np.sin(2 * np.pi * (hertz * seconds + rng.uniform()))
    return rows


def write_shaken(
    path: Path,
    rows: Array,
    *,
    size: tuple[int, int] = (320, 192),
    pix_fmt: str = "yuv420p",
    gop: int = 15,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 30),
    seeds: Sequence[int] | None = None,
) -> Path:
    """Write a clip; seeds are of each frame's scene."""
    options = {"crf": "10", "preset": "veryfast", "g": str(gop), "keyint_min": str(gop), "sc_threshold": "0"}
    with av.open(str(path), "w") as out:
        stream = cast("Any", out.add_stream("libx264", rate=round(1 / time_base), options=options))
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        for number in range(rows.shape[1]):
            luma = window(size, *rows[:, number], seed=7 if seeds is None else seeds[number])
            frame = VideoFrame(*size, pix_fmt)
            ten = "10" in pix_fmt
            for plane in frame.planes:
                values = luma if plane.width == size[0] else 80 + luma[::2, ::2] / 3
                fill_plane(plane, values.astype(np.float64) * (4 if ten else 1), ten=ten)
            frame.pts = number if pts is None else pts[number]
            frame.time_base = time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path
