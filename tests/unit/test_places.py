"""Places, lines, and the states of tasks in them, with workers that only count."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from contract.sample_tasks import script
from videoprocess_server.execution.executor import TaskCancelledError, TaskFailedError
from videoprocess_server.execution.places import Places
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.model.tasks import EncodeResult

RESULT = EncodeResult(segments=(), cpu_seconds=0.0)


class Crowd:
    """How many workers go about their tasks now, and at most did."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def change(self, by: int) -> None:
        with self._lock:
            self.now += by
            self.most = max(self.most, self.now)


class CountingWorker:
    """A TaskWorker; whoever freezes or thaws it twice in a row, or works with it stopped, has made a mistake."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self.frozen = False
        self.stopped = False

    def stop(self) -> None:
        assert not self.stopped
        self.stopped = True

    def freeze(self) -> bool:
        assert not self.frozen
        assert not self.stopped
        self.frozen = True
        self._crowd.change(-1)
        return True

    def thaw(self) -> None:
        assert self.frozen
        self.frozen = False
        self._crowd.change(1)

    def resident_bytes(self) -> int:
        return 7


class Hall:
    """Places whose tasks are begun and ended by hand."""

    def __init__(self, count: int) -> None:
        self.crowd = Crowd()
        self.places: Places[TaskRun] = Places(count, lambda: None)

    def submit(self) -> TaskRun:
        run = TaskRun(script(), None, 1.0, None, self.places)
        run.queue()
        return run

    def begin_next(self) -> tuple[TaskRun, CountingWorker] | None:
        run = self.places.take()
        if run is None:
            return None
        worker = CountingWorker(self.crowd)
        self.crowd.change(1)
        if run.begin(worker):
            return run, worker
        self.crowd.change(-1)
        self.places.give_back()
        self.places.grant()
        return None

    def end(self, run: TaskRun, worker: CountingWorker) -> None:
        wanted = run.settle()
        if not worker.frozen:
            self.crowd.change(-1)
        if run.holds_place:
            self.places.give_back()
        self.places.grant()
        run.finish(RESULT if wanted else TaskCancelledError("cancelled"))


def test_queued_tasks_are_taken_in_order_while_there_are_places() -> None:
    hall = Hall(2)
    runs = [hall.submit() for _ in range(3)]
    assert hall.places.takeable() == 2
    assert [hall.places.take(), hall.places.take(), hall.places.take()] == [runs[0], runs[1], None]


def test_the_head_is_what_would_be_taken_next() -> None:
    hall = Hall(1)
    assert hall.places.head() is None
    runs = [hall.submit() for _ in range(2)]
    assert hall.places.head() is runs[0]
    assert hall.places.take() is runs[0]
    assert hall.places.head() is runs[1]
    runs[1].cancel()
    assert hall.places.head() is None


def test_thawed_tasks_come_back_in_order_of_their_thaws() -> None:
    hall = Hall(1)
    begun = []
    for _ in range(3):
        hall.submit()
        entry = hall.begin_next()
        assert entry is not None
        begun.append(entry)
        entry[0].freeze()
    for index in (1, 2, 0):
        begun[index][0].thaw()
    order = []
    for _ in range(3):
        (run, worker), *_ = [entry for entry in begun if not entry[1].frozen and not entry[0].done()]
        order.append(begun.index((run, worker)))
        hall.end(run, worker)
    assert order == [1, 2, 0]


def test_a_task_that_ended_while_it_stood_still_has_given_its_place_back_once() -> None:
    hall = Hall(1)
    hall.submit()
    entry = hall.begin_next()
    assert entry is not None
    entry[0].freeze()
    entry[0].thaw()
    entry[0].freeze()
    assert hall.places.free == 1
    hall.end(*entry)
    assert hall.places.free == 1
    entry[0].thaw()
    assert hall.places.free == 1


def test_a_refused_task_leaves_its_line_and_one_that_runs_is_not_refused() -> None:
    hall = Hall(1)
    waiting, other = hall.submit(), hall.submit()
    waiting.refuse(TaskFailedError("NO_WORKER", "none"))
    with pytest.raises(TaskFailedError):
        waiting.result()
    entry = hall.begin_next()
    assert entry is not None
    assert entry[0] is other
    other.refuse(TaskFailedError("NO_WORKER", "none"))
    assert not other.done()


def test_what_was_taken_and_did_not_begin_can_queue_again() -> None:
    hall = Hall(1)
    run = hall.submit()
    assert hall.places.take() is run
    run.queue()
    hall.places.give_back()
    assert hall.places.take() is run


def _work(hall: Hall, runs: list[TaskRun], draw: random.Random) -> None:
    """Begin and end tasks, frozen ones too, until all are done."""
    deadline = time.monotonic() + 20
    mine: list[tuple[TaskRun, CountingWorker]] = []
    while not all(run.done() for run in runs):
        assert time.monotonic() < deadline, "a task was lost"
        entry = hall.begin_next()
        if entry is not None:
            mine.append(entry)
        if mine and draw.random() < 0.3:
            hall.end(*mine.pop(draw.randrange(len(mine))))


def _disturb(runs: list[TaskRun], draw: random.Random) -> None:
    for _ in range(400):
        run = draw.choice(runs)
        draw.choices([run.freeze, run.thaw, run.cancel], [20, 20, 1])[0]()
    for run in runs:
        run.thaw()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_threads_do_places_are_never_exceeded_nor_lost(seed: int) -> None:
    """Two threads work, four freeze, thaw and cancel at random; in the end every task is done and every place free."""
    hall = Hall(3)
    runs = [hall.submit() for _ in range(200)]
    with ThreadPoolExecutor(6) as threads:
        ends = [threads.submit(_work, hall, runs, random.Random(10 * seed + k)) for k in range(2)]
        ends += [threads.submit(_disturb, runs, random.Random(10 * seed + k)) for k in range(2, 6)]
        for end in ends:
            end.result()
    assert (hall.crowd.now, hall.places.free) == (0, 3)
    assert 2 <= hall.crowd.most <= 3
