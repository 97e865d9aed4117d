"""What is admitted: request ids, the queue's limit, draining, and how long a session stays open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from engine.engine_under_test import CALLER, OTHER_SETTINGS, OTHER_USER, USER, Engine, running_engine
from engine.scripted_executor import Gate, ScriptedExecutor
from videoprocess_server.engine.limits import Limits
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import ExecutionMode, StreamIntent
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.settings_snapshot import StreamInfo
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import AnalyzeTask

IDLE_SECONDS = 60
LIMITS = Limits(
    max_sessions=4,
    max_sessions_per_user=3,
    max_active_jobs=3,
    max_active_jobs_per_user=2,
    max_running_jobs=1,
    session_idle_timeout_us=IDLE_SECONDS * 1_000_000,
)


@pytest.fixture(name="engine")
def _engine(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    with running_engine(folder, workers, limits=LIMITS) as engine:
        yield engine


def _request_id() -> str:
    return str(uuid4())


def _create(engine: Engine, request_id: str, mode: ExecutionMode = ExecutionMode.DEFAULT) -> str:
    return engine.sessions.create(CALLER, USER, mode, request_id).session_id


# request ids


def test_the_same_request_id_opens_one_session(engine: Engine) -> None:
    request_id = _request_id()
    assert _create(engine, request_id) == _create(engine, request_id)
    assert _create(engine, "") != _create(engine, "")


def test_a_request_id_with_other_arguments_is_refused(engine: Engine) -> None:
    request_id = _request_id()
    _create(engine, request_id)
    with pytest.raises(VideoProcessError, match="REQUEST_ID_REUSED"):
        _create(engine, request_id, ExecutionMode.LOW_POWER)


def test_request_ids_are_each_users_own(engine: Engine) -> None:
    request_id = _request_id()
    mine = _create(engine, request_id)
    theirs = engine.sessions.create(CALLER, OTHER_USER, ExecutionMode.DEFAULT, request_id)
    assert theirs.session_id != mine
    assert theirs.user_id == OTHER_USER


def test_the_same_request_id_is_one_job_however_it_ended(engine: Engine) -> None:
    session_id = engine.ready()
    request_id = _request_id()
    first = engine.process(session_id, request_id=request_id)
    engine.end_of(first)
    again = engine.process(session_id, request_id=request_id)
    assert again.job.job_id == first.job.job_id
    assert again.job.report is not None
    assert len(engine.events()) == 1


def test_the_same_request_id_is_one_job_over_a_restart(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    request_id = _request_id()
    workers.will(AnalyzeTask, Gate())
    first = engine.process(session_id, request_id=request_id)
    engine.restart()
    assert engine.process(session_id, request_id=request_id).job.job_id == first.job.job_id


def test_a_process_request_id_with_another_video_is_refused(engine: Engine) -> None:
    session_id = engine.ready()
    request_id = _request_id()
    engine.process(session_id, request_id=request_id)
    with pytest.raises(VideoProcessError, match="REQUEST_ID_REUSED"):
        engine.process(session_id, "another", request_id=request_id)


# limits


def test_the_queues_limit_of_a_user_refuses_and_changes_nothing(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready("a")
    workers.will(AnalyzeTask, Gate())
    for name in "ab":
        engine.prepare(session_id, name)
        engine.process(session_id, name)
    engine.prepare(session_id, "c")
    with pytest.raises(VideoProcessError, match="QUEUE_LIMIT") as refused:
        engine.process(session_id, "c")
    assert refused.value.retry_after_seconds
    assert engine.state("c") is VideoState.PENDING
    assert not engine.events()


def test_the_queues_limit_holds_over_all_users(engine: Engine, workers: ScriptedExecutor) -> None:
    workers.will(AnalyzeTask, Gate())
    mine, theirs = engine.ready("a"), engine.ready("a", OTHER_USER)
    engine.prepare(mine, "b")
    engine.prepare(theirs, "b")
    for session_id, name in ((mine, "a"), (mine, "b"), (theirs, "a")):
        engine.process(session_id, name)
    with pytest.raises(VideoProcessError, match="QUEUE_LIMIT"):
        engine.process(theirs, "b")


def test_sessions_are_limited_for_each_user_and_for_all(engine: Engine) -> None:
    mine = [engine.session() for _ in range(3)]
    with pytest.raises(VideoProcessError, match="SESSION_LIMIT"):
        engine.session()
    engine.session(OTHER_USER)
    with pytest.raises(VideoProcessError, match="SESSION_LIMIT"):
        engine.session(OTHER_USER)
    engine.sessions.close(CALLER, mine[0])
    engine.session(OTHER_USER)


def test_a_session_has_so_many_streams_and_no_more(engine: Engine) -> None:
    session_id = engine.session()
    streams = [StreamInfo(stream_id=index, intent=StreamIntent.VIDEO) for index in range(17)]
    engine.sessions.create_streams(CALLER, session_id, streams[:16])
    with pytest.raises(VideoProcessError, match="STREAM_LIMIT"):
        engine.sessions.create_streams(CALLER, session_id, streams[16:])


# draining


def test_a_draining_service_accepts_no_work_and_changes_nothing(engine: Engine) -> None:
    session_id = engine.ready()
    engine.scheduler.begin_drain()
    with pytest.raises(VideoProcessError, match="DRAINING") as refused:
        engine.process(session_id)
    assert refused.value.retry_after_seconds
    assert engine.state() is VideoState.PENDING


# sessions


def test_settings_of_a_job_are_those_of_its_acceptance(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(AnalyzeTask, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.commit(session_id, OTHER_SETTINGS)
    engine.sessions.release_streams(CALLER, session_id, [1])
    engine.sessions.close(CALLER, session_id)
    gate.open()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    snapshot = engine.job(accepted.job.job_id).snapshot
    assert snapshot is not None
    assert snapshot.mode_setting.zoom_ratio == 1.0


def test_streams_and_settings_survive_a_restart(engine: Engine) -> None:
    session_id = engine.ready()
    engine.restart()
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE


def test_a_closed_session_is_closed_for_every_call_and_closing_it_again_is_fine(engine: Engine) -> None:
    session_id = engine.ready()
    engine.sessions.close(CALLER, session_id)
    engine.sessions.close(CALLER, session_id)
    with pytest.raises(VideoProcessError, match="SESSION_CLOSED"):
        engine.process(session_id)
    with pytest.raises(VideoProcessError, match="SESSION_CLOSED"):
        engine.sessions.close(CALLER, "never there")


def test_a_session_that_nobody_uses_is_closed(engine: Engine) -> None:
    session_id = engine.session()
    engine.clock.advance(IDLE_SECONDS)
    engine.housekeeping.tidy()
    assert engine.is_open(session_id)
    engine.clock.advance(1)
    engine.housekeeping.tidy()
    assert not engine.is_open(session_id)


def test_every_call_keeps_a_session_open(engine: Engine) -> None:
    session_id = engine.session()
    for _ in range(5):
        engine.clock.advance(IDLE_SECONDS - 1)
        engine.housekeeping.tidy()
        engine.videos.pending(CALLER, session_id, None, 10)
    engine.clock.advance(IDLE_SECONDS - 1)
    engine.housekeeping.tidy()
    assert engine.is_open(session_id)


def test_a_subscriber_keeps_a_session_open(engine: Engine) -> None:
    session_id = engine.session()
    subscription = engine.hub.subscribe(USER, session_id, None, lambda: None)
    engine.clock.advance(10 * IDLE_SECONDS)
    engine.housekeeping.tidy()
    assert engine.is_open(session_id)
    engine.hub.unsubscribe(subscription)
    engine.clock.advance(2 * IDLE_SECONDS)
    engine.housekeeping.tidy()
    assert not engine.is_open(session_id)


def test_running_work_keeps_a_session_open(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(AnalyzeTask, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.clock.advance(10 * IDLE_SECONDS)
    engine.housekeeping.tidy()
    assert engine.is_open(session_id)
    gate.open()
    engine.end_of(accepted)
    engine.clock.advance(2 * IDLE_SECONDS)
    engine.housekeeping.tidy()
    assert not engine.is_open(session_id)


def test_a_start_gives_every_session_its_idle_time_again(engine: Engine) -> None:
    session_id = engine.session()
    engine.clock.advance(10 * IDLE_SECONDS)
    engine.restart()
    engine.housekeeping.tidy()
    assert engine.is_open(session_id)


def test_work_of_a_session_that_was_closed_goes_on_and_another_session_may_interrupt_it(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(AnalyzeTask, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.sessions.close(CALLER, session_id)
    assert engine.stops.interrupt(CALLER, engine.session(), ["v"]) == [accepted.job.job_id]
    engine.end_of(accepted)
    assert engine.state() is VideoState.PAUSED
