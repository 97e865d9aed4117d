"""One suite over every executor, then what only worker processes can promise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from contract.fake_worker import HANDLERS
from contract.sample_tasks import VIDEO, script
from videoprocess_server.execution.executor import (
    Executor,
    Slot,
    TaskCancelledError,
    TaskFailedError,
    TaskHandle,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.execution.inline import InlineExecutor
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.model.tasks import (
    AnalyzeTask,
    EncodeResult,
    MediaLimits,
    ProbeTask,
    Progress,
    SegmentDone,
    TaskMessage,
)

FAKE_WORKER = "contract.fake_worker"
LONG = "sleep:60"


@pytest.fixture(scope="module", autouse=True)
def _workers_find_the_tests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        yield


#: of the running test
submitted: list[TaskHandle] = []


@pytest.fixture(autouse=True)
def _cancel_what_is_left() -> Iterator[None]:
    yield
    for handle in submitted:
        handle.cancel()
    submitted.clear()


@pytest.fixture(scope="class")
def pool(_workers_find_the_tests: None) -> Iterator[ProcessPoolExecutor]:
    """One pool for a class: what a test does to it must not harm the next."""
    with new_pool(2, backoff_seconds=0.01) as executor:
        yield executor


@contextmanager
def new_pool(
    worker_count: int, *, worker_module: str = FAKE_WORKER, **more: Any
) -> Iterator[ProcessPoolExecutor]:
    executor = ProcessPoolExecutor(worker_count, worker_module=worker_module, **more)
    executor.start()
    try:
        yield executor
    finally:
        executor.close()


@pytest.fixture(params=["processes", "inline"])
def executor(request: pytest.FixtureRequest, pool: ProcessPoolExecutor) -> Iterator[Executor]:
    if request.param == "processes":
        yield pool
        return
    inline = InlineExecutor(2, HANDLERS)
    inline.start()
    yield inline
    inline.close()


@pytest.fixture(params=["processes", "inline"])
def closable(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """An executor of the test's own."""
    executor = (
        InlineExecutor(2, HANDLERS)
        if request.param == "inline"
        else ProcessPoolExecutor(2, worker_module=FAKE_WORKER)
    )
    executor.start()
    yield executor
    executor.close()


def submit(
    executor: Executor,
    *steps: str,
    slot: Slot = Slot.GENERAL,
    source_fd: int | None = None,
    stall_seconds: float = 30,
    on_message: Callable[[TaskMessage], None] | None = None,
) -> TaskHandle:
    handle = executor.submit(
        script(*steps), slot=slot, source_fd=source_fd, stall_seconds=stall_seconds, on_message=on_message
    )
    submitted.append(handle)
    return handle


def facts(handle: TaskHandle) -> list[str]:
    result = handle.result()
    assert isinstance(result, EncodeResult)
    return [segment.path for segment in result.segments]


class Messages(list[TaskMessage]):
    """Collects messages and tells when the first one is there."""

    def __init__(self) -> None:
        super().__init__()
        self._first = threading.Event()

    def receive(self, message: TaskMessage) -> None:
        self.append(message)
        self._first.set()

    def wait(self) -> None:
        assert self._first.wait(10)


def running(executor: Executor, *steps: str) -> TaskHandle:
    """Submit a task and wait until it runs."""
    messages = Messages()
    handle = submit(executor, *steps, on_message=messages.receive)
    messages.wait()
    return handle


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def a_source(text: str = "hello") -> int:
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        return os.dup(file.fileno())


