"""The order of chunks in a file: by decode time, and where a track tells none as the camera wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.iso.layout import Run
from videoprocess_server.media.iso.samples import Ticks


def with_times(runs: Sequence[Run], offset: Ticks, seconds: NDArray[np.float64]) -> list[Run]:
    """Give chunks of tracks whose samples all have one time the times of what the source has before them.

    Args:
        runs: one a track.
        offset: where chunks of the replaced picture are in the source.
        seconds: and their decode times.
    """
    timed = [run for run in runs if run.offset is not None and not _is_timeless(run)]
    offsets = np.concatenate([offset, *(run.offset for run in timed if run.offset is not None)])
    times = np.concatenate([seconds, *(run.seconds for run in timed)])
    order = np.argsort(offsets, kind="stable")
    return [
        replace(run, seconds=_times_before(run.offset, offsets[order], times[order]))
        if run.offset is not None and _is_timeless(run) and len(offsets)
        else run
        for run in runs
    ]


def _is_timeless(run: Run) -> bool:
    return len(run.seconds) > 1 and float(run.seconds.min()) == float(run.seconds.max())


def _times_before(offset: Ticks, offsets: Ticks, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The time of the chunk before each, never less than that of the one before in its own track."""
    before = np.searchsorted(offsets, offset, side="right") - 1
    found: NDArray[np.float64] = np.maximum.accumulate(
        np.where(before < 0, 0.0, times[np.maximum(before, 0)])
    )
    return found
