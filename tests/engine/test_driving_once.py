"""One and only one drives a job: two replicas race for every transition, and whoever is late is refused."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine.engine_under_test import CALLER, OTHER_SETTINGS, USER, Engine, FakeClock, until
from engine.scripted_executor import Act, Gate, ScriptedExecutor, crash, fail, stall
from engine.test_random_lives import MISTAKES
from engine.two_replicas import Pair, all_rows, two_replicas
from soaking import SOAKING
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.recovery import take_back
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.settings_snapshot import ModeSetting
from videoprocess_server.model.states import ACTIVE_VIDEO_STATES, TERMINAL_JOB_STATES
from videoprocess_server.model.tasks import AnalyzeTask, JoinTask, PlanTask, Task, VerifyTask
from videoprocess_server.store.postgres import PostgresRepository
from videoprocess_server.store.repository import Repository
from videoprocess_server.store.sqlite import SqliteRepository

VIDEOS = ("x", "y", "z")
LIMITS = Limits(retry_backoff_seconds=1e-6, checkpoint_seconds=0.05)
CALLS = 4000 if SOAKING else 400
PLACES: tuple[type[Task] | int, ...] = (AnalyzeTask, PlanTask, 0, 1, JoinTask, VerifyTask)


@pytest.fixture(name="database", params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def _database(request: pytest.FixtureRequest, folder: Path) -> Iterator[Repository]:
    if request.param == "sqlite":
        with closing(SqliteRepository(folder / "shared.sqlite3", busy_timeout_seconds=20)) as repository:
            yield repository
        return
    url = request.getfixturevalue("postgres").url()
    with closing(
        PostgresRepository(url, schema=f"test_{folder.name[-8:].lower()}", busy_timeout_seconds=20)
    ) as repository:
        yield repository


def _take_all_back(pair: Pair) -> int:
    """As when every replica seems gone."""
    return len(take_back(pair.database, FakeClock(), lambda _: ()))


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask, 0, 2, JoinTask, VerifyTask])
def test_a_driver_whose_job_was_taken_back_changes_nothing_any_more(
    pair: Pair, where: type[Task] | int
) -> None:
    session_id = pair.a.ready()
    gate = Gate()
    pair.a.executor.will(where, gate)
    with pair.only(pair.a):
        accepted = pair.a.process(session_id)
        gate.wait()
    assert _take_all_back(pair) == 1
    pair.b.scheduler.wake()
    event = pair.b.end_of(accepted)
    pair.b.idle()
    assert event.kind is EventKind.PROCESS_DONE
    with pair.database.read() as reader:
        before = all_rows(reader, [USER])
    gate.open()
    pair.a.idle()
    with pair.database.read() as reader:
        assert all_rows(reader, [USER]) == before
    assert set(pair.a.blobs.keys(BlobKind.RESULT)) == {artifact.artifact_id for artifact in event.artifacts}
    assert pair.a.blobs.keys(BlobKind.WORK) == []
    assert not pair.a.blobs.keys(BlobKind.SEGMENT)


def test_a_segment_that_a_stale_driver_finishes_is_not_named(pair: Pair) -> None:
    session_id = pair.a.ready()
    late, held = Gate(), Gate()
    pair.a.executor.will(1, late)
    pair.b.executor.will(1, held)
    with pair.only(pair.a):
        accepted = pair.a.process(session_id)
        late.wait()
    _take_all_back(pair)
    pair.b.scheduler.wake()
    held.wait()
    before = pair.b.segments()
    late.open()
    pair.a.idle()
    assert pair.b.segments() == before
    held.open()
    assert pair.b.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert pair.b.executor.encoded == [1, 2]


def test_frozen_work_is_stale_once_another_replica_has_driven_the_video(
    pair: Pair,
) -> None:
    session_id = pair.a.ready()
    gate = Gate()
    pair.a.executor.will(1, gate)
    with pair.only(pair.a):
        pair.a.process(session_id)
        gate.wait()
    pair.a.stops.interrupt(CALLER, session_id, [])
    until(lambda: pair.a.scheduler.parked_count() == 1)
    meanwhile = Gate()
    pair.b.executor.will(2, meanwhile)
    with pair.only(pair.b):
        pair.b.process(session_id)
        meanwhile.wait()
    pair.b.stops.interrupt(CALLER, session_id, [])
    pair.b.idle()
    with pair.only(pair.a):
        again = pair.a.process(session_id)
        assert pair.a.end_of(again).kind is EventKind.PROCESS_DONE
    assert pair.a.scheduler.parked_count() == 0
    assert pair.a.executor.encoded == [0, 1, 2]


def test_frozen_work_goes_on_though_its_replica_seemed_gone(pair: Pair) -> None:
    """Nobody else has driven the video meanwhile, so its leases are still its own."""
    session_id = pair.a.ready()
    gate = Gate()
    pair.a.executor.will(1, gate)
    with pair.only(pair.a), capture_logs() as log:
        pair.a.process(session_id)
        gate.wait()
        pair.a.stops.interrupt(CALLER, session_id, [])
        until(lambda: pair.a.scheduler.parked_count() == 1)
        assert _take_all_back(pair) == 0
        gate.open()
        again = pair.a.process(session_id)
        assert pair.a.end_of(again).kind is EventKind.PROCESS_DONE
    assert pair.a.executor.encoded == [0, 1, 2]
    assert [line for line in log if line["event"] in MISTAKES] == []


class Caller(threading.Thread):
    """Calls one replica at random."""

    def __init__(self, engine: Engine, seed: int, session_id: str) -> None:
        super().__init__(daemon=True)
        self._engine = engine
        self._random = random.Random(seed)
        self._session_id = session_id
        self.accepted: set[str] = set()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in range(CALLS):
                self._call()
        except BaseException as error:  # noqa: BLE001 the test tells it
            self.error = error

    def _call(self) -> None:
        engine, session_id, draw = self._engine, self._session_id, self._random
        video_id, place = draw.choice(VIDEOS), draw.choice(PLACES)
        act: Act = draw.choice([crash(-11), crash(-9), stall, fail("DECODE_FAILED")])
        calls: dict[str, tuple[int, Callable[[], object]]] = {
            "process": (6, lambda: self._process(video_id)),
            "interrupt": (3, lambda: engine.stops.interrupt(CALLER, session_id, [video_id])),
            "reset": (1, self._reset),
            "remove": (1, lambda: engine.removals.remove(CALLER, session_id, video_id, restorable=False)),
            "fail": (1, lambda: engine.executor.will(place, act)),
            "wake": (2, engine.scheduler.wake),
            "wait": (2, lambda: self._wait(video_id)),
        }
        name = draw.choices(list(calls), [weight for weight, _ in calls.values()])[0]
        try:
            calls[name][1]()
        except VideoProcessError as error:
            if error.reason not in {"SOURCE_IN_USE", "NO_STREAM_CREATED"}:
                raise

    def _process(self, video_id: str) -> None:
        settings = OTHER_SETTINGS if self._random.random() < 0.1 else ModeSetting()
        self._engine.commit(self._session_id, settings)
        self._engine.prepare(self._session_id, video_id)
        self.accepted.add(self._engine.process(self._session_id, video_id).job.job_id)

    def _wait(self, video_id: str) -> None:
        """Give its job a chance to end by itself."""
        deadline = time.monotonic() + 0.2
        video = self._engine.video(video_id)
        while video is not None and video.state in ACTIVE_VIDEO_STATES and time.monotonic() < deadline:
            self._engine.scheduler.wake()
            time.sleep(0.002)
            video = self._engine.video(video_id)

    def _reset(self) -> None:
        self._engine.stops.reset(CALLER, self._session_id)
        self._session_id = self._engine.ready_session()


@pytest.mark.slow
def test_of_two_that_race_for_every_transition_one_drives_each_time(
    folder: Path, database: Repository
) -> None:
    """Calls come to both, and jobs are taken back from drivers that live, as from replicas that were thought gone."""
    with ExitStack() as stack:
        log = stack.enter_context(capture_logs())
        pair = stack.enter_context(
            two_replicas(folder, database, lambda: ScriptedExecutor(2, 2), limits=LIMITS)
        )
        callers = [Caller(engine, seed, engine.ready_session()) for seed, engine in enumerate(pair.engines)]
        for caller in callers:
            caller.start()
        draw, taken = random.Random(len(callers)), 0
        while any(caller.is_alive() for caller in callers):
            callers[0].join(draw.uniform(0.0, 0.2))
            taken += _take_all_back(pair)
            pair.wake()
        assert [caller.error for caller in callers] == [None, None]

        def is_over() -> bool:
            pair.wake()
            with database.read() as reader:
                return reader.count_active_jobs() == 0

        until(is_over)
        for engine in pair.engines:
            engine.idle()
        told = [event.job_id for event in pair.a.events()]
        assert len(told) == len(set(told))
        assert set(told) == set.union(*(caller.accepted for caller in callers))
        assert all(pair.a.job(job_id).state in TERMINAL_JOB_STATES for job_id in told)
    assert [witness.violations for witness in pair.witnesses] == [[], []]
    assert [line for line in log if line["event"] in MISTAKES] == []
    changes = pair.witnesses[0].changes + pair.witnesses[1].changes
    assert {"lease", "finish", "running to aborted"} <= set(changes)
    assert all(witness.changes["queued to running"] > 10 for witness in pair.witnesses)
    assert taken > 10
    for name, count in {**changes, "taken_back": taken}.items():
        print(f"count {name.replace(' ', '_')} = {count}")
