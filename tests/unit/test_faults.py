from __future__ import annotations

import errno
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.blobs.blob_store import BlobStoreFullError
from videoprocess_server.engine.faults import (
    LONGEST_BACKOFF_SECONDS,
    POLICIES,
    Cause,
    Tries,
    backoff_seconds,
    broken,
    cause_of,
    is_disk_full,
    verdict,
)
from videoprocess_server.engine.sources import SourceChangedError
from videoprocess_server.errors import CATALOGUE, SLIPS
from videoprocess_server.execution.executor import (
    CrashCause,
    TaskFailedError,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.states import BlockReason, Trigger

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
OUT_OF_MEMORY = WorkerCrashedError(-signal.SIGKILL, CrashCause.OUT_OF_MEMORY)
SILENT = WorkerCrashedError(-signal.SIGKILL, CrashCause.SILENT)
SEGV = WorkerCrashedError(-signal.SIGSEGV)
KILLED = WorkerCrashedError(-signal.SIGKILL)
UNFORESEEN = TaskFailedError("INTERNAL", "m")
PASSING = {
    "NO_WORKER": BlockReason.RETRY_BACKOFF,
    "STORAGE_FULL": BlockReason.SPACE_LIMIT,
    "STORE_UNAVAILABLE": BlockReason.STORE_UNREACHABLE,
}
#: contract §5: the third crash on one segment
CRASHES = [SEGV, WorkerCrashedError(1), WorkerCrashedError(None), OUT_OF_MEMORY, UNFORESEEN]

MEDIA = (ErrorCode.PROCESS, Trigger.MEDIA_FAULT)
OUTLASTED = (ErrorCode.ABNORMAL, Trigger.GIVE_UP)
FOR_GOOD = [
    (TaskFailedError("DECODE_FAILED", "m"), MEDIA, "DECODE_FAILED"),
    (TaskFailedError("VERIFY_FAILED", "m"), MEDIA, "VERIFY_FAILED"),
    (TaskFailedError("CROP_OUTSIDE_PICTURE", "m"), (ErrorCode.PROCESS, Trigger.SLIP), "CROP_OUTSIDE_PICTURE"),
    (SourceChangedError("SOURCE_CHANGED", "m"), MEDIA, "SOURCE_CHANGED"),
    (SourceChangedError("SOURCE_GONE", "m"), MEDIA, "SOURCE_GONE"),
    (TaskStalledError(), (ErrorCode.TIMEOUT, Trigger.GIVE_UP), "STALLED"),
    *[(crash, MEDIA, "WORKER_CRASHED") for crash in CRASHES],
    (TaskFailedError("NO_SUCH_REASON", "m"), MEDIA, "WORKER_CRASHED"),
    (KILLED, OUTLASTED, "RETRIES_USED_UP"),
    (SILENT, OUTLASTED, "RETRIES_USED_UP"),
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


def test_a_driver_that_breaks_is_no_fault_of_the_video() -> None:
    ended = broken()
    assert (ended.fault.error_code, ended.trigger) == OUTLASTED
    assert ended.fault.reason in CATALOGUE


def test_the_table_has_every_cause_and_only_what_waits_or_ends() -> None:
    assert set(POLICIES) == set(Cause)
    for cause, policy in POLICIES.items():
        assert policy.max_tries >= 0
        assert not policy.reason or policy.reason in CATALOGUE, cause
        assert policy.blocked_by is not BlockReason.NONE, cause


@pytest.mark.parametrize("number", OWN)
def test_a_signal_of_the_workers_own_doing_is_a_crash(number: signal.Signals) -> None:
    assert cause_of(WorkerCrashedError(-number)) is Cause.CRASH


@pytest.mark.parametrize("number", FOREIGN)
def test_a_signal_from_outside_is_nobodys_crash(number: signal.Signals) -> None:
    assert cause_of(WorkerCrashedError(-number)) is Cause.FOREIGN_KILL


@pytest.mark.parametrize(
    ("error", "cause"), [(OUT_OF_MEMORY, Cause.OUT_OF_MEMORY), (SILENT, Cause.SILENT)], ids=str
)
def test_what_the_executor_knows_of_a_kill_goes_before_its_number(error: Exception, cause: Cause) -> None:
    assert cause_of(error) is cause


@pytest.mark.parametrize("error", CRASHES, ids=str)
def test_two_crashes_of_any_kind_are_forgiven_and_the_third_is_not(error: Exception) -> None:
    tries = Tries()
    assert [tries.failed(error), tries.failed(SEGV)] == [1, 2]
    with pytest.raises(type(error)) as raised:
        tries.failed(error)
    assert raised.value is error


def test_crashes_that_a_row_tells_of_count() -> None:
    tries = Tries(crashes=2)
    with pytest.raises(WorkerCrashedError):
        tries.failed(OUT_OF_MEMORY)


def test_causes_that_are_no_crashes_count_each_alone() -> None:
    tries = Tries(crashes=2)
    for number in range(1, POLICIES[Cause.FOREIGN_KILL].max_tries):
        assert tries.failed(KILLED) == number
    for number in range(1, POLICIES[Cause.SILENT].max_tries):
        assert tries.failed(SILENT) == number
    with pytest.raises(WorkerCrashedError):
        tries.failed(SILENT)


@pytest.mark.parametrize("reason", sorted(set(CATALOGUE) - {"INTERNAL"}))
def test_an_answer_that_would_be_the_same_again_is_final(reason: str) -> None:
    with pytest.raises(TaskFailedError):
        Tries().failed(TaskFailedError(reason, "m"))


@pytest.mark.parametrize("error", [TaskStalledError(), SourceChangedError("SOURCE_GONE", "m")], ids=str)
def test_neither_a_stall_nor_a_changed_source_is_tried_again(error: Exception) -> None:
    with pytest.raises(type(error)):
        Tries().failed(error)


@pytest.mark.parametrize("reason", sorted(CATALOGUE))
def test_only_what_passes_by_itself_is_waited_for(reason: str) -> None:
    policy = POLICIES[cause_of(TaskFailedError(reason, "m"))]
    assert (policy.max_tries == 0) == (reason in PASSING)
    if reason in PASSING:
        assert policy.blocked_by is PASSING[reason]


def test_only_what_ran_out_of_memory_has_the_machine_for_its_next_try() -> None:
    assert [cause for cause, policy in POLICIES.items() if policy.runs_alone] == [Cause.OUT_OF_MEMORY]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_space_is_one_cause_whoever_meets_it(number: int) -> None:
    for error in (OSError(number, "m"), BlobStoreFullError("m"), TaskFailedError("STORAGE_FULL", "m")):
        assert cause_of(error) is Cause.DISK_FULL
    assert is_disk_full(OSError(number, "m"))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_disk_that_must_not_be_written_to_is_one_cause_whoever_meets_it(number: int) -> None:
    for error in (OSError(number, "m"), TaskFailedError("STORE_UNAVAILABLE", "m")):
        assert cause_of(error) is Cause.DISK_REFUSES
    assert not is_disk_full(OSError(number, "m"))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "m"), ValueError("m"), KeyError("m")], ids=str)
def test_a_mistake_of_ours_has_no_cause(error: Exception) -> None:
    assert not is_disk_full(error)
    with pytest.raises(TypeError):
        cause_of(error)


@given(st.floats(0.001, 10), st.integers(1, 100))
def test_the_back_off_grows_and_has_an_end(first_seconds: float, tries: int) -> None:
    now, later = backoff_seconds(first_seconds, tries), backoff_seconds(first_seconds, tries + 1)
    assert first_seconds <= now <= LONGEST_BACKOFF_SECONDS
    assert later == min(4 * now, LONGEST_BACKOFF_SECONDS) or tries >= 10
    assert later >= now
