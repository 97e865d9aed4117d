"""One suite over every executor."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import executor_harness as harness
from contract.executor_harness import (
    FAKE_WORKER,
    LONG,
    Messages,
    a_source,
    eventually,
    facts,
    new_pool,
    open_sources,
    running,
    submit,
)
from contract.fake_worker import HANDLERS
from videoprocess_server.execution.executor import (
    Executor,
    Slot,
    TaskCancelledError,
    TaskFailedError,
    TaskHandle,
)
from videoprocess_server.execution.inline import InlineExecutor
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.model.tasks import (
    EncodeResult,
    MediaLimits,
    ProbeTask,
    Progress,
    SegmentDone,
    TaskMessage,
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

    def test_a_frozen_tasks_place_is_another_tasks(self, executor: Executor) -> None:
        frozen, other = running(executor, LONG), running(executor, LONG)
        frozen.freeze()
        assert submit(executor).result()
        assert not frozen.done()
        assert not other.done()

    def test_a_frozen_task_tells_nothing_more_until_it_is_thawed(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        messages = Messages()
        handle = submit(executor, f"until:{tmp_path / 'end'}", "emit:20", on_message=messages.receive)
        messages.wait()
        handle.freeze()
        told = messages.count_when_quiet()
        (tmp_path / "end").touch()
        time.sleep(0.3)
        assert len(messages) == told
        assert not handle.done()
        handle.thaw()
        assert handle.result() == EncodeResult(segments=(), cpu_seconds=0.5)
        assert len(messages) > told

    def test_freezing_and_thawing_twice_is_once(self, executor: Executor) -> None:
        handle = running(executor, "sleep:0.3")
        for change in (handle.freeze, handle.freeze, handle.thaw, handle.thaw, handle.freeze, handle.thaw):
            change()
        assert handle.result()
        handle.freeze()
        handle.thaw()
        assert handle.result()
        for _ in range(4):
            assert submit(executor).result()

    def test_a_thawed_task_waits_for_a_place_and_goes_before_queued_ones(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        told: list[str] = []
        steps = (f"until:{tmp_path / 'end'}", "emit:3")
        frozen = running(executor, *steps, on_message=lambda _message: told.append("thawed"))
        frozen.freeze()
        (tmp_path / "end").touch()
        busy = [running(executor, LONG), running(executor, LONG)]
        queued = submit(executor, "emit:3", on_message=lambda _message: told.append("queued"))
        frozen.thaw()
        time.sleep(0.3)
        before = len(told)
        assert "queued" not in told
        busy[0].cancel()
        queued.result()
        frozen.result()
        assert told[before:].index("queued") >= 3
        assert told[-3:] == ["queued"] * 3

    def test_a_queued_task_does_not_start_while_it_is_frozen(self, executor: Executor) -> None:
        busy = [running(executor, LONG), running(executor, LONG)]
        first = submit(executor, "emit:1")
        first.freeze()
        second = submit(executor, "emit:1")
        busy[0].cancel()
        assert second.result()
        assert not first.done()
        first.thaw()
        assert first.result()

    def test_a_task_that_was_frozen_while_it_waited_goes_before_queued_ones(self, executor: Executor) -> None:
        order: list[int] = []
        busy = [running(executor, LONG), running(executor, LONG)]
        handles = [
            submit(executor, "emit:1", on_message=lambda _message, number=number: order.append(number))
            for number in range(4)
        ]
        handles[3].freeze()
        handles[3].thaw()
        busy[0].cancel()
        for handle in handles:
            handle.result()
        assert order == [3, 0, 1, 2]

    def test_a_frozen_task_is_cancelled_at_once(self, executor: Executor) -> None:
        handle = running(executor, LONG)
        handle.freeze()
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result()
        handle.thaw()
        handle.freeze()
        assert submit(executor).result()

    def test_a_task_that_was_frozen_while_it_waited_is_cancelled_at_once(self, executor: Executor) -> None:
        busy = [running(executor, LONG), running(executor, LONG)]
        queued = submit(executor, source_fd=a_source())
        queued.freeze()
        queued.cancel()
        assert queued.done()
        busy[0].cancel()
        assert submit(executor).result()

    def test_a_thawed_task_that_waits_for_a_place_is_cancelled_or_frozen_again(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        frozen = [running(executor, LONG), running(executor, f"until:{tmp_path / 'end'}")]
        for handle in frozen:
            handle.freeze()
        busy = [running(executor, LONG), running(executor, LONG)]
        for handle in frozen:
            handle.thaw()
        frozen[0].cancel()
        with pytest.raises(TaskCancelledError):
            frozen[0].result()
        frozen[1].freeze()
        busy[0].cancel()
        assert submit(executor).result()
        assert not frozen[1].done()
        (tmp_path / "end").touch()
        frozen[1].thaw()
        assert frozen[1].result()

    def test_closing_ends_frozen_tasks_too(self, closable: Executor) -> None:
        frozen = [running(closable, LONG), running(closable, LONG)]
        for handle in frozen:
            handle.freeze()
        set_aside = submit(closable)
        set_aside.freeze()
        thawing = [running(closable, LONG), running(closable, LONG)]
        frozen[0].thaw()
        closable.close()
        for handle in (*frozen, *thawing):
            with pytest.raises(TaskCancelledError):
                handle.result()
            handle.freeze()
            handle.thaw()

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
        before = open_sources()
        busy = [running(executor, LONG), running(executor, LONG)]
        queued = submit(executor, source_fd=a_source())
        queued.cancel()
        for handle in busy:
            handle.cancel()
        submit(executor, "read:1", source_fd=a_source()).result()
        with pytest.raises(TaskFailedError):
            submit(executor, "stumble", source_fd=a_source()).result()
        assert eventually(lambda: open_sources() == before)