class TestEveryExecutor:
    def test_a_task_is_answered(self, executor: Executor) -> None:
        handle = submit(executor)
        assert handle.result() == EncodeResult(segments=(), cpu_seconds=0.5)
        assert handle.done()

    def test_a_task_reads_the_source_it_was_given(self, executor: Executor) -> None:
        assert facts(submit(executor, "read:5", source_fd=a_source())) == ["hello"]

    def test_a_task_without_a_source_sees_minus_one(self, executor: Executor) -> None:
        assert facts(submit(executor, "fact:fd")) == ["-1"]

    def test_messages_come_in_order_and_before_the_end(self, executor: Executor) -> None:
        messages: list[TaskMessage] = []
        ended_after: list[int] = []
        handle = submit(executor, "emit:500", on_message=messages.append)
        handle.add_done_callback(lambda _handle: ended_after.append(len(messages)))
        handle.result()
        assert len(messages) == 500
        assert [message.index for message in messages if isinstance(message, SegmentDone)] == list(
            range(9, 500, 10)
        )
        assert messages[3] == Progress(frames=3, bytes=7)
        assert eventually(lambda: ended_after == [500])

    def test_as_many_tasks_run_at_once_as_there_are_workers(self, executor: Executor) -> None:
        assert executor.worker_count == 2
        first, second = running(executor, LONG), running(executor, LONG)
        messages = Messages()
        third = submit(executor, LONG, on_message=messages.receive)
        time.sleep(0.1)
        assert not messages
        assert not any(handle.done() for handle in (first, second, third))

    def test_waiting_tasks_run_in_order_of_submission(self, executor: Executor) -> None:
        blocker, other = running(executor, LONG), running(executor, LONG)
        order: list[int] = []

        def submit_number(number: int) -> TaskHandle:
            return submit(executor, "emit:1", on_message=lambda _message: order.append(number))

        handles = [submit_number(number) for number in range(20)]
        blocker.cancel()
        for handle in handles:
            handle.result()
        assert order == list(range(20))
        other.cancel()

    def test_probes_run_while_everything_else_is_busy(self, executor: Executor) -> None:
        busy = [running(executor, LONG), running(executor, LONG)]
        assert submit(executor, slot=Slot.PROBE).result()
        assert not any(handle.done() for handle in busy)

    def test_a_general_task_does_not_take_the_place_of_probes(self, executor: Executor) -> None:
        messages = Messages()
        probe = submit(executor, LONG, slot=Slot.PROBE, on_message=messages.receive)
        messages.wait()
        waiting = submit(executor, slot=Slot.PROBE)
        assert submit(executor).result()
        assert not waiting.done()
        probe.cancel()
        assert waiting.result()

    def test_a_queued_task_is_cancelled_at_once_and_never_runs(self, executor: Executor) -> None:
        busy = [running(executor, LONG), running(executor, LONG)]
        messages: list[TaskMessage] = []
        queued = submit(executor, "emit:1", on_message=messages.append)
        queued.cancel()
        assert queued.done()
        with pytest.raises(TaskCancelledError):
            queued.result()
        for handle in busy:
            handle.cancel()
        assert submit(executor).result()
        assert not messages

    def test_a_running_task_is_cancelled(self, executor: Executor) -> None:
        handle = running(executor, LONG)
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result()
        assert submit(executor).result()

    def test_a_cancel_after_the_end_changes_nothing(self, executor: Executor) -> None:
        handle = submit(executor)
        result = handle.result()
        handle.cancel()
        handle.cancel()
        assert handle.result() == result

    def test_a_foreseen_failure_tells_its_reason(self, executor: Executor) -> None:
        with pytest.raises(TaskFailedError) as caught:
            submit(executor, "fail:DECODE_FAILED").result()
        assert (caught.value.reason, caught.value.message) == ("DECODE_FAILED", "foreseen")
        assert submit(executor).result()

    def test_a_reason_out_of_no_catalogue_becomes_internal(self, executor: Executor) -> None:
        with pytest.raises(TaskFailedError) as caught:
            submit(executor, "fail:MOON_PHASE").result()
        assert caught.value.reason == "INTERNAL"

    def test_an_unforeseen_failure_hides_its_internals(self, executor: Executor) -> None:
        with pytest.raises(TaskFailedError) as caught:
            submit(executor, "stumble:secret").result()
        assert caught.value.reason == "INTERNAL"
        assert "secret" not in str(caught.value)

    def test_a_prober_that_stumbles_is_told_as_such(self, executor: Executor) -> None:
        with pytest.raises(TaskFailedError) as caught:
            executor.submit(ProbeTask(limits=MediaLimits()), slot=Slot.PROBE, stall_seconds=30).result()
        assert caught.value.reason == "PROBE_FAILED"
        assert "secret" not in str(caught.value)

    def test_a_message_nobody_can_take_ends_its_task(self, executor: Executor) -> None:
        def refuse(_message: TaskMessage) -> None:
            raise TimeoutError("the row could not be written")

        with pytest.raises(TimeoutError, match="the row"):
            submit(executor, LONG, on_message=refuse).result()
        assert submit(executor).result()

    def test_a_done_callback_is_called_even_after_the_end(self, executor: Executor) -> None:
        called: list[TaskHandle] = []
        handle = submit(executor)
        handle.result()
        handle.add_done_callback(called.append)
        assert called == [handle]

    def test_a_done_callback_that_fails_harms_nobody(self, executor: Executor) -> None:
        def fail(_handle: TaskHandle) -> None:
            raise LookupError

        called: list[TaskHandle] = []
        handle = running(executor, LONG)
        handle.add_done_callback(fail)
        handle.add_done_callback(called.append)
        handle.cancel()
        assert eventually(lambda: called == [handle])
        assert submit(executor).result()

    def test_a_done_callback_may_submit_the_next_task(self, executor: Executor) -> None:
        following: list[TaskHandle] = []
        handle = running(executor, "sleep:0.05")
        handle.add_done_callback(lambda _handle: following.append(submit(executor)))
        handle.result()
        assert eventually(lambda: bool(following))
        assert following[0].result()

    def test_closing_ends_every_task(self, closable: Executor) -> None:
        handles = [running(closable, LONG), running(closable, LONG), *(submit(closable) for _ in range(5))]
        closable.close()
        for handle in handles:
            assert handle.done()
            with pytest.raises(TaskCancelledError):
                handle.result()

    def test_closed_it_takes_no_task_and_says_so(self, closable: Executor) -> None:
        closable.ping()
        closable.close()
        closable.close()
        fd = a_source()
        with pytest.raises(TaskCancelledError):
            submit(closable, source_fd=fd).result()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        with pytest.raises(RuntimeError):
            closable.ping()

    def test_every_source_is_closed_whatever_becomes_of_its_task(self, executor: Executor) -> None:
        submit(executor).result()
        before = open_descriptors()
        busy = [running(executor, LONG), running(executor, LONG)]
        queued = submit(executor, source_fd=a_source())
        queued.cancel()
        for handle in busy:
            handle.cancel()
        submit(executor, "read:1", source_fd=a_source()).result()
        with pytest.raises(TaskFailedError):
            submit(executor, "stumble", source_fd=a_source()).result()
        assert eventually(lambda: open_descriptors() == before)


