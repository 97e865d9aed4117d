"""How jobs end by the reference's cases 62 to 65 and 70: there a NORMAL job's end is told to nobody, and one timer ends all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, LIMITS, Engine, outcome, running_engine
from engine.scripted_executor import Gate, ScriptedExecutor, crash, stall
from videoprocess_server.execution.executor import Slot
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import EventKind, Priority
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import JoinTask, Task, TaskMessage

SEGV = -11
#: so that the shortest moment of a segment is a long stall time
STALL_SEGMENTS = 10**9
STALL_SECONDS = 1200.0


@pytest.mark.parametrize("priority", Priority)
def test_cases_62_64_what_stalls_fails_and_is_told_once(
    engine: Engine, workers: ScriptedExecutor, priority: Priority
) -> None:
    session_id = engine.ready()
    workers.will(1, stall)
    event = engine.end_of(engine.process(session_id, priority=priority))
    assert outcome(event) == (ErrorCode.TIMEOUT, "STALLED")
    assert engine.state() is VideoState.FAILED
    assert engine.events() == [event]


@pytest.mark.parametrize("priority", Priority)
def test_cases_63_64_what_is_interrupted_pauses_and_is_told_once(
    engine: Engine, workers: ScriptedExecutor, priority: Priority
) -> None:
    session_id, gate = engine.ready(), Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id, priority=priority)
    gate.wait()
    engine.stops.interrupt(CALLER, session_id, [])
    event = engine.end_of(accepted)
    assert outcome(event) == (ErrorCode.ABORT, "INTERRUPTED")
    assert engine.state() is VideoState.PAUSED
    assert engine.events() == [event]


def test_case_65_removing_a_video_forgets_its_crashes(engine: Engine, workers: ScriptedExecutor) -> None:
    for _ in range(2):
        session_id = engine.ready()
        workers.will(1, *[crash(SEGV)] * 2)
        assert engine.finished(session_id).kind is EventKind.PROCESS_DONE
        engine.removals.remove(CALLER, session_id, "v", restorable=False)


class StallTimes(ScriptedExecutor):
    """Notes how long each task may stand still."""

    def __init__(self) -> None:
        super().__init__()
        self.of_tasks: list[tuple[Task, float]] = []

    def submit(
        self,
        task: Task,
        *,
        source_fd: int | None = None,
        slot: Slot = Slot.GENERAL,
        stall_seconds: float,
        niceness: int = 0,
        on_message: Callable[[TaskMessage], None] | None = None,
    ) -> TaskRun:
        self.of_tasks.append((task, stall_seconds))
        return super().submit(
            task,
            source_fd=source_fd,
            slot=slot,
            stall_seconds=stall_seconds,
            niceness=niceness,
            on_message=on_message,
        )


@pytest.fixture(name="stall_times")
def _stall_times() -> StallTimes:
    return StallTimes()


@pytest.fixture(name="patient")
def _patient(folder: Path, stall_times: StallTimes) -> Iterator[Engine]:
    limits = replace(LIMITS, stall_seconds=STALL_SECONDS, stall_segments=STALL_SEGMENTS)
    with running_engine(folder, stall_times, limits=limits) as engine:
        yield engine


def test_case_70_a_task_may_stand_still_for_20_minutes_or_20_times_the_longest_segment(
    patient: Engine, stall_times: StallTimes
) -> None:
    assert (LIMITS.stall_seconds, LIMITS.stall_segments) == (STALL_SECONDS, 20)
    assert patient.finished(patient.ready()).kind is EventKind.PROCESS_DONE
    of_probe, *of_job = stall_times.of_tasks
    assert of_probe[1] == LIMITS.probe_stall_seconds
    assert of_job[0][1] == STALL_SECONDS
    (of_join,) = (seconds for task, seconds in of_job if isinstance(task, JoinTask))
    assert of_join > STALL_SECONDS
