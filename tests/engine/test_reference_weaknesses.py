"""What the reference gets wrong, by its W-numbers (its section 6.6), and what is right instead. W7 is with the gates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, LIMITS, Engine, outcome, running_engine
from engine.scripted_executor import Gate, ScriptedExecutor, stall
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import JobState, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, EncodeTask, JoinTask, PlanTask, Task, VerifyTask

PHASES = [AnalyzeTask, PlanTask, 1, JoinTask, VerifyTask]


@pytest.fixture(name="narrow")
def _narrow(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    """Runs one job at a time, so that one that was forgotten would block all others."""
    with running_engine(folder, workers, limits=replace(LIMITS, max_running_jobs=1)) as engine:
        yield engine


def _next_runs(engine: Engine) -> None:
    assert engine.finished(engine.ready("next"), "next").kind is EventKind.PROCESS_DONE


@pytest.mark.parametrize("where", PHASES)
@pytest.mark.parametrize("restorable", [True, False])
def test_w2_removing_a_running_video_frees_its_place(
    narrow: Engine, workers: ScriptedExecutor, where: type[Task] | int, *, restorable: bool
) -> None:
    """There the job stays in the running set and the scheduler is blocked until a restart."""
    session_id = narrow.ready()
    gate = Gate()
    workers.will(where, gate)
    accepted = narrow.process(session_id)
    gate.wait()
    narrow.removals.remove(CALLER, session_id, "v", restorable=restorable)
    assert outcome(narrow.end_of(accepted)) == (ErrorCode.ABORT, "REMOVED")
    _next_runs(narrow)
    narrow.idle()
    assert len(narrow.events()) == 2


def test_w4_a_job_ends_and_frees_its_place_though_nobody_listens(narrow: Engine) -> None:
    """There a result that meets a dead callback leaves the job running."""
    session_id = narrow.ready()
    subscription = narrow.hub.subscribe(narrow.sessions.use(CALLER, session_id).user_id, "", None, _dead)
    accepted = narrow.process(session_id)
    assert narrow.end_of(accepted).kind is EventKind.PROCESS_DONE
    narrow.hub.unsubscribe(subscription)
    narrow.sessions.close(CALLER, session_id)
    _next_runs(narrow)
    assert [event.sequence for event in narrow.events()] == [1, 2]


def _dead() -> None:
    raise RuntimeError("the reader's event loop is closed")


def test_w4_a_job_whose_session_is_closed_ends_with_its_event(
    narrow: Engine, workers: ScriptedExecutor
) -> None:
    session_id = narrow.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = narrow.process(session_id)
    gate.wait()
    narrow.sessions.close(CALLER, session_id)
    gate.open()
    event = narrow.end_of(accepted)
    assert (event.kind, event.session_id) == (EventKind.PROCESS_DONE, session_id)
    _next_runs(narrow)


def test_w9_what_is_in_the_trash_is_not_dispatched(narrow: Engine, workers: ScriptedExecutor) -> None:
    """There a trashed video is processed when it is the best candidate."""
    session_id = narrow.ready("ahead")
    gate = Gate()
    workers.will(AnalyzeTask, gate)
    ahead = narrow.process(session_id, "ahead")
    gate.wait()
    narrow.prepare(session_id, "v")
    queued = narrow.process(session_id)
    narrow.removals.remove(CALLER, session_id, "v", restorable=True)
    assert outcome(narrow.end_of(queued)) == (ErrorCode.ABORT, "REMOVED")
    gate.open()
    assert narrow.end_of(ahead).kind is EventKind.PROCESS_DONE
    _next_runs(narrow)
    assert narrow.state() is VideoState.DELETED
    assert workers.count(EncodeTask) == 6
    assert outcome(narrow.finished(session_id)) == (ErrorCode.INVALID_ID, "UNKNOWN_VIDEO_ID")


@pytest.mark.parametrize("where", PHASES)
def test_w9_interrupting_what_is_in_the_trash_does_not_bring_it_back(
    narrow: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    """There it is paused and so the first in line."""
    session_id = narrow.ready()
    gate = Gate()
    workers.will(where, gate)
    accepted = narrow.process(session_id)
    gate.wait()
    narrow.removals.remove(CALLER, session_id, "v", restorable=True)
    assert narrow.stops.interrupt(CALLER, session_id, ["v"]) == []
    assert narrow.stops.reset(CALLER, session_id) == []
    narrow.end_of(accepted)
    _next_runs(narrow)
    narrow.restart()
    assert narrow.state() is VideoState.DELETED
    assert [outcome(event) for event in narrow.events()[:1]] == [(ErrorCode.ABORT, "REMOVED")]


@pytest.mark.parametrize("where", PHASES)
def test_w12_a_job_that_timed_out_has_stopped_and_frees_its_place(
    narrow: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    """There the timer's end interrupts nothing, and what ran stays on the list of what runs."""
    session_id = narrow.ready()
    workers.will(where, stall)
    accepted = narrow.process(session_id)
    assert outcome(narrow.end_of(accepted)) == (ErrorCode.TIMEOUT, "STALLED")
    narrow.idle()
    begun = len(workers.begun)
    _next_runs(narrow)
    assert len(workers.begun) == begun + 8  # the probe and the seven tasks of the next
    assert narrow.state() is VideoState.FAILED


def test_w12_what_is_completed_does_not_run_again_when_the_service_dies(
    narrow: Engine, workers: ScriptedExecutor
) -> None:
    session_id = narrow.ready()
    accepted = narrow.process(session_id)
    assert narrow.end_of(accepted).kind is EventKind.PROCESS_DONE
    begun = len(workers.begun)
    for _ in range(3):
        narrow.restart()
        narrow.idle()
    _next_runs(narrow)
    assert narrow.state() is VideoState.COMPLETED
    assert narrow.job(accepted.job.job_id).state is JobState.COMPLETED
    assert len(workers.begun) == begun + 8
    assert len(narrow.events()) == 2
