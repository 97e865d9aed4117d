from __future__ import annotations

import signal

import pytest

from videoprocess_server.engine.faults import is_own_crash, is_passing, may_retry, verdict
from videoprocess_server.engine.sources import SourceChangedError
from videoprocess_server.errors import CATALOGUE, SLIPS
from videoprocess_server.execution.executor import TaskFailedError, TaskStalledError, WorkerCrashedError
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.states import Trigger

OWN = [
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGSEGV,
    signal.SIGXCPU,
    signal.SIGXFSZ,
    signal.SIGSYS,
]
FOREIGN = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
PASSING = ["NO_WORKER", "STORAGE_FULL"]

MEDIA = (ErrorCode.PROCESS, Trigger.MEDIA_FAULT)
FOR_GOOD = [
    (TaskFailedError("DECODE_FAILED", "m"), MEDIA, "DECODE_FAILED"),
    (TaskFailedError("VERIFY_FAILED", "m"), MEDIA, "VERIFY_FAILED"),
    (TaskFailedError("CROP_OUTSIDE_PICTURE", "m"), (ErrorCode.PROCESS, Trigger.SLIP), "CROP_OUTSIDE_PICTURE"),
    (SourceChangedError("SOURCE_CHANGED", "m"), MEDIA, "SOURCE_CHANGED"),
    (SourceChangedError("SOURCE_GONE", "m"), MEDIA, "SOURCE_GONE"),
    (TaskStalledError(), (ErrorCode.TIMEOUT, Trigger.GIVE_UP), "STALLED"),
    (WorkerCrashedError(-signal.SIGSEGV), MEDIA, "WORKER_CRASHED"),
    (WorkerCrashedError(1), MEDIA, "WORKER_CRASHED"),
    (WorkerCrashedError(None), MEDIA, "WORKER_CRASHED"),
    (TaskFailedError("INTERNAL", "m"), MEDIA, "WORKER_CRASHED"),
    (WorkerCrashedError(-signal.SIGKILL), (ErrorCode.ABNORMAL, Trigger.GIVE_UP), "RETRIES_USED_UP"),
    (TaskFailedError("NO_SUCH_REASON", "m"), (ErrorCode.ABNORMAL, Trigger.GIVE_UP), "RETRIES_USED_UP"),
]


@pytest.mark.parametrize(("error", "code_and_trigger", "reason"), FOR_GOOD, ids=str)
def test_each_cause_has_its_code_its_reason_and_what_becomes_of_the_video(
    error: Exception, code_and_trigger: tuple[ErrorCode, Trigger], reason: str
) -> None:
    ended = verdict(error)
    assert ((ended.fault.error_code, ended.trigger), ended.fault.reason) == (code_and_trigger, reason)
    assert ended.fault.message
    assert ended.fault.reason in CATALOGUE


@pytest.mark.parametrize("reason", sorted(SLIPS))
def test_a_slip_never_moves_the_video_on(reason: str) -> None:
    ended = verdict(TaskFailedError(reason, "m"))
    assert (ended.fault.error_code, ended.fault.reason, ended.trigger) == (
        ErrorCode.PROCESS,
        reason,
        Trigger.SLIP,
    )


@pytest.mark.parametrize("number", OWN)
def test_signals_of_a_workers_own_doing_count_against_it(number: signal.Signals) -> None:
    assert is_own_crash(WorkerCrashedError(-number))
    assert may_retry(WorkerCrashedError(-number))


@pytest.mark.parametrize("number", FOREIGN)
def test_signals_from_outside_are_tried_again_and_do_not_count(number: signal.Signals) -> None:
    assert not is_own_crash(WorkerCrashedError(-number))
    assert may_retry(WorkerCrashedError(-number))


@pytest.mark.parametrize("reason", sorted(set(CATALOGUE) - {"INTERNAL"}))
def test_an_answer_that_would_be_the_same_again_is_final(reason: str) -> None:
    assert not may_retry(TaskFailedError(reason, "m"))


def test_an_unforeseen_failure_is_tried_again_and_counts() -> None:
    assert may_retry(TaskFailedError("INTERNAL", "m"))
    assert is_own_crash(TaskFailedError("INTERNAL", "m"))


@pytest.mark.parametrize("reason", sorted(CATALOGUE))
def test_only_what_passes_by_itself_is_waited_for(reason: str) -> None:
    assert is_passing(TaskFailedError(reason, "m")) == (reason in PASSING)


@pytest.mark.parametrize("error", [TaskStalledError(), SourceChangedError("SOURCE_GONE", "m")])
def test_neither_a_stall_nor_a_changed_source_is_tried_again(error: Exception) -> None:
    assert not may_retry(error)
