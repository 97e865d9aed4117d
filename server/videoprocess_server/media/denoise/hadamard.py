"""The Walsh-Hadamard transform of overlapping blocks of 4x4 samples.

Blocks begin at every second sample, so each sample is in four of them. Only sums and differences of two numbers: there is
nothing to round differently on another processor.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
#: coefficients of a block; the first is the sum of its samples
COEFFICIENTS: Final = 16
#: samples from one block to the next
STEP: Final = 2
#: what `inverse(forward(x))` is a multiple of x by, where all blocks are there
GAIN: Final = 64


def forward(samples: Plane) -> Plane:
    """Transform samples, not normalised.

    Args:
        samples: 2(n + 1) rows by 2(m + 1) columns.

    Returns:
        16 by n by m.
    """
    even, odd = samples[:, 0::2], samples[:, 1::2]
    across = np.empty((2, *even.shape), np.float32)
    np.add(even, odd, out=across[0])
    np.subtract(even, odd, out=across[1])
    upper, lower = across[:, 0::2], across[:, 1::2]
    quads = np.empty((4, upper.shape[1], upper.shape[2]), np.float32)
    np.add(upper, lower, out=quads[:2])
    np.subtract(upper, lower, out=quads[2:])
    return _pairs(_pairs(quads, 2, 1), 1, 1)


def inverse(coefficients: Plane) -> Plane:
    """Add up what blocks of coefficients stand for: 2(n + 1) rows by 2(m + 1) columns, `GAIN` times the samples."""
    quads = _spread(_spread(coefficients, 1, 1), 2, 1)
    _, rows, columns = quads.shape
    across = np.empty((2, 2 * rows, columns), np.float32)
    np.add(quads[:2], quads[2:], out=across[:, 0::2])
    np.subtract(quads[:2], quads[2:], out=across[:, 1::2])
    samples = np.empty((2 * rows, 2 * columns), np.float32)
    np.add(across[0], across[1], out=samples[:, 0::2])
    np.subtract(across[0], across[1], out=samples[:, 1::2])
    return samples


def forward_dilated(plane: Plane, step: int) -> Plane:
    """Transform the blocks of 4x4 numbers that lie `step` apart, one at every number; 3 * step rows and columns fewer."""
    out = plane[None]
    for axis in (2, 1):
        for distance in (step, 2 * step):
            out = _pairs(out, axis, distance)
    return out


def inverse_dilated(coefficients: Plane, step: int) -> Plane:
    """Add up what dilated blocks stand for: 256 times the numbers where all 16 blocks are there."""
    out = coefficients
    for axis in (1, 2):
        for distance in (2 * step, step):
            out = _spread(out, axis, distance)
    plane: Plane = out[0]
    return plane


def _pairs(planes: Plane, axis: int, distance: int) -> Plane:
    """Sums, then differences, of numbers at a distance."""
    count = planes.shape[0]
    if axis == 1:
        near, far = planes[:, :-distance], planes[:, distance:]
    else:
        near, far = planes[:, :, :-distance], planes[:, :, distance:]
    out = np.empty((2 * count, *near.shape[1:]), np.float32)
    np.add(near, far, out=out[:count])
    np.subtract(near, far, out=out[count:])
    return out


def _spread(planes: Plane, axis: int, distance: int) -> Plane:
    """Turn `_pairs` round: its transpose."""
    count = planes.shape[0] // 2
    sums, differences = planes[:count], planes[count:]
    shape = list(sums.shape)
    shape[axis] += distance
    out = np.zeros(shape, np.float32)
    near = out[:, :-distance] if axis == 1 else out[:, :, :-distance]
    far = out[:, distance:] if axis == 1 else out[:, :, distance:]
    np.add(sums, differences, out=near)
    far += sums
    far -= differences
    return out
