"""How the camera moved from one frame to the next.

Corners of the earlier frame (Shi and Tomasi), spread over the picture, are followed to the later one (Lucas and Kanade, on
a pyramid) and back; points that do not come back are dropped, and a similarity is fitted to the others. Pictures without
corners are compared by phase correlation. Where neither tells anything, the camera is taken to have stood still.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.stabilise.exact_cv2 import exact_cv2
from videoprocess_server.media.stabilise.fixed_point import (
    MOST_GROWTH,
    MOST_TURN,
    PIXEL_TICKS,
    UNIT_TICKS,
    arc_tangent,
    logarithm,
)
from videoprocess_server.media.stabilise.robust_fit import (
    AT_REST,
    NEAR_PIXELS,
    Points,
    Similarity,
    fit_similarity,
)

Luma = NDArray[np.uint8]

#: pixels of the longer side of the picture that is analysed
ANALYSED_PIXELS: Final = 640
#: a smaller picture has no room for the pyramid
_LEAST_PIXELS: Final = 32

#: corners at most, their least distance as a share of the longer side, and the least quality of the best one's
_MOST_CORNERS: Final = 1200
_CORNER_DISTANCE: Final = 1 / 60
_CORNER_QUALITY: Final = 0.0003
_CORNER_BLOCK: Final = 5
#: corners per cell of the grid at most: one that is full of texture must not outvote the others
_GRID: Final = 6
_MOST_PER_CELL: Final = 7
#: variance of luma below which nothing is looked for: a fade, a lens cap
_LEAST_CONTRAST: Final = 2.0

_WINDOW: Final = (17, 17)
_LEVELS: Final = 4
_ITERATIONS: Final = 20
_STEP_PIXELS: Final = 0.01
#: pixels that a point followed there and back may be beside its begin
_MOST_RETURN_PIXELS: Final = 0.5

#: share of corners that must be found again: else those that are may all be of one thing
_LEAST_RETURNED: Final = 1 / 3
#: share of points that must agree, and the one from which not most of the picture need do so
_LEAST_AGREEMENT: Final = 0.25
_LIKELY_AGREEMENT: Final = 0.5
#: pixels that a point at rest may be beside its place, and the least share of points at rest that makes the camera rest,
#: where no motion fits more of them as well: when a camera moves, nothing but what is on its lens stays. Not asked where so
#: many points agree that even a very slow motion is sure
_REST_PIXELS: Final = 0.15
_LEAST_AT_REST: Final = 0.2
_SURE_AGREEMENT: Final = 0.9
#: nor is it asked which fits more of them, where so many rest and the motion is so fast that none can do both
_MANY_AT_REST: Final = 0.3
_FAST_PIXELS: Final = 1.0
#: spread of the points that agree, as a share of width times height (1/12 where they are everywhere), below which they are
#: of one thing
_LEAST_SPREAD: Final = 1 / 50
#: blocks of the picture that say by their difference, with and without the motion, whether it is the camera's: one that
#: differs by so many code values and so much more without it speaks for the motion, and the other way round
_BLOCK: Final = 16
_TELLING_DIFFERENCE: Final = 0.1
_TELLING_SHARE: Final = 0.75
#: of points that agree; beyond it the blocks are not asked
_CLEAR_AGREEMENT: Final = 0.97
#: nor are they where it is so slow: a slow pan over what is out of focus leaves them undecided
_SLOW_PIXELS: Final = 2.0
#: peak of the phase correlation that is believed, of 1
_LEAST_RESPONSE: Final = 0.25
#: histogram distance (share of pixels with another brightness) that, without agreement, makes a cut
_CUT_DISTANCE: Final = 0.35
_HISTOGRAM_BINS: Final = 32


class MotionKind(IntEnum):
    """What is known of the motion between two frames."""

    #: measured
    MEASURED = 0
    #: nothing tells; taken for none
    UNKNOWN = 1
    #: another scene, or the first frame of all
    CUT = 2
    #: measured, but of what may be a thing in the picture: to be believed where it is like what is around
    DOUBTFUL = 3


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Where the picture of the frame before went: turned and grown about its middle, then moved."""

    pts: int
    kind: MotionKind
    #: in 1 / PIXEL_TICKS pixels
    dx: int = 0
    dy: int = 0
    #: clockwise on the screen, in 1 / UNIT_TICKS radians
    turn: int = 0
    #: logarithm of the scale, in 1 / UNIT_TICKS
    growth: int = 0


