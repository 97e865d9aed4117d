"""Freezing with real processes: who stands still uses no processor, keeps its work, and dies with the service."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil
import pytest

from contract import executor_harness as harness
from contract.executor_harness import (
    LONG,
    Messages,
    children,
    ended,
    eventually,
    facts,
    new_pool,
    open_descriptors,
    running,
    submit,
)
from videoprocess_server.execution.executor import (
    Slot,
    TaskCancelledError,
    TaskHandle,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.model.tasks import SegmentDone, TaskMessage

#: uses a processor for a second or two, and answers with a number that depends on every step
BUSY = "count:8000000"

FOREVER = f"count:{10**12}"


@pytest.fixture(scope="module", autouse=True)
def _workers_find_the_tests() -> Iterator[None]:
    with harness.workers_find_the_tests():
        yield


@pytest.fixture(autouse=True)
def _cancel_what_is_left() -> Iterator[None]:
    yield
    harness.cancel_what_is_left()


@pytest.fixture(scope="class")
def pool(_workers_find_the_tests: None) -> Iterator[ProcessPoolExecutor]:
    with new_pool(2, backoff_seconds=0.01) as executor:
        yield executor


def worker_of(executor: ProcessPoolExecutor, *steps: str) -> tuple[TaskHandle, psutil.Process]:
    """Submit a task, and wait until it runs and tells who runs it."""
    told: list[str] = []

    def receive(message: TaskMessage) -> None:
        if isinstance(message, SegmentDone):
            told.append(message.path)

    handle = submit(executor, "announce", *steps, on_message=receive)
    assert eventually(lambda: bool(told))
    return handle, psutil.Process(int(told[0]))


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


class TestFreezing:
    def test_a_frozen_worker_stands_still_and_goes_on_where_it_was(self, pool: ProcessPoolExecutor) -> None:
        undisturbed = facts(submit(pool, "announce", BUSY))
        handle, process = worker_of(pool, BUSY)
        time.sleep(0.1)
        handle.freeze()
        states = {
            Path(f"/proc/{process.pid}/task/{thread.id}/stat").read_text().rsplit(")", 1)[1].split()[0]
            for thread in process.threads()
        }
        assert states == {"T"}
        before = cpu_seconds(process)
        time.sleep(0.5)
        assert cpu_seconds(process) == before > 0
        assert handle.resident_bytes() == process.memory_info().rss > 1 << 20
        assert not handle.done()
        handle.thaw()
        assert facts(handle) == undisturbed
        assert handle.resident_bytes() == 0

    def test_a_task_without_a_worker_holds_no_memory(self, pool: ProcessPoolExecutor) -> None:
        busy = [running(pool, LONG), running(pool, LONG)]
        assert submit(pool).resident_bytes() == 0
        assert all(handle.resident_bytes() > 1 << 20 for handle in busy)

    def test_freezing_takes_milliseconds(self, pool: ProcessPoolExecutor) -> None:
        handle, _process = worker_of(pool, FOREVER)
        taken = []
        for _ in range(50):
            begin = time.monotonic()
            handle.freeze()
            taken.append(time.monotonic() - begin)
            handle.thaw()
            time.sleep(0.005)
        taken.sort()
        print(f"freeze: p50 {taken[25] * 1000:.2f} ms, longest {taken[-1] * 1000:.2f} ms")
        assert statistics.median(taken) < 0.05

    @pytest.mark.slow
    def test_a_frozen_worker_is_neither_silent_nor_without_progress(self) -> None:
        with new_pool(1, silence_seconds=1.5) as executor:
            handle = running(executor, "sleep:0.1", "emit:1", "silence:0.3", "emit:5", stall_seconds=0.8)
            handle.freeze()
            time.sleep(2)
            handle.thaw()
            assert handle.result()

    @pytest.mark.slow
    def test_clocks_go_on_where_they_stood(self) -> None:
        with new_pool(1) as executor:
            handle = running(executor, "emit:1", "silence:60", stall_seconds=1.0)
            time.sleep(0.6)
            handle.freeze()
            time.sleep(1.5)
            begin = time.monotonic()
            handle.thaw()
            with pytest.raises(TaskStalledError):
                handle.result()
            # The watchdog of a frozen task looks once a second.
            assert 0.2 < time.monotonic() - begin < 3

    @pytest.mark.slow
    def test_a_large_answer_is_no_worse_for_a_freeze_in_its_middle(self, pool: ProcessPoolExecutor) -> None:
        for step in range(20):
            handle = running(pool, "emit:1", "large:16000000", stall_seconds=5)
            time.sleep(step / 500)
            handle.freeze()
            time.sleep(0.02)
            handle.thaw()
            assert len(facts(handle)[0]) == 16_000_000

    def test_a_frozen_worker_that_is_killed_by_others_is_told(self, pool: ProcessPoolExecutor) -> None:
        handle, process = worker_of(pool, LONG)
        handle.freeze()
        process.kill()
        with pytest.raises(WorkerCrashedError) as caught:
            handle.result()
        assert caught.value.exit_code == -signal.SIGKILL
        handle.thaw()
        for _ in range(4):
            assert submit(pool).result()

    def test_a_frozen_tasks_process_is_gone_when_its_cancel_is_told(self, pool: ProcessPoolExecutor) -> None:
        handle, process = worker_of(pool, LONG)
        handle.freeze()
        begin = time.monotonic()
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result()
        assert time.monotonic() - begin < 0.4
        assert not psutil.pid_exists(process.pid)

    def test_probes_are_frozen_too(self, pool: ProcessPoolExecutor) -> None:
        messages = Messages()
        probe = submit(pool, LONG, slot=Slot.PROBE, on_message=messages.receive)
        messages.wait()
        probe.freeze()
        assert submit(pool, slot=Slot.PROBE).result()
        probe.cancel()


class TestWorkersThereAre:
    def test_a_freeze_alone_starts_no_worker(self) -> None:
        with new_pool(2) as executor:
            for handle in [running(executor, LONG), running(executor, LONG)]:
                handle.freeze()
            time.sleep(0.5)
            assert len(executor.worker_pids()) == 3

    @pytest.mark.slow
    def test_idle_workers_do_not_pile_up(self) -> None:
        with new_pool(2) as executor:
            frozen = []
            for _ in range(3):
                both = [running(executor, LONG), running(executor, LONG)]
                for handle in both:
                    handle.freeze()
                frozen += both
            assert len(executor.worker_pids()) == 1 + 6
            busy = [running(executor, "sleep:1"), running(executor, "sleep:1")]
            for handle in busy:
                handle.result()
            for handle in frozen:
                handle.cancel()
            # for two places, and the prober's
            assert eventually(lambda: len(executor.worker_pids()) == len(children()) == 3)
            time.sleep(0.3)
            assert len(children()) == 3
            assert submit(executor).result()

    @pytest.mark.slow
    def test_a_thaw_sends_idle_workers_away(self) -> None:
        with new_pool(3) as executor:
            frozen = [running(executor, LONG) for _ in range(3)]
            for handle in frozen:
                handle.freeze()
            for handle in [running(executor, "sleep:2") for _ in range(3)]:
                handle.result()
            assert len(executor.worker_pids()) == 7
            for handle in frozen:
                handle.thaw()
            assert eventually(lambda: len(executor.worker_pids()) == 5)


class _Running:
    """Counts, again and again, the workers that have a task and are not stopped."""

    def __init__(self) -> None:
        self.most = 0
        self._pids: dict[int, TaskHandle] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def note(self, pid: int, handle: TaskHandle) -> None:
        self._pids[pid] = handle

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            # Who runs in both looks ran between them.
            count = len(self._look() & self._look())
            self.most = max(self.most, count)

    def _look(self) -> set[int]:
        return {
            pid for pid, handle in list(self._pids.items()) if not handle.done() and _state(pid) not in "TZ"
        }


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


@pytest.mark.slow
def test_never_do_more_run_at_once_than_there_are_places() -> None:
    draw = random.Random(3)
    with new_pool(2, backoff_seconds=0.01) as executor, _Running() as count:
        tasks = []
        for _ in range(6):
            handle, process = worker_of(executor, FOREVER)
            count.note(process.pid, handle)
            tasks.append(handle)
            handle.freeze()
        for _ in range(400):
            handle = draw.choice(tasks)
            (handle.freeze if draw.random() < 0.5 else handle.thaw)()
            time.sleep(draw.random() / 200)
        assert count.most == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_freezes_thaws_and_cancels_from_all_sides_end(seed: int) -> None:
    """200 changes by four threads, to tasks that end meanwhile; in the end all are done and nothing is left."""
    descriptors, threads = open_descriptors(), threading.active_count()
    draw = random.Random(seed)
    with new_pool(2, backoff_seconds=0.01) as executor:
        tasks = [submit(executor, f"sleep:{draw.random() / 5:.3f}", "emit:3") for _ in range(24)]

        def disturb(own: random.Random) -> None:
            for _ in range(50):
                handle = own.choice(tasks)
                change = own.choices([handle.freeze, handle.thaw, handle.cancel], [6, 5, 1])[0]
                change()
                time.sleep(own.random() / 50)

        disturbers = [
            threading.Thread(target=disturb, args=(random.Random(seed * 10 + k),)) for k in range(4)
        ]
        for thread in disturbers:
            thread.start()
        for thread in disturbers:
            thread.join()
        for handle in tasks:
            handle.thaw()
        assert eventually(lambda: all(handle.done() for handle in tasks), 20)
        for handle in tasks:
            try:
                assert handle.result()
            except TaskCancelledError:
                continue
        assert submit(executor).result()
        assert eventually(lambda: len(executor.worker_pids()) <= 4)
        assert eventually(lambda: len(children()) <= 4)
    assert not children()
    assert (open_descriptors(), threading.active_count()) == (descriptors, threads)


@pytest.mark.slow
def test_closing_at_any_instant_leaves_no_frozen_worker() -> None:
    for step in range(8):
        executor = ProcessPoolExecutor(2, worker_module=harness.FAKE_WORKER)
        executor.start()
        tasks = [submit(executor, LONG) for _ in range(6)]

        def disturb(handles: list[TaskHandle] = tasks) -> None:
            for _ in range(20):
                for handle in handles:
                    handle.freeze()
                for handle in handles:
                    handle.thaw()

        thread = threading.Thread(target=disturb)
        thread.start()
        time.sleep(step / 10)
        executor.close()
        thread.join()
        assert all(handle.done() for handle in tasks)
        assert not children()


#: a service of its own: one task frozen, one running, one thawed that waits for the place of two; prints its workers' pids
SERVICE = """
import sys, time
from contract.sample_tasks import script
from videoprocess_server.execution.process_pool import ProcessPoolExecutor

executor = ProcessPoolExecutor(1, worker_module="contract.fake_worker")
executor.start()
handles = []
for _ in range(3):
    seen = []
    handles.append(executor.submit(script("sleep:60"), stall_seconds=60, on_message=seen.append))
    while not seen:
        time.sleep(0.01)
    handles[-1].freeze()
handles[0].thaw()
handles[1].thaw()
print(*executor.worker_pids(), flush=True)
if sys.argv[1] == "falls_off":
    sys.exit()
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["is_killed", "falls_off"])
def test_frozen_workers_die_with_the_service(end: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, end], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as service:
        assert service.stdout is not None
        pids = [int(word) for word in service.stdout.readline().split()]
        if end == "is_killed":
            os.kill(service.pid, signal.SIGKILL)
        service.wait(10)
        assert len(pids) == 4
        assert eventually(lambda: all(ended(pid) for pid in pids), 2)
