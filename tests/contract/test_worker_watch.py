"""How workers are watched, killed and slowed down, with real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from contract import executor_harness as harness
from contract.executor_harness import a_source, eventually, facts, new_pool, running, submit
from videoprocess_server.execution.executor import (
    CrashCause,
    TaskCancelledError,
    TaskStalledError,
    WorkerCrashedError,
)

AUTOGROUP = Path("/proc/self/autogroup")
OWN_NICENESS = os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture(scope="module", autouse=True)
def _workers_find_the_tests() -> Iterator[None]:
    with harness.workers_find_the_tests():
        yield


@pytest.fixture(autouse=True)
def _cancel_what_is_left() -> Iterator[None]:
    yield
    harness.cancel_what_is_left()


class TestHeartbeat:
    @pytest.mark.slow
    def test_a_worker_that_somebody_else_stopped_is_found_and_killed(self) -> None:
        with new_pool(1, silence_seconds=1.5) as executor:
            begin = time.monotonic()
            with pytest.raises(WorkerCrashedError) as caught:
                submit(executor, "signal:SIGSTOP").result()
            assert caught.value.cause is CrashCause.SILENT
            assert 1.5 <= time.monotonic() - begin < 6
            assert submit(executor).result()

    @pytest.mark.slow
    def test_heartbeats_are_enough_to_live(self) -> None:
        with new_pool(1, silence_seconds=1.8) as executor:
            assert submit(executor, "silence:2.5").result()

    @pytest.mark.slow
    def test_heartbeats_are_no_progress(self) -> None:
        with new_pool(1, silence_seconds=1.8) as executor, pytest.raises(TaskStalledError):
            submit(executor, "silence:60", stall_seconds=2.5).result()


class TestKillLadder:
    def test_a_cancel_is_quick(self) -> None:
        taken = []
        with new_pool(1, backoff_seconds=0.01) as executor:
            for _ in range(10):
                handle = running(executor, "emit:1", "silence:60")
                begin = time.monotonic()
                handle.cancel()
                with pytest.raises(TaskCancelledError):
                    handle.result()
                taken.append(time.monotonic() - begin)
        taken.sort()
        print(f"cancel: p50 {taken[5] * 1000:.1f} ms, longest {taken[-1] * 1000:.1f} ms")
        assert taken[5] < 0.3

    def test_a_worker_that_ignores_sigterm_is_killed_half_a_second_later(self) -> None:
        with new_pool(1) as executor:
            handle = running(executor, "deaf", "emit:1", "silence:60")
            begin = time.monotonic()
            handle.cancel()
            with pytest.raises(TaskCancelledError):
                handle.result()
            assert 0.4 < time.monotonic() - begin < 3
            assert submit(executor).result()

    @pytest.mark.slow
    @pytest.mark.parametrize(("step", "by"), [("emit:1", signal.SIGTERM), ("deaf", signal.SIGKILL)])
    def test_the_watchdog_climbs_it_too(self, step: str, by: signal.Signals) -> None:
        with new_pool(1, silence_seconds=0.5) as executor:
            with pytest.raises(WorkerCrashedError) as caught:
                submit(executor, step, "silence:60").result()
            assert (caught.value.exit_code, caught.value.cause) == (-by, CrashCause.SILENT)


def _risen() -> Callable[[], int]:
    counts = iter(range(100))
    return lambda: next(counts)


class TestOutOfMemory:
    @pytest.mark.parametrize(
        ("step", "reader", "cause"),
        [
            ("signal:SIGKILL", _risen(), CrashCause.OUT_OF_MEMORY),
            ("signal:SIGKILL", lambda: 7, CrashCause.EXIT),
            ("signal:SIGKILL", lambda: None, CrashCause.EXIT),
            ("signal:SIGSEGV", _risen(), CrashCause.EXIT),
            # killed by the pool itself, since it closed its channel and lived on
            ("close_channel", _risen(), CrashCause.EXIT),
        ],
        ids=["risen", "same", "unknown", "another signal", "killed from here"],
    )
    def test_a_foreign_kill_is_laid_to_memory_if_the_count_rose(
        self, step: str, reader: Callable[[], int | None], cause: CrashCause
    ) -> None:
        with new_pool(1, oom_kills=reader) as executor:
            with pytest.raises(WorkerCrashedError) as caught:
                submit(executor, step).result()
            assert caught.value.cause is cause


def refuse_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel does for whoever has no privilege."""
    set_priority = os.setpriority

    def refuse(which: int, who: int, priority: int) -> None:
        if priority < os.getpriority(which, who):
            raise PermissionError
        set_priority(which, who, priority)

    monkeypatch.setattr(os, "setpriority", refuse)


class TestNiceness:
    def test_a_worker_is_as_nice_as_its_task_wants(self) -> None:
        with new_pool(1) as executor:
            for niceness in (5, 10, 10, 0, 3):
                told = facts(submit(executor, "fact:niceness", niceness=niceness))
                assert told == [str(OWN_NICENESS + niceness)]

    def test_where_lowering_takes_a_privilege_a_fresh_worker_does_the_task(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse_to_lower(monkeypatch)
        with new_pool(1) as executor:
            nice_pid, told = facts(submit(executor, "fact:pid", "fact:niceness", niceness=10))
            assert told == str(OWN_NICENESS + 10)
            same_pid, _ = facts(submit(executor, "fact:pid", "fact:niceness", niceness=10))
            assert same_pid == nice_pid
            fresh_pid, told = facts(submit(executor, "fact:pid", "fact:niceness", source_fd=a_source()))
            assert told == str(OWN_NICENESS)
            assert fresh_pid != nice_pid
            assert not psutil.pid_exists(int(nice_pid))

    @pytest.mark.slow
    def test_a_task_that_waits_for_a_fresh_worker_can_be_frozen_and_cancelled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse_to_lower(monkeypatch)
        with new_pool(1) as executor:
            for step in range(8):
                submit(executor, niceness=5).result()
                frozen, cancelled = submit(executor), submit(executor)
                time.sleep(step / 40)
                frozen.freeze()
                cancelled.cancel()
                assert submit(executor).result()
                frozen.thaw()
                assert frozen.result()
                assert eventually(cancelled.done)

    @pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not schedule by session")
    def test_its_session_weighs_as_little_as_it_does(self) -> None:
        with new_pool(1) as executor:
            for niceness in (7, 0):
                told = facts(submit(executor, "fact:autogroup", niceness=niceness))
                assert told == [str(OWN_NICENESS + niceness)]

    def test_niceness_ends_at_the_highest(self) -> None:
        with new_pool(1) as executor:
            assert facts(submit(executor, "fact:niceness", niceness=40)) == ["19"]