class MotionMeter:
    """Measures frame after frame; keeps the last one only.

    Args:
        width: of all frames, in pixels.
        height: of all frames.
    """

    def __init__(self, width: int, height: int) -> None:
        self._cv2 = exact_cv2()
        self._scale = max(1.0, max(width, height) / ANALYSED_PIXELS)
        self._size = (max(1, round(width / self._scale)), max(1, round(height / self._scale)))
        self._pixels = (width / self._size[0], height / self._size[1])
        self._before: Luma | None = None

    def measure(self, pts: int, luma: Luma) -> Motion:
        """Measure the motion from the frame before to this one; a first frame is a cut.

        Args:
            pts: of this frame.
            luma: of 8 bits.
        """
        small = self._analysed(luma)
        before, self._before = self._before, small
        if before is None:
            return Motion(pts=pts, kind=MotionKind.CUT)
        found = self._followed(before, small)
        if found is not None and found.is_rest:
            return Motion(pts=pts, kind=MotionKind.MEASURED)
        if found is None or found.agreement < _LEAST_AGREEMENT:
            if self._distance(before, small) > _CUT_DISTANCE:
                return Motion(pts=pts, kind=MotionKind.CUT)
            if found is not None:
                return self._motion(pts, found, MotionKind.DOUBTFUL)
            found = self._shifted(before, small)
        if found is None:
            return Motion(pts=pts, kind=MotionKind.UNKNOWN)
        sure = self._is_the_cameras(found, before, small)
        return self._motion(pts, found, MotionKind.MEASURED if sure else MotionKind.DOUBTFUL)

    def _analysed(self, luma: Luma) -> Luma:
        cv2 = self._cv2
        luma = np.ascontiguousarray(luma)
        if (luma.shape[1], luma.shape[0]) != self._size:
            luma = cv2.resize(luma, self._size, interpolation=cv2.INTER_AREA)
        blurred: Luma = cv2.GaussianBlur(luma, (3, 3), 0)
        return blurred

    def _followed(self, before: Luma, after: Luma) -> Similarity | None:
        points = self._corners(before)
        if points is None:
            return None
        cv2 = self._cv2
        options = {
            "winSize": _WINDOW,
            "maxLevel": _LEVELS - 1,
            "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, _STEP_PIXELS),
        }
        there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, **options)
        back, returned, _ = cv2.calcOpticalFlowPyrLK(
            after, before, there, points.copy(), flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **options
        )
        beside = np.square(back - points).sum(axis=2)[:, 0]
        good = (found[:, 0] == 1) & (returned[:, 0] == 1) & (beside < _MOST_RETURN_PIXELS**2)
        middle = np.array([(self._size[0] - 1) / 2, (self._size[1] - 1) / 2])
        start, end = points[good, 0].astype(np.float64) - middle, there[good, 0].astype(np.float64) - middle
        fit = fit_similarity(start, end)
        if fit is None:
            return None
        if self._rests(fit, start, end):
            return AT_REST
        believed = len(start) >= _LEAST_RETURNED * len(points) and self._spreads(fit, start, end)
        return fit if believed else replace(fit, agreement=0.0)

    def _rests(self, fit: Similarity, start: Points, end: Points) -> bool:
        """Tell whether no motion explains the points as well as the one that was found."""
        if fit.agreement >= _SURE_AGREEMENT:
            return False
        at_rest, moved = (
            np.maximum(0.0, 1.0 - each.squared_errors(start, end) / _REST_PIXELS**2)
            for each in (AT_REST, fit)
        )
        share, is_fast = float((at_rest > 0).mean()), max(abs(fit.dx), abs(fit.dy)) > _FAST_PIXELS
        if share >= _MANY_AT_REST and is_fast:
            return True
        return share >= _LEAST_AT_REST and float(at_rest.sum()) >= float(moved.sum())

    def _spreads(self, fit: Similarity, start: Points, end: Points) -> bool:
        """Tell whether the points that agree lie over the picture."""
        agree = start[fit.squared_errors(start, end) < NEAR_PIXELS**2]
        if len(agree) < 2:
            return False
        spread = float(np.sqrt(agree.var(axis=0).prod()))
        return spread >= _LEAST_SPREAD * self._size[0] * self._size[1]

    def _corners(self, luma: Luma) -> NDArray[np.float32] | None:
        """Find corners, the best of each cell of a grid; None where there are none."""
        cv2, (width, height) = self._cv2, self._size
        if min(width, height) < _LEAST_PIXELS or float(luma.var(dtype=np.float64)) < _LEAST_CONTRAST:
            return None
        distance = max(4.0, max(width, height) * _CORNER_DISTANCE)
        corners = cv2.goodFeaturesToTrack(
            luma, _MOST_CORNERS, _CORNER_QUALITY, distance, blockSize=_CORNER_BLOCK
        )
        if corners is None:
            return None
        columns = np.minimum(corners[:, 0, 0].astype(np.int64) * _GRID // width, _GRID - 1)
        rows = np.minimum(corners[:, 0, 1].astype(np.int64) * _GRID // height, _GRID - 1)
        seen = np.zeros(_GRID * _GRID, np.int64)
        kept = []
        for index, cell in enumerate(rows * _GRID + columns):  # best first
            seen[cell] += 1
            if seen[cell] <= _MOST_PER_CELL:
                kept.append(index)
        chosen: NDArray[np.float32] = corners[kept]
        return chosen

    def _distance(self, before: Luma, after: Luma) -> float:
        """Share of the pixels whose brightness is another one's."""
        counts = [
            np.bincount(luma.ravel() >> 3, minlength=_HISTOGRAM_BINS).astype(np.int64)
            for luma in (before, after)
        ]
        return float(np.abs(counts[0] - counts[1]).sum()) / (2 * before.size)

    def _shifted(self, before: Luma, after: Luma) -> Similarity | None:
        """Give the shift that phase correlation finds, where it has a clear peak."""
        cv2, (width, height) = self._cv2, self._size
        if (
            min(width, height) < _LEAST_PIXELS
            or min(float(luma.var(dtype=np.float64)) for luma in (before, after)) < _LEAST_CONTRAST
        ):
            return None
        window = cv2.createHanningWindow((width, height), cv2.CV_32F)
        (dx, dy), response = cv2.phaseCorrelate(before.astype(np.float32), after.astype(np.float32), window)
        if response < _LEAST_RESPONSE:
            return None
        return Similarity(1.0, 0.0, dx, dy, agreement=response)

    def _is_the_cameras(self, found: Similarity, before: Luma, after: Luma) -> bool:
        """Tell whether more of the picture moved so than stood still: corners may all be on a car that passes."""
        slow = max(abs(found.dx), abs(found.dy)) < _SLOW_PIXELS and found.agreement >= _LIKELY_AGREEMENT
        if found.agreement >= _CLEAR_AGREEMENT or slow:
            return True
        cv2, (width, height) = self._cv2, self._size
        x, y = (width - 1) / 2, (height - 1) / 2
        turned = np.array(
            [
                [found.a, -found.b, found.dx + x - found.a * x + found.b * y],
                [found.b, found.a, found.dy + y - found.b * x - found.a * y],
            ]
        )
        moved = cv2.warpAffine(before, turned, (width, height), flags=cv2.INTER_LINEAR)
        covered = cv2.warpAffine(np.ones_like(before), turned, (width, height), flags=cv2.INTER_NEAREST)
        inside = _block_sums(covered) == _BLOCK * _BLOCK
        still = _block_sums(cv2.absdiff(before, after))[inside]
        carried = _block_sums(cv2.absdiff(moved, after))[inside]
        telling = np.abs(still - carried) > _TELLING_DIFFERENCE * _BLOCK * _BLOCK
        for_motion = telling & (carried < still * _TELLING_SHARE)
        against = telling & (still < carried * _TELLING_SHARE)
        speaks_for, speaks_against = int(for_motion.sum()), int(against.sum())
        if found.agreement >= _LIKELY_AGREEMENT:
            return speaks_for >= speaks_against
        return speaks_for >= max(3 * speaks_against, len(still) / 2)

    def _motion(self, pts: int, found: Similarity, kind: MotionKind) -> Motion:
        """Put a similarity of the analysed picture into ticks of the frame's pixels."""
        square = found.a * found.a + found.b * found.b
        tangent = found.b / found.a if found.a > 0 else 1.0
        if abs(tangent) > MOST_TURN or not 1 / MOST_GROWTH**2 < square < MOST_GROWTH**2:
            return Motion(pts=pts, kind=MotionKind.UNKNOWN)
        dx, dy = found.dx * self._pixels[0], found.dy * self._pixels[1]
        if abs(dx) > self._size[0] * self._pixels[0] / 2 or abs(dy) > self._size[1] * self._pixels[1] / 2:
            return Motion(pts=pts, kind=MotionKind.UNKNOWN)
        return Motion(
            pts=pts,
            kind=kind,
            dx=round(dx * PIXEL_TICKS),
            dy=round(dy * PIXEL_TICKS),
            turn=round(arc_tangent(tangent) * UNIT_TICKS),
            growth=round(logarithm(square) / 2 * UNIT_TICKS),
        )


def _block_sums(luma: Luma) -> NDArray[np.int64]:
    """Add up whole blocks; what is left at the right and below is not looked at."""
    rows, columns = luma.shape[0] // _BLOCK, luma.shape[1] // _BLOCK
    blocks = luma[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    sums: NDArray[np.int64] = blocks.sum(axis=(1, 3), dtype=np.int64)
    return sums
