"""Pictures that carry their number as black and white blocks, readable after encoding, scaling and filtering.

Two rows of 16 blocks lie along the top of the picture: the number in binary, most significant bit first, and below it
its complement. Reading compares a block with the one below, so neither range nor brightness matters. The rest of the
picture is a smooth random texture that moves, so that a denoiser has something to keep.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

BITS = 16


def draw_frame(
    number: int,
    width: int,
    height: int,
    pix_fmt: str = "yuv420p",
    *,
    flash: bool = False,
    noise_sigma: float = 0.0,
    movement: float = 2.0,
) -> VideoFrame:
    """Makes one picture with `number` drawn into it; noise is seeded by the number."""
    frame = VideoFrame(width, height, pix_fmt)
    ten = "10" in pix_fmt
    rng = np.random.default_rng(number)
    row, column = code_block(width, height)
    for index, plane in enumerate(frame.planes):
        moved = int(number * movement * plane.width / width)
        values = 128 + (_texture(plane.height, plane.width * 2, index) * (40 if index == 0 else 25))
        values = np.roll(values, moved, axis=1)[:, : plane.width]
        if index == 0:
            if flash:
                values[:] = 235
            for bit in range(BITS):
                white = bool(number >> (BITS - 1 - bit) & 1)
                values[:row, bit * column : (bit + 1) * column] = 220 if white else 30
                values[row : 2 * row, bit * column : (bit + 1) * column] = 30 if white else 220
        if noise_sigma:
            values = values + rng.normal(0.0, noise_sigma, values.shape)
        fill_plane(plane, values * 4 if ten else values, ten=ten)
    return frame


def fill_plane(plane: Any, values: NDArray[np.float64], *, ten: bool) -> None:
    """Rounds `values` into the plane's own line size."""
    kind = np.dtype(np.uint16 if ten else np.uint8)
    lines = np.zeros((plane.height, plane.line_size // kind.itemsize), dtype=kind)
    lines[:, : plane.width] = np.clip(np.rint(values), 0, 1023 if ten else 255)
    plane.update(lines.tobytes())


def plane_values(frame: VideoFrame, index: int) -> NDArray[np.float64]:
    """The code values of one plane, as they are stored."""
    plane = frame.planes[index]
    ten = frame.format.components[0].bits > 8
    kind = np.dtype(np.uint16 if ten else np.uint8)
    lines = np.frombuffer(memoryview(plane), dtype=kind).reshape(
        plane.height, plane.line_size // kind.itemsize
    )
    values: NDArray[np.float64] = lines[:, : plane.width].astype(np.float64)
    return values


def code_block(width: int, height: int) -> tuple[int, int]:
    """Height and width in pixels of one block of the frame number."""
    return max(8, height // 12), width // BITS


def frame_number(frame: VideoFrame) -> int:
    """Reads the number drawn into a picture.

    Raises:
        ValueError: the picture carries none.
    """
    values = plane_values(frame, 0)
    row, column = code_block(frame.width, frame.height)
    full = 2 ** frame.format.components[0].bits
    number = 0
    for bit in range(BITS):
        columns = slice(bit * column + column // 4, (bit + 1) * column - column // 4)
        above = values[row // 4 : row - row // 4, columns].mean()
        below = values[row + row // 4 : 2 * row - row // 4, columns].mean()
        if abs(above - below) < full / 4:
            raise ValueError(f"block {bit} is neither black nor white: {above} over {below}")
        number = number << 1 | int(above > below)
    return number


@cache
def _texture(height: int, width: int, seed: int) -> NDArray[np.float64]:
    """Values about -1 to 1 with a falling spectrum, periodic from left to right."""
    rng = np.random.default_rng(1000 + seed)
    total = np.zeros((height, width))
    for cell in (64, 32, 16, 8):
        grid = rng.uniform(-1, 1, (height // cell + 2, max(1, width // cell)))
        rows = np.linspace(0, grid.shape[0] - 1.001, height)
        columns = np.arange(width) * grid.shape[1] / width
        r, c = rows.astype(int), columns.astype(int)
        fr, fc = (rows - r)[:, None], (columns - c)[None, :]
        right = (c + 1) % grid.shape[1]
        top = grid[r][:, c] * (1 - fc) + grid[r][:, right] * fc
        bottom = grid[r + 1][:, c] * (1 - fc) + grid[r + 1][:, right] * fc
        total += (top * (1 - fr) + bottom * fr) * cell / 120
    return total
