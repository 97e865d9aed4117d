"""Angles and scales by polynomials: additions and multiplications round alike on every processor, a libm's functions do not."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: ticks of a pixel in files of motion and paths, and of a radian, of a logarithm of scale and of a factor
PIXEL_TICKS: Final = 1 << 16
UNIT_TICKS: Final = 1 << 30

#: largest turn of one frame to the next, in radians, and largest change of size that is believed
MOST_TURN: Final = 0.3
MOST_GROWTH: Final = 1.25

_ATAN_TERMS: Final = 16
_LOG_TERMS: Final = 12
_TRIGONOMETRY_TERMS: Final = 8


def arc_tangent(tangent: float) -> float:
    """Give the angle of a tangent between -0.4 and 0.4."""
    square, power, total = tangent * tangent, tangent, 0.0
    for term in range(_ATAN_TERMS):
        total += power / (2 * term + 1) * (-1 if term % 2 else 1)
        power *= square
    return total


def logarithm(value: float) -> float:
    """Give the natural logarithm of a value between 0.5 and 2."""
    ratio = (value - 1) / (value + 1)
    square, power, total = ratio * ratio, ratio, 0.0
    for term in range(_LOG_TERMS):
        total += power / (2 * term + 1)
        power *= square
    return 2 * total


def sine_and_cosine(angles: Array) -> tuple[Array, Array]:
    """Give both of angles between -1 and 1."""
    square = angles * angles
    sine, cosine = angles.copy(), np.ones_like(angles)
    sine_term, cosine_term = angles.copy(), np.ones_like(angles)
    for term in range(1, _TRIGONOMETRY_TERMS):
        cosine_term = -cosine_term * square / ((2 * term - 1) * (2 * term))
        sine_term = -sine_term * square / ((2 * term) * (2 * term + 1))
        sine, cosine = sine + sine_term, cosine + cosine_term
    return sine, cosine


def exponential(values: Array) -> Array:
    """Give e to the power of values between -1 and 1."""
    total, power = np.ones_like(values), np.ones_like(values)
    for term in range(1, 2 * _TRIGONOMETRY_TERMS):
        power = power * values / term
        total = total + power
    return total


def ticks_of(values: Array, ticks: int) -> NDArray[np.int64]:
    """Round to whole ticks, halves to even."""
    rounded: NDArray[np.int64] = np.rint(values * ticks).astype(np.int64)
    return rounded
