from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.engine.progress import PHASE_ENDS, SPEED_WINDOW_SECONDS, ProgressMeter
from videoprocess_server.model.records import Phase

PHASES = [Phase.ANALYZE, Phase.PLAN, Phase.ENHANCE, Phase.JOIN, Phase.VERIFY, Phase.PUBLISH]
SEGMENTS = 4
FRAMES = 10


@given(st.lists(st.integers(0, FRAMES), min_size=1))
def test_percent_never_falls_from_phase_to_phase_while_counts_grow(told: list[int]) -> None:
    meter = ProgressMeter()
    seen = [meter.read(0.0).percent]
    for phase in PHASES:
        meter.enter(phase, FRAMES)
        for frames in sorted(told):
            meter.open_frames("task", frames, 0.0)
            seen.append(meter.read(0.0).percent)
    assert seen == sorted(seen)
    assert 0 <= seen[0] <= seen[-1] <= 100
    assert meter.read(0.0).phase is Phase.PUBLISH


@given(st.permutations(range(SEGMENTS)))
def test_percent_never_falls_while_segments_finish_in_any_order(order: list[int]) -> None:
    meter = ProgressMeter()
    meter.enter(Phase.ENHANCE, SEGMENTS * FRAMES)
    seen = []
    for done, index in enumerate(order, start=1):
        for frames in (1, FRAMES // 2, FRAMES):
            meter.open_frames(index, frames, 0.0)
            seen.append(meter.read(0.0).percent)
        meter.close_task(index)
        meter.segments(done, SEGMENTS, done * FRAMES)
        seen.append(meter.read(0.0).percent)
    assert seen == sorted(seen)
    assert seen[-1] == PHASE_ENDS[Phase.ENHANCE]


def test_frames_are_those_of_finished_segments_and_of_open_ones() -> None:
    meter = ProgressMeter()
    meter.enter(Phase.ENHANCE, 40)
    meter.segments(2, 4, 20)
    meter.open_frames("one", 3, 0.0)
    meter.open_frames("two", 4, 0.0)
    progress = meter.read(0.0)
    assert (progress.frames_done, progress.frames_total) == (27, 40)
    assert (progress.segments_done, progress.segments_total) == (2, 4)


def test_a_worker_that_tells_too_many_frames_is_not_believed() -> None:
    meter = ProgressMeter()
    meter.enter(Phase.VERIFY, 10)
    meter.open_frames("task", 11, 0.0)
    assert meter.read(0.0).frames_done == 10
    assert meter.read(0.0).percent == PHASE_ENDS[Phase.VERIFY]


def test_a_phase_without_frames_stands_where_the_one_before_ended() -> None:
    meter = ProgressMeter()
    meter.enter(Phase.PLAN)
    assert meter.read(0.0).percent == PHASE_ENDS[Phase.ANALYZE]


def test_nothing_has_begun_before_the_first_phase() -> None:
    progress = ProgressMeter().read(0.0)
    assert (progress.phase, progress.percent, progress.fps, progress.eta_seconds) == (
        Phase.NONE,
        0.0,
        0.0,
        None,
    )


def test_speed_is_that_of_the_last_seconds_and_tells_the_time_left() -> None:
    meter = ProgressMeter()
    meter.enter(Phase.ENHANCE, 100)
    for second in range(5):
        meter.open_frames("task", 10 * second, float(second))
    progress = meter.read(4.0)
    assert (progress.fps, progress.eta_seconds) == (10.0, 6.0)


def test_speed_is_unknown_when_nothing_came_lately() -> None:
    meter = ProgressMeter()
    meter.enter(Phase.ENHANCE, 100)
    meter.open_frames("task", 10, 0.0)
    meter.open_frames("task", 20, 1.0)
    progress = meter.read(1.0 + SPEED_WINDOW_SECONDS + 1)
    assert (progress.fps, progress.eta_seconds) == (0.0, None)


def test_where_the_frames_are_not_known_yet_no_end_is_foretold() -> None:
    meter = ProgressMeter()
    meter.enter(Phase.ANALYZE)
    meter.open_frames("task", 10, 0.0)
    meter.open_frames("task", 20, 1.0)
    assert meter.read(1.0).eta_seconds is None
