"""What only an executor of worker processes can promise."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from contract import executor_harness as harness
from contract.executor_harness import (
    LONG,
    a_source,
    children,
    eventually,
    facts,
    new_pool,
    open_descriptors,
    running,
    submit,
)
from contract.sample_tasks import VIDEO
from videoprocess_server.execution.executor import (
    TaskCancelledError,
    TaskFailedError,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.model.tasks import (
    AnalyzeTask,
)


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
    """One pool for a class: what a test does to it must not harm the next."""
    with new_pool(2, backoff_seconds=0.01) as executor:
        yield executor


class TestWorkerProcesses:
    #: that the pool has
    WORKERS = 3
    #: after which a worker that tells of nothing is killed, where one must not be: it never tells for so long by chance
    STALL_SECONDS = 0.5

    def test_a_crash_is_told_with_its_signal_and_the_next_task_works(self, pool: ProcessPoolExecutor) -> None:
        for name in ("SIGSEGV", "SIGABRT", "SIGKILL"):
            with pytest.raises(WorkerCrashedError) as caught:
                submit(pool, f"signal:{name}").result()
            assert caught.value.exit_code == -signal.Signals[name]
        assert submit(pool).result()

    def test_an_exit_is_told_with_its_code(self, pool: ProcessPoolExecutor) -> None:
        with pytest.raises(WorkerCrashedError) as caught:
            submit(pool, "exit:7").result()
        assert caught.value.exit_code == 7

    def test_a_task_that_does_not_get_on_is_killed(self, pool: ProcessPoolExecutor) -> None:
        begin = time.monotonic()
        with pytest.raises(TaskStalledError):
            submit(pool, "silence:3600", stall_seconds=0.2).result()
        assert 0.2 <= time.monotonic() - begin
        assert submit(pool).result()

    def test_telling_the_same_counts_again_is_no_progress(self, pool: ProcessPoolExecutor) -> None:
        begin = time.monotonic()
        with pytest.raises(TaskStalledError):
            submit(pool, "chatter:3600", stall_seconds=0.5).result()
        assert 0.5 <= time.monotonic() - begin

    def test_progress_keeps_a_worker_alive(self, pool: ProcessPoolExecutor) -> None:
        assert submit(pool, f"sleep:{2 * self.STALL_SECONDS}", stall_seconds=self.STALL_SECONDS).result()

    def test_waiting_is_no_standstill(self, pool: ProcessPoolExecutor) -> None:
        busy = [running(pool, f"sleep:{1.6 * self.STALL_SECONDS}") for _ in range(2)]
        assert submit(pool, "emit:1", stall_seconds=self.STALL_SECONDS).result()
        for handle in busy:
            handle.result()

    def test_a_slow_receiver_is_not_its_workers_fault(self, pool: ProcessPoolExecutor) -> None:
        handle = submit(
            pool,
            "emit:2",
            stall_seconds=self.STALL_SECONDS,
            on_message=lambda _message: time.sleep(1.2 * self.STALL_SECONDS),
        )
        assert handle.result()

    def test_a_cancelled_tasks_process_is_gone_when_that_is_told(self, pool: ProcessPoolExecutor) -> None:
        before = set(pool.worker_pids())
        handle = running(pool, LONG)
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result()
        gone = [pid for pid in before if not psutil.pid_exists(pid)]
        assert len(gone) == 1
        assert eventually(lambda: len(pool.worker_pids()) == self.WORKERS)

    @pytest.mark.slow
    def test_cancels_at_any_instant_hit_no_other_task(self, pool: ProcessPoolExecutor) -> None:
        for step in range(30):
            handle = submit(pool, f"sleep:{step % 3 / 100}")
            time.sleep(step % 5 / 200)
            handle.cancel()
            assert submit(pool).result()
            if not handle.done():
                with pytest.raises(TaskCancelledError):
                    handle.result()

    @pytest.mark.slow
    def test_descriptors_and_processes_are_as_many_after_much_harm(self, pool: ProcessPoolExecutor) -> None:
        for _ in range(3):
            submit(pool).result()
        assert eventually(lambda: len(pool.worker_pids()) == self.WORKERS)
        before, processes = open_descriptors(), len(children())
        for round_ in range(50):
            handle = submit(
                pool, ("emit:3", "stumble", "signal:SIGKILL", "sleep:5")[round_ % 4], source_fd=a_source()
            )
            if round_ % 4 == 3:
                handle.cancel()
            with pytest.raises((TaskFailedError, WorkerCrashedError, TaskCancelledError)):
                raise TaskFailedError("INTERNAL", "fine") if handle.result() else AssertionError
        assert eventually(lambda: len(pool.worker_pids()) == self.WORKERS and open_descriptors() == before)
        assert len(children()) == processes

    def test_a_worker_keeps_no_source_open(self, pool: ProcessPoolExecutor) -> None:
        counts = {facts(submit(pool, "fact:descriptors", source_fd=a_source()))[0] for _ in range(20)}
        assert len(counts) == 1

    def test_an_idle_worker_that_is_killed_is_replaced(self, pool: ProcessPoolExecutor) -> None:
        killed = set(pool.worker_pids())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: len(set(pool.worker_pids()) - killed) == self.WORKERS)
        assert submit(pool).result()

    def test_a_worker_that_drops_its_channel_is_not_waited_for(self, pool: ProcessPoolExecutor) -> None:
        with pytest.raises(WorkerCrashedError) as caught:
            submit(pool, "close_channel").result()
        assert caught.value.exit_code == -signal.SIGKILL

    @pytest.mark.parametrize("garbage", ["00000003ffffff", "ffffffff", "0000000100"])
    def test_a_worker_that_talks_nonsense_is_killed(self, pool: ProcessPoolExecutor, garbage: str) -> None:
        with pytest.raises(TaskFailedError) as caught:
            submit(pool, f"shout:{garbage}").result()
        assert caught.value.reason == "INTERNAL"
        assert submit(pool).result()

    def test_half_a_message_is_no_progress(self, pool: ProcessPoolExecutor) -> None:
        with pytest.raises(TaskStalledError):
            submit(pool, "shout:0000ffff01", stall_seconds=0.2).result()

    def test_an_answer_to_another_question_is_none(self, pool: ProcessPoolExecutor) -> None:
        with pytest.raises(TaskFailedError) as caught:
            pool.submit(AnalyzeTask(video=VIDEO), stall_seconds=30).result()
        assert caught.value.reason == "INTERNAL"

    def test_a_task_too_large_to_send_fails_alone(self, pool: ProcessPoolExecutor) -> None:
        with pytest.raises(TaskFailedError) as caught:
            submit(pool, "x" * (65 << 20)).result()
        assert caught.value.reason == "INTERNAL"
        assert submit(pool).result()

    def test_a_large_task_arrives(self, pool: ProcessPoolExecutor) -> None:
        assert submit(pool, "silence:0." + "0" * (8 << 20)).result()

    def test_a_descriptor_that_is_none_fails_its_task(self, pool: ProcessPoolExecutor) -> None:
        with pytest.raises(TaskFailedError):
            submit(pool, source_fd=99999).result()
        assert submit(pool).result()

    def test_a_worker_is_what_a_worker_should_be(
        self, pool: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = (
            "session",
            "threads",
            "core",
            "stdin",
            "oom",
            "privileges",
            "sigterm",
            "blocked",
            "thread_count",
        )
        told = dict(zip(names, facts(submit(pool, *(f"fact:{name}" for name in names))), strict=True))
        assert told == {
            "session": "True",
            "threads": "11",
            "core": "0",
            "stdin": "/dev/null",
            "oom": "500",
            "privileges": "True",
            "sigterm": "True",
            "blocked": "0",
            # the task's own and the heart
            "thread_count": "2",
        }

    def test_a_worker_ends_at_once_by_sigterm(self, pool: ProcessPoolExecutor) -> None:
        with pytest.raises(WorkerCrashedError) as caught:
            submit(pool, "signal:SIGTERM", "silence:60").result()
        assert caught.value.exit_code == -signal.SIGTERM
