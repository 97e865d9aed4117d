from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.model.leases import next_run
from videoprocess_server.model.plan import SegmentPlan

WORKERS = st.integers(1, 16)


@st.composite
def _plans(draw: st.DrawFn) -> tuple[SegmentPlan, ...]:
    """GOPs of one to six segments each."""
    segments: list[SegmentPlan] = []
    for size in draw(st.lists(st.integers(1, 6), min_size=1, max_size=6)):
        gop = len(segments)
        segments += [_segment(gop + place, gop) for place in range(size)]
    return tuple(segments)


def _segment(index: int, decode_from_pts: int) -> SegmentPlan:
    return SegmentPlan(
        index=index,
        start_pts=index,
        end_pts=index + 1,
        decode_from_pts=decode_from_pts,
        source_frame_count=1,
        frame_count=1,
        enhanced=True,
    )


@dataclass(frozen=True)
class Case:
    segments: tuple[SegmentPlan, ...]
    waiting: frozenset[int]


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    segments = draw(_plans())
    return Case(segments, draw(st.frozensets(st.sampled_from(range(len(segments))))))


@given(_cases(), WORKERS)
def test_a_run_is_of_waiting_neighbours_that_decode_from_one_key_frame(case: Case, workers: int) -> None:
    run = next_run(case.segments, set(case.waiting), workers)
    indices = [segment.index for segment in run]
    assert bool(run) == bool(case.waiting)
    assert set(indices) <= case.waiting
    assert indices == [*range(indices[0], indices[0] + len(indices))] if indices else True
    assert len({segment.decode_from_pts for segment in run}) <= 1


@given(_cases(), WORKERS)
def test_a_run_begins_with_the_first_waiting_segment_and_is_a_workers_share_at_most(
    case: Case, workers: int
) -> None:
    run = next_run(case.segments, set(case.waiting), workers)
    if not run:
        return
    assert run[0].index == min(case.waiting)
    gop = sum(segment.decode_from_pts == run[0].decode_from_pts for segment in case.segments)
    assert len(run) <= -(-gop // workers)


@given(_cases(), WORKERS)
def test_taking_runs_until_none_is_left_takes_every_waiting_segment_once(case: Case, workers: int) -> None:
    waiting = set(case.waiting)
    taken: list[int] = []
    while run := next_run(case.segments, waiting, workers):
        taken += [segment.index for segment in run]
        waiting -= {segment.index for segment in run}
    assert taken == sorted(case.waiting)


def test_one_worker_takes_a_whole_gop_and_two_share_it() -> None:
    segments = tuple(_segment(index, 0) for index in range(5))
    assert len(next_run(segments, set(range(5)), 1)) == 5
    assert [segment.index for segment in next_run(segments, set(range(5)), 2)] == [0, 1, 2]
    assert [segment.index for segment in next_run(segments, {3, 4}, 2)] == [3, 4]


def test_a_gap_ends_a_run() -> None:
    segments = tuple(_segment(index, 0) for index in range(4))
    assert [segment.index for segment in next_run(segments, {0, 2, 3}, 1)] == [0]
