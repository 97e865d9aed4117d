"""How much a camera shakes: what is left of its motion between frames when its smooth path is taken away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.stabilise.fixed_point import PIXEL_TICKS, UNIT_TICKS
from videoprocess_server.media.stabilise.motion import MotionKind
from videoprocess_server.media.stabilise.records import Records
from videoprocess_server.media.stabilise.smoothing import smoothed

Array = NDArray[np.float64]

#: reach of the parabolas of the smooth path
SMOOTH_REACH_SECONDS: Final = 1.0
#: frames before and after: half of the near ones must be known, too, for a known motion to be believed; a doubtful one must be
#: within so many standard deviations of the far ones, of which so many must be known
_NEAR_FRAMES: Final = 3
_FAR_FRAMES: Final = 15
_FEWEST_FAR: Final = 5
_MOST_DEVIATIONS: Final = 8.0


def scenes(motion: Records) -> Iterator[slice]:
    """Give the runs of frames between cuts; the motion is records of `records.MOTION`."""
    cuts = np.flatnonzero(motion["kind"] == MotionKind.CUT)
    starts = [0, *(int(start) for start in cuts if start), len(motion)]
    for start, end in pairwise(starts):
        if start < end:
            yield slice(start, end)


def camera_path(motion: Records) -> Array:
    """Add up the motion of one scene: rows of x and y in pixels, turn in radians and logarithm of the scale.

    Where it is not known it goes on as before and after: a zero in a pan would be a jump.
    """
    steps = np.stack(
        [
            motion["dx"] / PIXEL_TICKS,
            motion["dy"] / PIXEL_TICKS,
            motion["turn"] / UNIT_TICKS,
            motion["growth"] / UNIT_TICKS,
        ]
    ).astype(np.float64)
    steps[:, :1] = 0.0
    measured = motion["kind"] == MotionKind.MEASURED
    known = _believed(measured)
    # what was measured among much that is not sure is as good as what is doubtful
    known |= (measured | (motion["kind"] == MotionKind.DOUBTFUL)) & _likely(steps, known)
    if not known.any():
        steps[:] = 0.0
    elif not known[1:].all():
        places = np.arange(len(motion), dtype=np.float64)
        for row in steps:
            row[1:] = np.interp(places[1:], places[known], row[known])
    return np.cumsum(steps, axis=1)


def _believed(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out what is known here and there among much that is not: a thing that passes was taken for the camera."""
    (count,) = _around(known, [np.ones(len(known))], _NEAR_FRAMES)
    places = np.arange(len(known))
    # the first frame has no motion
    there = np.minimum(places + _NEAR_FRAMES, len(known) - 1) - np.maximum(places - _NEAR_FRAMES, 1) + 1
    believed: NDArray[np.bool_] = known & (2 * count >= there)
    return believed


def _likely(steps: Array, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which motion is like the known one around it."""
    (count,) = _around(known, [np.ones(len(known))], _FAR_FRAMES)
    means = [total / np.maximum(count, 1.0) for total in _around(known, list(steps), _FAR_FRAMES)]
    squares = _around(known, [row * row for row in steps], _FAR_FRAMES)
    likely = count >= _FEWEST_FAR
    for row, mean, square in zip(steps, means, squares, strict=True):
        variance = np.maximum(square / np.maximum(count, 1.0) - mean * mean, 0.0)
        likely &= np.square(row - mean) <= _MOST_DEVIATIONS**2 * variance
    return likely


def _around(known: NDArray[np.bool_], rows: Sequence[Array], reach: int) -> list[Array]:
    """Add up what is known of each row from so many frames before to so many after."""
    padded = [np.pad(np.where(known, row, 0.0), reach) for row in rows]
    return [
        sum((row[lag : lag + len(known)] for lag in range(2 * reach + 1)), np.zeros(len(known)))
        for row in padded
    ]


def squared_displacement(steps: Array, width: int, height: int) -> Array:
    """Give how far a motion moves the picture's pixels: the mean of the square over all of them."""
    around = (width * width + height * height) / 12
    squared: Array = (
        np.square(steps[0]) + np.square(steps[1]) + (np.square(steps[2]) + np.square(steps[3])) * around
    )
    return squared


def squared_jitter(
    seconds: Array, path: Array, width: int, height: int, reach_seconds: float = SMOOTH_REACH_SECONDS
) -> Array:
    """Give the square, in pixels, of the high-passed motion to each frame from the one before; 0 for the first."""
    shake = path - smoothed(seconds, path, reach_seconds, curved=True)
    squared = np.zeros_like(seconds)
    squared[1:] = squared_displacement(np.diff(shake, axis=1), width, height)
    return squared


def jitter_px(motion: Records, time_base: Fraction, width: int, height: int) -> float:
    """Give the root mean square over frames and pixels of the high-passed motion between frames, in pixels.

    High-passed is what is left when the path, smoothed by local parabolas of ±1 s, is taken away: a pan has none,
    however fast, and hardly any where it begins. Cuts are no motion.

    Args:
        motion: records of `records.MOTION`, in order.
        time_base: seconds of a tick.
        width: of the frames, in pixels.
        height: of the frames.
    """
    total, count = 0.0, 0
    for scene in scenes(motion):
        part = motion[scene]
        squared = squared_jitter(part["pts"] * float(time_base), camera_path(part), width, height)
        total += float(squared.sum())
        count += len(part) - 1
    return float(np.sqrt(total / count)) if count else 0.0
