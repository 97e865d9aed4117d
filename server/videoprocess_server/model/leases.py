"""Which segments a worker takes next. Bytes do not depend on it: only speed does."""

from __future__ import annotations

from collections.abc import Sequence

from videoprocess_server.model.plan import SegmentPlan


def next_run(
    segments: Sequence[SegmentPlan], waiting: set[int], worker_count: int
) -> tuple[SegmentPlan, ...]:
    """Return the run of neighbouring waiting segments a free worker should take; empty if none waits.

    Segments cut inside one GOP decode from the same key frame, so they go to one worker as a run, whose decoder lives on;
    the run is the GOP's share of a worker, so that all workers have some.
    """
    first = next((segment for segment in segments if segment.index in waiting), None)
    if first is None:
        return ()
    gop = [segment for segment in segments if segment.decode_from_pts == first.decode_from_pts]
    share = -(-len(gop) // worker_count)
    run = [first]
    for segment in gop:
        if len(run) >= share:
            break
        if segment.index == run[-1].index + 1 and segment.index in waiting:
            run.append(segment)
    return tuple(run)
