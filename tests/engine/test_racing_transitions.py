"""Every kind of a job's transition, raced for by two replicas: one drives, one end is told, whoever is late is refused."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine.engine_under_test import CALLER, LEASE_TIMES, UNHEARD, USER, Engine, until
from engine.meeting import Meeting, is_refused
from engine.scripted_executor import Act, Attempt, Gate, ScriptedExecutor, crash, fail
from engine.test_random_lives import MISTAKES
from engine.two_replicas import Pair, two_replicas
from soaking import SOAKING
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.replica_lease import ReplicaLease
from videoprocess_server.engine.source_files import SharedReference
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import Event, EventKind
from videoprocess_server.model.states import BlockReason
from videoprocess_server.model.tasks import JoinTask, PlanTask, Task, VerifyTask
from videoprocess_server.store.memory import MemoryRepository
from videoprocess_server.store.postgres import PostgresRepository
from videoprocess_server.store.repository import Repository

#: of each kind
ROUNDS = 1000 if SOAKING else 8
LIMITS = Limits(retry_backoff_seconds=1e-6, checkpoint_seconds=0.05)
#: of the threads of one round, and of transactions that have met, so that another comes first each time
MOST_JITTER_SECONDS = 0.003
VIDEO = "v"
#: what B changes when it takes the job from A
TAKING = "running to queued"


@pytest.fixture(name="store", params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def _store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(name="database")
def _database(request: pytest.FixtureRequest, store: str, folder: Path) -> Iterator[Repository]:
    kinds: Mapping[str, Callable[[], Repository]] = {
        "memory": lambda: MemoryRepository(busy_timeout_seconds=20),
        "postgres": lambda: PostgresRepository(
            request.getfixturevalue("postgres").url(),
            schema=f"test_{folder.name[-8:].lower()}",
            busy_timeout_seconds=20,
        ),
    }
    with closing(kinds[store]()) as repository:
        yield repository


@dataclass
class Round:
    """One video, of which A drives a job, or both may begin to."""

    pair: Pair
    session_id: str
    gate: Gate
    accepted: set[str] = field(default_factory=set)

    def process(self, engine: Engine) -> None:
        self.accepted.add(engine.process(self.session_id, VIDEO).job.job_id)

    def prepare(self, engine: Engine, name: str) -> None:
        """Another source; refused as long as a job is active."""
        try:
            engine.videos.prepare(
                CALLER, self.session_id, VIDEO, [SharedReference(root="media", path=f"{name}.mp4")]
            )
        except VideoProcessError as error:
            if error.reason != "SOURCE_IN_USE":
                raise


Action = Callable[[Round], None]


def _lease(engine: Engine) -> ReplicaLease:
    assert isinstance(engine.membership, ReplicaLease)
    return engine.membership


def go_on(race: Round) -> None:
    race.gate.open()


def take_over(race: Round) -> None:
    """A's lease has expired by the clock of the rows, of which A knows nothing; B lives, and looks."""
    race.pair.clock.advance(LEASE_TIMES.lease_seconds)
    _lease(race.pair.b).renew()
    _lease(race.pair.b).look()


def look(race: Round) -> None:
    _lease(race.pair.b).look()


def renew(race: Round) -> None:
    _lease(race.pair.a).renew()


def queue(race: Round) -> None:
    with race.pair.only():
        race.process(race.pair.a)


def yield_up(race: Round) -> None:
    race.pair.a.close_gate(BlockReason.OVERHEAT)
    race.gate.open()


def _then(gate: Gate, act: Act) -> Act:
    def both(attempt: Attempt) -> None:
        gate(attempt)
        act(attempt)

    return both


@dataclass(frozen=True, kw_only=True)
class Race:
    """What happens at once, in threads of its own, while A's worker waits at a place."""

    #: None: nobody drives the job yet
    place: type[Task] | int | None
    #: A's own step first, what takes the job from it last
    actions: Sequence[Action]
    #: what A's worker does when it may go on
    act: Act = lambda _attempt: None
    #: before the race, where the place is reached
    before: Action = lambda _race: None
    #: what A's transaction changes that is to meet with B's, and what B's does
    meeting: tuple[str, str] = ("running to completed", TAKING)
    #: reasons that the jobs may end for instead of being done
    faults: frozenset[str] = frozenset()


