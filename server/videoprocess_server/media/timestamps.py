"""Decode times, rebuilt from presentation times.

An encoder's own decode times cannot be kept: x265 leaves them uninitialised in segments of one or two frames, and x264's
first ones reach back over the seam where the frame rate varies, so that a plain concatenation is not monotonic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def rebuild_dts_array(pts: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Gives every packet a decode time, strictly increasing and never after its presentation time.

    With D the largest distance by which a packet is decoded before its turn of display, dts[k] is the (k - D)th
    presentation time in display order; the first D are `step` apart before the first presentation time.

    Args:
        pts: presentation times in decode order, in ticks, all different.
        step: ticks between the decode times that lie before the first presentation time, at least 1.

    Returns:
        The decode times in the same order and ticks.

    Raises:
        ValueError: two packets have one presentation time, or step is less than 1.
    """
    if step < 1:
        raise ValueError(f"a step of {step} ticks does not increase")
    count = len(pts)
    if count == 0:
        return pts.copy()
    order = np.argsort(pts, kind="stable")
    shown = pts[order]
    if count > 1 and int(np.diff(shown).min()) == 0:
        raise ValueError("two packets have the same presentation time")
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)
    delay = int((np.arange(count) - rank).max())
    dts = np.empty(count, dtype=np.int64)
    dts[delay:] = shown[: count - delay]
    dts[:delay] = shown[0] - step * np.arange(delay, 0, -1)
    return dts


def rebuild_dts(pts_in_decode_order: Sequence[int], step: int) -> list[int]:
    """As `rebuild_dts_array`, for a list.

    Args:
        pts_in_decode_order: presentation times in decode order, in ticks, all different.
        step: ticks between the decode times that lie before the first presentation time, at least 1.

    Returns:
        The decode times in the same order and ticks.

    Raises:
        ValueError: two packets have one presentation time, or step is less than 1.
    """
    return [int(dts) for dts in rebuild_dts_array(np.asarray(pts_in_decode_order, dtype=np.int64), step)]
