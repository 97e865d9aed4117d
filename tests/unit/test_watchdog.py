from __future__ import annotations

import pytest

from contract.sample_tasks import script
from videoprocess_server.execution.codec import Heartbeat
from videoprocess_server.execution.places import Places
from videoprocess_server.execution.stopwatch import Stopwatch
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.execution.watchdog import NoProgressError, SilentError, Watchdog
from videoprocess_server.model.tasks import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Worker:
    def stop(self) -> None: ...

    def freeze(self) -> bool:
        return True

    def thaw(self) -> None: ...

    def resident_bytes(self) -> int:
        return 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(clock: Clock) -> TaskRun:
    """A running task that may stand 10 s."""
    places: Places[TaskRun] = Places(1, lambda: None)
    run = TaskRun(script(), None, 10.0, None, places, running=Stopwatch(clock))
    run.queue()
    assert places.take() is run
    assert run.begin(Worker())
    return run


@pytest.fixture
def watchdog(run: TaskRun) -> Watchdog:
    """Of a worker that may be silent for 4 s."""
    return Watchdog(run, 4.0)


def test_silence_is_found_after_its_time(watchdog: Watchdog, clock: Clock) -> None:
    clock.now += 3
    assert watchdog.patience() == 1
    clock.now += 1
    with pytest.raises(SilentError):
        watchdog.patience()


def test_heartbeats_break_the_silence_and_are_no_progress(watchdog: Watchdog, clock: Clock) -> None:
    for _ in range(9):
        clock.now += 1
        watchdog.hear(Heartbeat())
    assert watchdog.patience() == 1
    clock.now += 1
    with pytest.raises(NoProgressError):
        watchdog.patience()


@pytest.mark.parametrize(
    ("counts", "stalls"),
    [((5, 5), True), ((6, 5), False), ((5, 6), False), ((4, 4), True), ((0, 0), True)],
)
def test_progress_is_what_advances(
    watchdog: Watchdog, clock: Clock, counts: tuple[int, int], stalls: bool
) -> None:
    watchdog.hear(Progress(frames=5, bytes=5))
    clock.now += 9
    watchdog.hear(Progress(frames=counts[0], bytes=counts[1]))
    clock.now += 2
    if stalls:
        with pytest.raises(NoProgressError):
            watchdog.patience()
    else:
        assert watchdog.patience() == 2


def test_counts_may_begin_anew(watchdog: Watchdog, clock: Clock) -> None:
    watchdog.hear(Progress(frames=500, bytes=0))
    clock.now += 3
    watchdog.hear(Progress(frames=0, bytes=0))
    for frames in range(1, 5):
        clock.now += 3
        watchdog.hear(Progress(frames=frames, bytes=0))
    assert watchdog.patience() == 4


def test_frozen_time_does_not_count(watchdog: Watchdog, clock: Clock, run: TaskRun) -> None:
    clock.now += 3
    run.freeze()
    clock.now += 1000
    assert watchdog.patience() > 0
    run.thaw()
    assert watchdog.patience() == 1
    clock.now += 1
    with pytest.raises(SilentError):
        watchdog.patience()


def test_the_receivers_time_does_not_count(watchdog: Watchdog, clock: Clock) -> None:
    watchdog.hear(Heartbeat())
    clock.now += 50
    watchdog.excuse(50)
    assert watchdog.patience() == 4