RACES: Mapping[str, Race] = {
    "accept": Race(
        place=None,
        actions=(lambda race: race.process(race.pair.a), lambda race: race.process(race.pair.b)),
        meeting=("no to queued", "no to queued"),
    ),
    "begin": Race(
        place=None,
        before=queue,
        actions=(lambda race: race.pair.a.scheduler.wake(), lambda race: race.pair.b.scheduler.wake()),
        meeting=("queued to running", "queued to running"),
    ),
    "lease": Race(place=PlanTask, actions=(go_on, take_over), meeting=("lease", TAKING)),
    "finish": Race(place=1, actions=(go_on, take_over), meeting=("finish", TAKING)),
    "give_back": Race(place=1, act=crash(-11), actions=(go_on, take_over), meeting=("give back", TAKING)),
    "requeue": Race(place=1, actions=(yield_up, take_over), meeting=("running to queued", TAKING)),
    "complete": Race(place=VerifyTask, actions=(go_on, take_over)),
    "fail": Race(
        place=JoinTask,
        act=fail("DECODE_FAILED"),
        actions=(go_on, take_over),
        meeting=("running to failed", TAKING),
        faults=frozenset({"DECODE_FAILED"}),
    ),
    "interrupt": Race(
        place=VerifyTask,
        actions=(
            go_on,
            lambda race: race.pair.b.stops.interrupt(CALLER, race.session_id, []),
            take_over,
        ),
        faults=frozenset({"INTERRUPTED"}),
    ),
    "reset": Race(
        place=VerifyTask,
        actions=(go_on, lambda race: race.pair.b.stops.reset(CALLER, race.session_id), take_over),
        faults=frozenset({"RESET"}),
    ),
    "remove": Race(
        place=VerifyTask,
        actions=(
            go_on,
            lambda race: race.pair.b.removals.remove(CALLER, race.session_id, VIDEO, restorable=False),
            take_over,
        ),
        faults=frozenset({"REMOVED"}),
    ),
    "prepare": Race(
        place=VerifyTask,
        actions=(
            go_on,
            lambda race: race.prepare(race.pair.a, "x"),
            lambda race: race.prepare(race.pair.b, "y"),
            take_over,
        ),
    ),
    "renew": Race(
        place=1,
        before=lambda race: race.pair.clock.advance(LEASE_TIMES.lease_seconds),
        actions=(renew, look),
        meeting=("renew", TAKING),
    ),
}


