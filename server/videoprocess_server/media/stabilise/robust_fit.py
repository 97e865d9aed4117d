"""Fits how the camera moved to where points went, most of which may be of things that moved by themselves.

Random sample consensus with a fixed seed finds what most points agree on, and iteratively reweighted least squares with
Tukey's biweight make it exact. Sums and products only: the result is the same on every processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: x and y, a row a point, in pixels from the middle of the picture
Points = NDArray[np.float64]

#: pairs of points that are tried; with 40 % of all points right, 1 - (1 - 0.4²)^160 of the fits find them
_TRIALS: Final = 160
_SEED: Final = 20_260_101
#: pixels of the analysed picture that a point may be beside its place and still agree
NEAR_PIXELS: Final = 0.8
#: least and most of Tukey's constant, in pixels, as a multiple of the spread that is left
_TUKEY_SPREADS: Final = 4.685
_LEAST_TUKEY_PIXELS: Final = 0.15
_ROUNDS: Final = 5
#: a median absolute deviation of normal errors is this share of their standard deviation
_NORMAL_MEDIAN: Final = 0.6745
_FEWEST_POINTS: Final = 6


@dataclass(frozen=True)
class Similarity:
    """A point (x, y) goes to (a x - b y + dx, b x + a y + dy)."""

    a: float
    b: float
    dx: float
    dy: float
    #: share of the points that agree
    agreement: float

    @property
    def is_rest(self) -> bool:
        """Whether nothing moves."""
        return self == AT_REST

    def squared_errors(self, before: Points, after: Points) -> Array:
        """Give how far each point went beside where this motion takes it, squared."""
        parameters = (self.a, self.b, self.dx, self.dy)
        return _errors(parameters, before[:, 0], before[:, 1], after[:, 0], after[:, 1])


AT_REST: Final = Similarity(1.0, 0.0, 0.0, 0.0, agreement=1.0)


def fit_similarity(before: Points, after: Points) -> Similarity | None:
    """Fit the motion that most points made.

    Args:
        before: two columns, pixels from the middle of the picture.
        after: the same points later.

    Returns:
        None where there are too few points to tell.
    """
    if len(before) < _FEWEST_POINTS:
        return None
    x, y, u, v = before[:, 0], before[:, 1], after[:, 0], after[:, 1]
    parameters = _consensus(x, y, u, v)
    if parameters is None:
        return None
    near = _errors(parameters, x, y, u, v) < NEAR_PIXELS**2
    weights = near.astype(np.float64)
    for _ in range(_ROUNDS):
        refined = _least_squares(x, y, u, v, weights)
        if refined is None:
            return None
        parameters = refined
        errors = _errors(parameters, x, y, u, v)
        spread = np.sqrt(np.median(errors[near])) / _NORMAL_MEDIAN if near.any() else 0.0
        reach = min(max(_TUKEY_SPREADS * spread, _LEAST_TUKEY_PIXELS), 3 * NEAR_PIXELS)
        weights = np.square(np.maximum(0.0, 1.0 - errors / reach**2))
    agreement = float(np.count_nonzero(_errors(parameters, x, y, u, v) < NEAR_PIXELS**2)) / len(x)
    return Similarity(*parameters, agreement=agreement)


def _consensus(x: Array, y: Array, u: Array, v: Array) -> tuple[float, float, float, float] | None:
    """Find the similarity of two points that most others agree with."""
    chosen = np.random.Generator(np.random.PCG64(_SEED)).integers(0, len(x), (_TRIALS, 2))
    first, second = chosen[:, 0], chosen[:, 1]
    across, down = x[second] - x[first], y[second] - y[first]
    to_across, to_down = u[second] - u[first], v[second] - v[first]
    length = across * across + down * down
    usable = length > NEAR_PIXELS**2
    length = np.where(usable, length, 1.0)
    a = (across * to_across + down * to_down) / length
    b = (across * to_down - down * to_across) / length
    dx = u[first] - a * x[first] + b * y[first]
    dy = v[first] - b * x[first] - a * y[first]
    plausible = usable & (np.abs(a - 1) < 0.3) & (np.abs(b) < 0.3)
    if not plausible.any():
        return None
    errors = np.square(a[:, None] * x - b[:, None] * y + dx[:, None] - u)
    errors += np.square(b[:, None] * x + a[:, None] * y + dy[:, None] - v)
    score = np.where(plausible, np.minimum(errors, NEAR_PIXELS**2).sum(axis=1), np.inf)
    best = int(np.argmin(score))
    return float(a[best]), float(b[best]), float(dx[best]), float(dy[best])


def _errors(parameters: tuple[float, float, float, float], x: Array, y: Array, u: Array, v: Array) -> Array:
    a, b, dx, dy = parameters
    errors: Array = np.square(a * x - b * y + dx - u) + np.square(b * x + a * y + dy - v)
    return errors


def _least_squares(
    x: Array, y: Array, u: Array, v: Array, weights: Array
) -> tuple[float, float, float, float] | None:
    total = float(weights.sum())
    if total < 2.0:
        return None
    middle_x, middle_y = float((weights * x).sum()) / total, float((weights * y).sum()) / total
    middle_u, middle_v = float((weights * u).sum()) / total, float((weights * v).sum()) / total
    x, y, u, v = x - middle_x, y - middle_y, u - middle_u, v - middle_v
    spread = float((weights * (x * x + y * y)).sum())
    if spread <= total * NEAR_PIXELS**2:
        return None
    a = float((weights * (x * u + y * v)).sum()) / spread
    b = float((weights * (x * v - y * u)).sum()) / spread
    return a, b, middle_u - a * middle_x + b * middle_y, middle_v - b * middle_x - a * middle_y