class TestWorkerProcesses:
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

    def test_a_silent_worker_is_killed(self, pool: ProcessPoolExecutor) -> None:
        begin = time.monotonic()
        with pytest.raises(TaskStalledError):
            submit(pool, "silence:60", stall_seconds=0.2).result()
        assert 0.2 <= time.monotonic() - begin < 5
        assert submit(pool).result()

    def test_a_stopped_worker_is_killed(self, pool: ProcessPoolExecutor) -> None:
        with pytest.raises(TaskStalledError):
            submit(pool, "signal:SIGSTOP", stall_seconds=0.2).result()

    def test_signs_of_life_keep_a_worker_alive(self, pool: ProcessPoolExecutor) -> None:
        assert submit(pool, "sleep:1", stall_seconds=0.5).result()

    def test_waiting_is_no_silence(self, pool: ProcessPoolExecutor) -> None:
        busy = [running(pool, "sleep:0.8"), running(pool, "sleep:0.8")]
        assert submit(pool, "emit:1", stall_seconds=0.5).result()
        for handle in busy:
            handle.result()

    def test_a_slow_receiver_is_no_silence_of_its_worker(self, pool: ProcessPoolExecutor) -> None:
        handle = submit(pool, "emit:3", stall_seconds=0.3, on_message=lambda _message: time.sleep(0.4))
        assert handle.result()

    def test_a_cancelled_tasks_process_is_gone_when_that_is_told(self, pool: ProcessPoolExecutor) -> None:
        before = set(pool.worker_pids())
        handle = running(pool, LONG)
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result()
        gone = [pid for pid in before if not psutil.pid_exists(pid)]
        assert len(gone) == 1
        assert eventually(lambda: len(pool.worker_pids()) == 3)

    def test_cancels_at_any_instant_hit_no_other_task(self, pool: ProcessPoolExecutor) -> None:
        for step in range(30):
            handle = submit(pool, f"sleep:{step % 3 / 100}")
            time.sleep(step % 5 / 200)
            handle.cancel()
            assert submit(pool).result()
            if not handle.done():
                with pytest.raises(TaskCancelledError):
                    handle.result()

    def test_descriptors_and_processes_are_as_many_after_much_harm(self, pool: ProcessPoolExecutor) -> None:
        for _ in range(3):
            submit(pool).result()
        assert eventually(lambda: len(pool.worker_pids()) == 3)
        before = open_descriptors()
        for round_ in range(50):
            handle = submit(
                pool, ("emit:3", "stumble", "signal:SIGKILL", "sleep:5")[round_ % 4], source_fd=a_source()
            )
            if round_ % 4 == 3:
                handle.cancel()
            with pytest.raises((TaskFailedError, WorkerCrashedError, TaskCancelledError)):
                raise TaskFailedError("INTERNAL", "fine") if handle.result() else AssertionError
        assert eventually(lambda: len(pool.worker_pids()) == 3 and open_descriptors() == before)
        assert len(psutil.Process().children()) == 3

    def test_a_worker_keeps_no_source_open(self, pool: ProcessPoolExecutor) -> None:
        counts = {facts(submit(pool, "fact:descriptors", source_fd=a_source()))[0] for _ in range(20)}
        assert len(counts) == 1

    def test_an_idle_worker_that_is_killed_is_replaced(self, pool: ProcessPoolExecutor) -> None:
        killed = set(pool.worker_pids())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: len(set(pool.worker_pids()) - killed) == 3)
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

    def test_half_a_message_is_silence(self, pool: ProcessPoolExecutor) -> None:
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
            "thread_count": "1",
        }

    def test_a_worker_ends_at_once_by_sigterm(self, pool: ProcessPoolExecutor) -> None:
        with pytest.raises(WorkerCrashedError) as caught:
            submit(pool, "signal:SIGTERM", "silence:60").result()
        assert caught.value.exit_code == -signal.SIGTERM