class Racing:
    """Rounds of one race, over the same rows and files."""

    def __init__(self, pair: Pair, race: Race, seed: int, log: Sequence[Mapping[str, object]]) -> None:
        self._pair = pair
        self._race = race
        self._draw = random.Random(seed)
        self._log = log
        self._meeting = Meeting(race.meeting, self._pause_seconds)
        self._histories = [witness.history for witness in pair.witnesses]
        #: rounds in which the job was taken from A's driver while that was at work, and those in which it was not; in which both
        #: transactions were under way at once; in which A's change was made; in which somebody was refused
        self.outcomes: Counter[str] = Counter()

    def run(self, number: int) -> None:
        """Race once. The first two times the actions come one after the other: the last one first, the first one first."""
        pair = self._pair
        for engine in pair.engines:
            _lease(engine).renew()
        before = self._newest_event()
        current = self._begin()
        begun, lines = self._begun_count(), len(self._log)
        self._race.before(current)
        self._meeting.arrange(self._histories)
        self._act(current, number)
        current.gate.open()
        self._end(current)
        events = self._events_after(before)
        assert Counter(event.job_id for event in events) == Counter(current.accepted)
        reasons = {event.fault.reason for event in events if event.fault is not None}
        assert reasons <= self._race.faults
        assert all(event.kind is EventKind.PROCESS_DONE for event in events if event.fault is None)
        taken = any(line["event"] == "jobs_recovered" for line in self._log[lines:])
        if self._race.place is None:
            assert 1 <= self._begun_count() - begun <= len(events)
        # In the first round the job is taken before A's step: A may have made the change much later, when it began the job again.
        self._meeting.learn(self._histories, (0, 1) if number else (1,))
        self.outcomes["taken" if taken else "kept"] += 1
        self.outcomes["contended"] += self._meeting.is_contended(self._histories)
        self.outcomes["made"] += self._meeting.is_made(self._histories[0])
        self.outcomes["refused"] += is_refused(self._histories)
        self._clear(current)

    def _begin(self) -> Round:
        pair = self._pair
        for name in (VIDEO, "x", "y"):
            (pair.a.shared / f"{name}.mp4").write_bytes(b"video " + name.encode())
        session_id = pair.a.ready(VIDEO)
        current = Round(pair, session_id, Gate())
        if self._race.place is not None:
            pair.a.executor.will(self._race.place, _then(current.gate, self._race.act))
            with pair.only(pair.a):
                current.process(pair.a)
                current.gate.wait()
        return current

    def _act(self, current: Round, number: int) -> None:
        actions = self._race.actions
        if number < 2:
            for action in actions[:: 1 if number else -1]:
                action(current)
                self._settle(current)
            return
        errors: list[BaseException] = []
        together = threading.Barrier(len(actions))

        def act(action: Action, pause_seconds: float) -> None:
            together.wait()
            time.sleep(pause_seconds)
            try:
                action(current)
            except BaseException as error:  # noqa: BLE001 the round tells it
                errors.append(error)

        threads = [threading.Thread(target=act, args=(action, self._pause_seconds())) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    def _pause_seconds(self) -> float:
        return self._draw.choice((0, self._draw.random())) * MOST_JITTER_SECONDS

    def _settle(self, current: Round) -> None:
        """Wait until whoever may go on has ended."""
        if current.gate.is_open:
            self._pair.a.idle()

    def _end(self, current: Round) -> None:
        pair = self._pair

        def is_over() -> bool:
            if not isinstance(pair.database, PostgresRepository):  # there everybody is told
                pair.wake()
            with pair.database.read() as reader:
                jobs = [reader.get_job(job_id) for job_id in current.accepted]
            return all(job is not None and job.end_time_us is not None for job in jobs)

        until(is_over)
        pair.a.close_gate(BlockReason.NONE)

    def _clear(self, current: Round) -> None:
        """Remove the video; of its files nothing is left then that no row names."""
        pair = self._pair
        pair.a.removals.remove(CALLER, current.session_id, VIDEO, restorable=False)
        for engine in pair.engines:
            engine.scheduler.evict(USER, VIDEO)
            engine.idle()
            engine.sessions.close(CALLER, current.session_id)

        def is_clean() -> bool:
            pair.a.sweeper.sweep()
            with pair.database.read() as reader:
                artifacts = set(reader.list_all_artifact_ids())
            blobs = pair.a.blobs
            return (
                set(blobs.keys(BlobKind.RESULT)) == artifacts
                and not blobs.keys(BlobKind.WORK)
                and not blobs.keys(BlobKind.SEGMENT)
            )

        until(is_clean)

    def _newest_event(self) -> int:
        with self._pair.database.read() as reader:
            return reader.event_bounds(USER)[1]

    def _events_after(self, sequence: int) -> Sequence[Event]:
        with self._pair.database.read() as reader:
            return reader.list_events(USER, sequence, 100)

    def _begun_count(self) -> int:
        return sum(witness.changes["queued to running"] for witness in self._pair.witnesses)


@pytest.mark.parametrize("kind", RACES)
def test_of_two_replicas_one_makes_the_transition(
    folder: Path, database: Repository, store: str, kind: str
) -> None:
    notices = database if isinstance(database, PostgresRepository) else UNHEARD
    with ExitStack() as stack:
        log = stack.enter_context(capture_logs())
        pair = stack.enter_context(
            two_replicas(folder, database, ScriptedExecutor, limits=LIMITS, notices=notices)
        )
        racing = Racing(pair, RACES[kind], len(kind), log)
        for number in range(ROUNDS):
            racing.run(number)
    assert [witness.violations for witness in pair.witnesses] == [[], []]
    assert [line for line in log if line["event"] in MISTAKES] == []
    if RACES[kind].place is not None:
        assert racing.outcomes["taken"] > 0
        assert racing.outcomes["kept"] > 0
    assert racing.outcomes["contended"] > 0 or not SOAKING
    for name, count in racing.outcomes.items():
        print(f"count {store}_{kind}_{name} = {count}")
