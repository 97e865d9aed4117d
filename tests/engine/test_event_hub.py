"""Subscriptions: cursors, replay, filters, slow readers, limits, and how often progress comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engine.engine_under_test import OTHER_USER, USER, Engine, running_engine
from engine.scripted_executor import ScriptedExecutor
from videoprocess_server.engine.events import StatusChanged, Subscription
from videoprocess_server.engine.limits import Limits
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.records import Event, Job, JobProgress
from videoprocess_server.model.states import BlockReason

LIMITS = Limits(max_subscriber_backlog=5, max_subscribers_per_user=3)


@pytest.fixture(name="engine")
def _engine(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    with running_engine(folder, workers, limits=LIMITS) as engine:
        yield engine


class Reader:
    """A subscription and whether it was woken."""

    def __init__(
        self,
        engine: Engine,
        user_id: int = USER,
        session_id: str = "",
        after: int | None = None,
    ) -> None:
        self._hub = engine.hub
        self._woken = threading.Event()
        self.subscription: Subscription = engine.hub.subscribe(user_id, session_id, after, self._woken.set)

    def take(self) -> Sequence[StatusChanged | Job | Event]:
        self._woken.clear()
        return self._hub.take(self.subscription)

    def sequences(self) -> list[int]:
        return [item.sequence for item in self.take() if isinstance(item, Event)]

    def progress(self) -> list[Job]:
        return [item for item in self.take() if isinstance(item, Job)]

    def wait(self) -> None:
        assert self._woken.wait(5)

    @property
    def woken(self) -> bool:
        return self._woken.is_set()


def _slips(engine: Engine, count: int, session_id: str | None = None) -> None:
    """So many events, by videos nobody knows."""
    session_id = session_id or engine.session()
    for _ in range(count):
        engine.process(session_id, "nobody")


def _refused(engine: Engine, after: int) -> VideoProcessError:
    with pytest.raises(VideoProcessError) as refused:
        Reader(engine, after=after)
    return refused.value


def test_the_status_comes_first(engine: Engine) -> None:
    _slips(engine, 1)
    first, event = Reader(engine, after=0).take()
    assert first == StatusChanged(SessionStatus.READY, BlockReason.NONE, "")
    assert isinstance(event, Event)


def test_without_a_number_only_live_events_come(engine: Engine) -> None:
    _slips(engine, 2)
    reader = Reader(engine)
    assert reader.sequences() == []
    _slips(engine, 1)
    reader.wait()
    assert reader.sequences() == [3]


@pytest.mark.parametrize(("after", "expected"), [(0, [1, 2, 3]), (1, [2, 3]), (3, [])])
def test_a_number_replays_what_came_after_it(engine: Engine, after: int, expected: list[int]) -> None:
    _slips(engine, 3)
    assert Reader(engine, after=after).sequences() == expected


def test_a_reader_sees_every_event_once(engine: Engine) -> None:
    reader = Reader(engine, after=0)
    seen: list[int] = []
    for _ in range(4):
        _slips(engine, 2, session_id=None)
        seen += reader.sequences()
    assert seen == [*range(1, 9)]
    assert reader.sequences() == []


def test_a_reader_that_comes_back_misses_nothing(engine: Engine) -> None:
    reader = Reader(engine, after=0)
    _slips(engine, 2)
    seen = reader.sequences()
    engine.hub.unsubscribe(reader.subscription)
    _slips(engine, 2)
    engine.restart()
    assert [*seen, *Reader(engine, after=seen[-1]).sequences()] == [1, 2, 3, 4]


@pytest.mark.parametrize("after", [-1, 3])
def test_a_number_that_was_never_given_is_out_of_range_and_told_the_bounds(
    engine: Engine, after: int
) -> None:
    _slips(engine, 2)
    refusal = _refused(engine, after)
    assert refusal.reason == "SEQUENCE_OUT_OF_RANGE"
    assert refusal.metadata == {"oldest_sequence": "1", "newest_sequence": "2"}


def test_a_session_filter_passes_that_sessions_events_only(engine: Engine) -> None:
    mine, other = engine.session(), engine.session()
    reader = Reader(engine, session_id=mine, after=0)
    for session_id in (other, mine, other):
        _slips(engine, 1, session_id)
    assert reader.sequences() == [2]
    _slips(engine, 1, mine)
    assert reader.sequences() == [4]


def test_events_of_other_users_neither_come_nor_wake(engine: Engine) -> None:
    reader = Reader(engine, OTHER_USER, after=0)
    _slips(engine, 2)
    assert not reader.woken
    assert reader.sequences() == []
    _slips(engine, 1, engine.session(OTHER_USER))
    assert reader.sequences() == [1]


def test_a_reader_too_far_behind_is_ended_with_its_last_number_and_may_come_back(engine: Engine) -> None:
    reader = Reader(engine)
    _slips(engine, LIMITS.max_subscriber_backlog + 1)
    with pytest.raises(VideoProcessError) as ended:
        reader.take()
    assert (ended.value.reason, ended.value.metadata) == ("SUBSCRIBER_TOO_SLOW", {"last_sequence": "0"})
    engine.hub.unsubscribe(reader.subscription)
    assert len(Reader(engine, after=0).sequences()) == LIMITS.max_subscriber_backlog + 1


def test_a_long_replay_is_no_slowness_and_comes_in_parts(engine: Engine) -> None:
    count = 100
    _slips(engine, count)
    reader = Reader(engine, after=0)
    seen: list[int] = reader.sequences()
    while reader.woken:
        seen += reader.sequences()
    assert seen == [*range(1, count + 1)]


def test_a_user_has_so_many_subscriptions_and_no_more(engine: Engine) -> None:
    readers = [Reader(engine) for _ in range(LIMITS.max_subscribers_per_user)]
    with pytest.raises(VideoProcessError, match="SUBSCRIBER_LIMIT"):
        Reader(engine)
    Reader(engine, OTHER_USER)
    engine.hub.unsubscribe(readers[0].subscription)
    engine.hub.unsubscribe(readers[0].subscription)
    Reader(engine)


def test_a_new_status_reaches_everybody(engine: Engine) -> None:
    readers = [Reader(engine), Reader(engine, OTHER_USER)]
    for reader in readers:
        reader.take()
    stopping = StatusChanged(SessionStatus.NOT_READY_TEMPORARILY, BlockReason.DRAINING, "stopping")
    engine.hub.status_changed(stopping.status, stopping.reason, stopping.message)
    for reader in readers:
        assert reader.woken
        assert reader.take() == [stopping]


# progress


def _a_job(engine: Engine) -> Job:
    job_id = engine.finished(engine.ready()).job_id
    engine.idle()
    return engine.job(job_id)


def _told(engine: Engine, reader: Reader, job: Job, seconds: float) -> list[int]:
    """Report frames as fast as it goes; return those that came."""
    came: list[int] = []
    end = time.monotonic() + seconds
    frames = 0
    while time.monotonic() < end:
        frames += 1
        engine.hub.progressed(replace(job, progress=JobProgress(frames_done=frames)))
        came += [item.progress.frames_done for item in reader.progress()]
    return came


def test_progress_comes_at_most_four_times_a_second(engine: Engine) -> None:
    job = _a_job(engine)
    reader = Reader(engine)
    came = _told(engine, reader, job, 0.6)
    assert 1 <= len(came) <= 3
    assert came == sorted(came)


def test_videos_do_not_take_each_others_progress(engine: Engine) -> None:
    job = _a_job(engine)
    reader = Reader(engine)
    engine.hub.progressed(job)
    engine.hub.progressed(replace(job, job_id="another", video_id="w"))
    assert {item.video_id for item in reader.progress()} == {"v", "w"}


def test_progress_passes_the_session_filter_and_no_users_border(engine: Engine) -> None:
    job = _a_job(engine)
    mine, elsewhere = Reader(engine, session_id=job.session_id), Reader(engine, session_id=engine.session())
    theirs = Reader(engine, OTHER_USER)
    engine.hub.progressed(replace(job, job_id="running"))
    assert [len(reader.progress()) for reader in (mine, elsewhere, theirs)] == [1, 0, 0]


def test_a_slow_reader_gets_the_newest_progress_only(engine: Engine) -> None:
    job = _a_job(engine)
    reader = Reader(engine)
    for frames in (1, 2):
        engine.hub.forget_progress("running")
        engine.hub.progressed(replace(job, job_id="running", progress=JobProgress(frames_done=frames)))
    assert [item.progress.frames_done for item in reader.progress()] == [2]


def test_no_progress_comes_after_the_end(engine: Engine) -> None:
    session_id = engine.ready()
    reader = Reader(engine)
    accepted = engine.process(session_id)
    engine.end_of(accepted)
    engine.idle()
    items = reader.take()
    assert [type(item) for item in items if not isinstance(item, StatusChanged)] == [Event]
    assert reader.take() == []