def _pings(executor: Executor) -> bool:
    try:
        executor.ping()
    except RuntimeError:
        return False
    return True


def test_a_worker_learns_no_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOPROCESS_TOKEN", "secret")
    executor = ProcessPoolExecutor(1, worker_module=FAKE_WORKER, niceness=3)
    executor.start()
    names, niceness = facts(submit(executor, "fact:environment", "fact:niceness"))
    executor.close()
    assert "PYTHONPATH" in names
    assert "VIDEOPROCESS_TOKEN" not in names
    assert int(niceness) == os.getpriority(os.PRIO_PROCESS, 0) + 3


def test_closing_leaves_no_process_no_thread_and_no_descriptor() -> None:
    descriptors, threads = open_descriptors(), threading.active_count()
    executor = ProcessPoolExecutor(2, worker_module=FAKE_WORKER)
    executor.start()
    pids = executor.worker_pids()
    assert len(pids) == 3
    executor.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert (open_descriptors(), threading.active_count()) == (descriptors, threads)


def test_closing_at_any_instant_of_the_start_ends() -> None:
    for step in range(6):
        executor = ProcessPoolExecutor(2, worker_module=FAKE_WORKER)
        executor.start()
        time.sleep(step / 20)
        executor.close()
        assert not psutil.Process().children()


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
    assert caught.value.reason == "INTERNAL"
    with pytest.raises(RuntimeError):
        executor.ping()
    with pytest.raises(TaskFailedError):
        submit(executor, source_fd=a_source()).result()
    executor.close()


def test_workers_are_tried_again_until_they_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    executor = ProcessPoolExecutor(1, worker_module="late_worker", backoff_seconds=0.001)
    executor.start()
    assert eventually(lambda: not _pings(executor))
    (tmp_path / "late_worker.py").write_text(
        "import sys\nfrom contract.fake_worker import HANDLERS, worker\nworker.serve(worker.enter(sys.argv), HANDLERS)\n"
    )
    assert eventually(lambda: _pings(executor))
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
    assert eventually(lambda: not _pings(executor))
    executor.close()
    assert not psutil.Process().children()


@pytest.mark.parametrize(("worker_count", "niceness"), [(0, 0), (1, -1)])
def test_impossible_settings_are_refused(worker_count: int, niceness: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        ProcessPoolExecutor(worker_count, niceness=niceness)


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
