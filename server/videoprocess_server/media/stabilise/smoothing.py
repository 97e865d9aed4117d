"""Smooths series of numbers that have a time each. Sums and products only, so that all processors round alike.

The weight of a neighbour is the triweight (1 - u²)³, which comes near a Gaussian of a third of its reach and ends: what
lies beyond the reach has no influence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: neighbours at each side that are looked at; frames that come faster than 120 a second have a shorter reach
MOST_NEIGHBOURS: Final = 360
#: how far from an end, as a share of the reach, a parabola has become whole: nearer to it, it swings; where the line has more of a say
#: than that, it cuts the corner of a pan that begins soon after a scene does
_WHOLE_PARABOLA: Final = 0.4


def smoothed(
    seconds: Array, values: Array, reach_seconds: float, *, curved: bool = False, straight_ends: bool = False
) -> Array:
    """Smooth by local regression: a weighted line, or a parabola, through what lies around each value.

    A line is followed without lag up to both ends. A parabola follows what accelerates, too; where it has neighbours at one
    side only it swings.

    Args:
        seconds: ascending.
        values: a row a series, a column a time.
        reach_seconds: how far a neighbour may be.
        curved: whether it is a parabola.
        straight_ends: whether a parabola becomes a line towards the ends.
    """
    moments = [np.zeros_like(seconds) for _ in range(5)]
    products = [np.zeros_like(values) for _ in range(3)]
    for here, there, offset in _neighbours(seconds, reach_seconds):
        weight = _triweight(offset)
        power = weight
        for degree in range(5):
            moments[degree][here] += power
            if degree < 3:
                products[degree][:, here] += power * values[:, there]
            power = power * offset
    line = _line(moments, products)
    if not curved:
        return line
    parabola = _parabola(moments, products, line)
    if not straight_ends:
        return parabola
    inside = np.minimum(seconds - seconds[:1], seconds[-1:] - seconds) / reach_seconds
    return line + smooth_step(inside / _WHOLE_PARABOLA) * (parabola - line)


def averaged(seconds: Array, values: Array, reach_seconds: float) -> Array:
    """Give the weighted mean of what lies around each value; never more than the most of it."""
    total, product = np.zeros_like(seconds), np.zeros_like(values)
    for here, there, offset in _neighbours(seconds, reach_seconds):
        weight = _triweight(offset)
        total[here] += weight
        product[here] += weight * values[there]
    mean: Array = product / total
    return mean


def most_around(seconds: Array, values: Array, reach_seconds: float) -> Array:
    """Give the greatest of what lies around each value."""
    most = values.copy()
    for here, there, _ in _neighbours(seconds, reach_seconds):
        most[here] = np.maximum(most[here], values[there])
    return most


def envelope(seconds: Array, values: Array, reach_seconds: float) -> Array:
    """Give a smooth series that is nowhere below the values."""
    above = averaged(seconds, most_around(seconds, values, reach_seconds), reach_seconds)
    return np.maximum(above, values)


def smooth_step(share: Array) -> Array:
    """Rise from 0 at 0 to 1 at 1 with neither a corner nor a bend at both."""
    share = np.clip(share, 0.0, 1.0)
    risen: Array = share * share * share * (share * (share * 6 - 15) + 10)
    return risen


def _neighbours(seconds: Array, reach_seconds: float) -> Iterator[tuple[slice, slice, Array]]:
    """Give all pairs within reach, by how many places lie between: who looks, who is seen, how far away in shares of the reach."""
    count = len(seconds)
    for lag in range(min(MOST_NEIGHBOURS + 1, count)):
        offset = (seconds[lag:] - seconds[: count - lag]) / reach_seconds
        if lag and not (offset < 1).any():
            return
        offset = np.minimum(offset, 1.0)
        yield slice(0, count - lag), slice(lag, count), offset
        if lag:
            yield slice(lag, count), slice(0, count - lag), -offset


def _triweight(offset: Array) -> Array:
    rest = 1.0 - offset * offset
    weight: Array = rest * rest * rest
    return weight


def _line(moments: list[Array], products: list[Array]) -> Array:
    """Value at 0 of the weighted line; the mean where all lies at one time."""
    s0, s1, s2 = moments[:3]
    spread = s0 * s2 - s1 * s1
    usable = spread > 1e-9 * s0 * s0
    sloped = (products[0] * s2 - products[1] * s1) / np.where(usable, spread, 1.0)
    return np.where(usable, sloped, products[0] / s0)


def _parabola(moments: list[Array], products: list[Array], line: Array) -> Array:
    """Value at 0 of the weighted parabola; the line's where too few points tell."""
    s0, s1, s2, s3, s4 = moments
    first, second, third = s2 * s4 - s3 * s3, s1 * s4 - s2 * s3, s1 * s3 - s2 * s2
    spread = s0 * first - s1 * second + s2 * third
    usable = spread > 1e-6 * s0 * s0 * s0
    value = (products[0] * first - products[1] * second + products[2] * third) / np.where(usable, spread, 1.0)
    return np.where(usable, value, line)
