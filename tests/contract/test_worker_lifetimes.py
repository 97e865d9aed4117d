"""How worker processes come and go with their executor and with the service."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from contract import executor_harness as harness
from contract.executor_harness import (
    FAKE_WORKER,
    a_source,
    children,
    ended,
    eventually,
    facts,
    open_descriptors,
    pings,
    submit,
)
from contract.fake_worker import HEAP_MEBIBYTES
from videoprocess_server.execution.executor import (
    Slot,
    TaskCancelledError,
    TaskFailedError,
)
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.model.tasks import (
    MediaLimits,
    ProbeTask,
)


@pytest.fixture(scope="module", autouse=True)
def _workers_find_the_tests() -> Iterator[None]:
    with harness.workers_find_the_tests():
        yield


@pytest.fixture(autouse=True)
def _cancel_what_is_left() -> Iterator[None]:
    yield
    harness.cancel_what_is_left()


def test_a_worker_learns_no_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOPROCESS_TOKEN", "secret")
    executor = ProcessPoolExecutor(1, worker_module=FAKE_WORKER)
    executor.start()
    (names,) = facts(submit(executor, "fact:environment"))
    executor.close()
    assert "PYTHONPATH" in names
    assert "VIDEOPROCESS_TOKEN" not in names


@pytest.mark.slow
def test_memory_stays_between_tasks_and_goes_back_when_there_is_none() -> None:
    """What glibc does by itself: it goes back after each task, and the next gets it page by page again."""
    executor = ProcessPoolExecutor(1, worker_module=FAKE_WORKER)
    executor.start()
    (used_bytes,) = facts(submit(executor, "fact:heap"))
    workers = [psutil.Process(pid) for pid in executor.worker_pids()]
    assert int(used_bytes) > HEAP_MEBIBYTES << 20
    assert eventually(
        lambda: max(worker.memory_info().rss for worker in workers) < int(used_bytes) - (HEAP_MEBIBYTES << 19)
    )
    executor.close()


def test_closing_leaves_no_process_no_thread_and_no_descriptor() -> None:
    descriptors, threads = open_descriptors(), threading.active_count()
    executor = ProcessPoolExecutor(2, worker_module=FAKE_WORKER)
    executor.start()
    pids = executor.worker_pids()
    assert len(pids) == 3
    executor.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert (open_descriptors(), threading.active_count()) == (descriptors, threads)


@pytest.mark.slow
def test_closing_at_any_instant_of_the_start_ends() -> None:
    for step in range(6):
        executor = ProcessPoolExecutor(2, worker_module=FAKE_WORKER)
        executor.start()
        time.sleep(step / 20)
        executor.close()
        assert not children()


def test_an_executor_that_never_started_closes() -> None:
    executor = ProcessPoolExecutor(1)
    handle = submit(executor)
    with pytest.raises(RuntimeError):
        executor.ping()
    executor.close()
    with pytest.raises(TaskCancelledError):
        handle.result()


def test_workers_that_never_start_make_tasks_fail_and_not_wait() -> None:
    executor = ProcessPoolExecutor(2, worker_module="contract.no_such_module", backoff_seconds=0.001)
    early = submit(executor, source_fd=a_source())
    executor.start()
    with pytest.raises(TaskFailedError) as caught:
        early.result()
    assert caught.value.reason == "NO_WORKER"
    with pytest.raises(RuntimeError):
        executor.ping()
    with pytest.raises(TaskFailedError):
        submit(executor, source_fd=a_source()).result()
    executor.close()


def test_workers_are_tried_again_until_they_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    executor = ProcessPoolExecutor(1, worker_module="late_worker", backoff_seconds=0.001)
    executor.start()
    assert eventually(lambda: not pings(executor))
    (tmp_path / "late_worker.py").write_text(
        "import sys\nfrom contract.fake_worker import HANDLERS, worker\nworker.serve(worker.enter(sys.argv), HANDLERS)\n"
    )
    assert eventually(lambda: pings(executor))
    assert submit(executor).result()
    executor.close()


def test_a_worker_that_is_never_ready_counts_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sleepy_worker.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    executor = ProcessPoolExecutor(
        1, worker_module="sleepy_worker", startup_seconds=0.01, backoff_seconds=0.001
    )
    executor.start()
    assert eventually(lambda: not pings(executor))
    executor.close()
    assert not children()


def test_a_pool_of_no_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        ProcessPoolExecutor(0)


#: a service of its own: starts workers, of which one works, one is silent, one is stopped; prints their pids
SERVICE = """
import sys, time
from contract.sample_tasks import script
from videoprocess_server.execution.executor import Slot
from videoprocess_server.execution.process_pool import ProcessPoolExecutor

executor = ProcessPoolExecutor(2, worker_module="contract.fake_worker")
executor.start()
if sys.argv[1] == "busy":
    seen = []
    executor.submit(script("sleep:60"), stall_seconds=60, on_message=seen.append)
    executor.submit(script("emit:1", "silence:60"), stall_seconds=60, on_message=seen.append)
    executor.submit(script("emit:1", "signal:SIGSTOP"), slot=Slot.PROBE, stall_seconds=60, on_message=seen.append)
    while len(seen) < 3:
        time.sleep(0.01)
print(*executor.worker_pids(), flush=True)
if sys.argv[2] == "falls_off":
    sys.exit()
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["busy", "starting"])
@pytest.mark.parametrize("end", ["is_killed", "falls_off"])
def test_workers_die_with_the_service(moment: str, end: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, moment, end],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as service:
        assert service.stdout is not None
        pids = [int(word) for word in service.stdout.readline().split()]
        if end == "is_killed":
            service.kill()
        service.wait(10)
        assert len(pids) == 3
        assert eventually(lambda: all(ended(pid) for pid in pids), 2)


def test_the_media_worker_answers() -> None:
    """The product's own worker program, as far as a file of garbage brings it."""
    executor = ProcessPoolExecutor(1)
    executor.start()
    probe = executor.submit(
        ProbeTask(limits=MediaLimits()), source_fd=a_source("garbage" * 99), slot=Slot.PROBE, stall_seconds=30
    )
    try:
        with pytest.raises(TaskFailedError) as caught:
            probe.result()
        assert caught.value.reason == "NOT_A_VIDEO"
    finally:
        executor.close()
