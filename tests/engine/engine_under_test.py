"""The engine's real objects over a real store, with workers and a clock of the tests', and a way to kill it all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from engine.made_up_media import BUILD, VIDEO_STREAM
from engine.scripted_executor import PATIENCE_SECONDS, ScriptedExecutor
from videoprocess_server.blobs.blob_store import BlobKind, BlobStore, GoOn, go_on_always
from videoprocess_server.blobs.local import LocalBlobStore
from videoprocess_server.engine.authorisation import Caller, Policy, TrustEveryCaller
from videoprocess_server.engine.clock_watch import ClockWatch
from videoprocess_server.engine.conditions import Conditions
from videoprocess_server.engine.copied_files import CopiedFiles
from videoprocess_server.engine.deliveries import Deliveries
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.housekeeping import Housekeeping
from videoprocess_server.engine.jobs import Accepted, Jobs, ProcessRequest
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.membership import ALONE, Membership
from videoprocess_server.engine.parking import ParkingLimits
from videoprocess_server.engine.passed_files import PassedFiles
from videoprocess_server.engine.probes import Probes
from videoprocess_server.engine.quotas import Quotas
from videoprocess_server.engine.recovery import recover
from videoprocess_server.engine.removal import Removals
from videoprocess_server.engine.replica_lease import LeaseTimes, ReplicaLease
from videoprocess_server.engine.results import Results
from videoprocess_server.engine.retention import Expirations
from videoprocess_server.engine.scheduler import Capacity, Scheduler
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.sharing import Sharing
from videoprocess_server.engine.source_files import SharedReference
from videoprocess_server.engine.sources import SharedRoot, Sources
from videoprocess_server.engine.stops import Stops
from videoprocess_server.engine.sweeper import Sweeper
from videoprocess_server.engine.uploads import Uploads
from videoprocess_server.engine.videos import Videos
from videoprocess_server.engine.watermarks import Watermarks
from videoprocess_server.engine.work import Work
from videoprocess_server.engine.workshop import Workshop
from videoprocess_server.execution.executor import Slot, TaskHandle
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.hdi import ErrorCode, ExecutionMode
from videoprocess_server.model.plan import PlanSettings
from videoprocess_server.model.records import Event, EventKind, Job, Priority, SegmentRecord, Video
from videoprocess_server.model.settings_snapshot import ModeSetting, StreamInfo
from videoprocess_server.model.states import TERMINAL_JOB_STATES, BlockReason, VideoState
from videoprocess_server.model.tasks import BuildInfo, MediaLimits, Task, TaskMessage
from videoprocess_server.store.notices import Notices
from videoprocess_server.store.repository import Reader, Repository, Transaction
from videoprocess_server.store.sqlite import SqliteRepository

USER = 100
OTHER_USER = 200
CALLER = Caller(peer="unix:")
SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
MEMORY_BYTES = 8 << 30
PARKED_SECONDS = 600.0
COPY_STALL_SECONDS = 0.5
#: the service's, but nothing waits longer than a test has patience: ten back-offs in a row are a third of a second
LIMITS = Limits(retry_backoff_seconds=1e-6, checkpoint_seconds=0.2)
#: renewed and looked at when a test says so
LEASE_TIMES = LeaseTimes(renew_seconds=3600.0, look_seconds=3600.0)
OTHER_SETTINGS = ModeSetting(zoom_ratio=2.0)


class FakeClock:
    """Wall and monotonic time that stand still until a test moves them."""

    def __init__(self) -> None:
        self._now_us = 1_700_000_000 * SECOND_US
        self._monotonic = 0.0

    def now_us(self) -> int:
        return self._now_us

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
        self.jump(seconds)

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._now_us += round(seconds * SECOND_US)


class Unheard:
    """Notices that nobody hears, as while the database is away."""

    def listen(
        self,
        on_event: Callable[[int], None],
        on_job: Callable[[str], None],
        on_reconnect: Callable[[], None],
        on_announcement: Callable[[str, str], None] = lambda _topic, _payload: None,
    ) -> Callable[[], None]:
        return lambda: None

    def announce(self, topic: str, payload: str) -> None:
        """Nobody listens."""


UNHEARD: Notices = Unheard()


class _UndoneError(Exception):
    """The service died in this transaction."""


class Life:
    """One run of the service. Once it is over, every thread of it that touches the store stops there for good."""

    def __init__(self) -> None:
        self._over = threading.Event()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def end(self) -> None:
        self._over.set()

    def check(self) -> None:
        if self.over:
            threading.Event().wait()


class MortalRepository:
    """A Repository that a dead service can no longer use; a transaction open at its death is undone."""

    def __init__(self, inner: Repository, life: Life) -> None:
        self._inner = inner
        self._life = life

    @contextmanager
    def read(self) -> Iterator[Reader]:
        self._life.check()
        with self._inner.read() as reader:
            yield reader

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self._life.check()
        with suppress(_UndoneError), self._inner.transaction() as tx:
            if not self._life.over:
                yield tx
            if self._life.over:
                raise _UndoneError
        self._life.check()

    def ping(self) -> None:
        self._inner.ping()

    def close(self) -> None:
        """The store outlives the service."""


class MortalBlobs(LocalBlobStore):
    """Blobs that a dead service can no longer delete or publish."""

    def __init__(self, root: Path, life: Life) -> None:
        super().__init__(root)
        self._life = life

    def delete(self, kind: BlobKind, key: str) -> None:
        self._life.check()
        super().delete(kind, key)

    def publish(
        self, work_key: str, kind: BlobKind, key: str, sha256: str, go_on: GoOn = go_on_always
    ) -> None:
        self._life.check()
        super().publish(work_key, kind, key, sha256, go_on)


class MortalExecutor:
    """The workers as one life of the service sees them; a dead one gets none."""

    def __init__(self, inner: ScriptedExecutor, life: Life) -> None:
        self._inner = inner
        self._life = life

    @property
    def worker_count(self) -> int:
        return self._inner.worker_count

    def start(self) -> None:
        """They outlive the service."""

    def submit(
        self,
        task: Task,
        *,
        source_fd: int | None = None,
        slot: Slot = Slot.GENERAL,
        stall_seconds: float,
        niceness: int = 0,
        on_message: Callable[[TaskMessage], None] | None = None,
    ) -> TaskHandle:
        run = self._inner.submit(
            task,
            source_fd=source_fd,
            slot=slot,
            stall_seconds=stall_seconds,
            niceness=niceness,
            on_message=on_message,
        )
        if self._life.over:
            run.cancel()
        self._life.check()
        return run

    def worker_pids(self) -> Sequence[int]:
        return self._inner.worker_pids()

    def ping(self) -> None:
        self._inner.ping()

    def close(self) -> None:
        """They outlive the service."""


Blobs = Callable[[Path, Life], BlobStore]


class Engine:
    """Everything below rpc, composed as the service does it.

    Args:
        folder: of database, blobs and shared root.
        executor: the workers.
        limits: as the service's, but for short pauses.
        parking: how much may stay frozen.
        policy: who may act for whom.
        blobs: makes the blob store of a life.
        database: rows that it shares with other engines; whoever opened them closes them.
        replica_id: who it is among those.
        server_clock: what those compare their leases by.
        notices: between those.
    """

    def __init__(
        self,
        folder: Path,
        executor: ScriptedExecutor,
        *,
        limits: Limits | None = None,
        parking: ParkingLimits | None = None,
        policy: Policy | None = None,
        blobs: Blobs = MortalBlobs,
        database: Repository | None = None,
        replica_id: str = "",
        server_clock: Clock | None = None,
        notices: Notices = UNHEARD,
    ) -> None:
        self.folder = folder
        self.executor = executor
        self.clock = FakeClock()
        self.limits = limits or LIMITS
        #: why NORMAL work must not run
        self.gate = BlockReason.NONE
        self._parking = parking or ParkingLimits(max_bytes=MEMORY_BYTES, max_seconds=PARKED_SECONDS)
        self.policy = policy or TrustEveryCaller()
        self.build: BuildInfo = BUILD
        self.space_left = True
        self._make_blobs = blobs
        self._shares_database = database is not None
        self._database = database or SqliteRepository(folder / "database.sqlite3", busy_timeout_seconds=20)
        self._replica_id = replica_id
        self._server_clock = server_clock or self.clock
        self._notices = notices
        self.shared = folder / "shared"
        self.shared.mkdir(exist_ok=True)
        self.published = folder / "published"
        self.published.mkdir(exist_ok=True)
        self._compose()

    def _compose(self) -> None:
        self._life = Life()
        self.repository = MortalRepository(self._database, self._life)
        self.blobs = self._make_blobs(self.folder / "blobs", self._life)
        executor = MortalExecutor(self.executor, self._life)
        self.hub = EventHub(self.repository, self.limits)
        self.conditions = Conditions(self.hub)
        roots = {
            "media": SharedRoot(name="media", path=self.shared),
            "out": SharedRoot(name="out", path=self.published, writable=True),
        }
        self.deliveries = Deliveries(roots)
        self.sweeper = Sweeper(self.repository, self.blobs, self.clock, self.deliveries.withdraw)
        self.quotas = Quotas(self.repository, self.blobs, self.limits.user_quota_bytes, self.clock.monotonic)
        sources = Sources(self.blobs, roots)
        self.sessions = Sessions(self.repository, self.hub, self.policy, self.clock, self.limits)
        sharing = self._sharing() if self._shares_database else None
        self.membership: Membership = sharing.lease if sharing else ALONE
        self.scheduler = Scheduler(
            self.repository,
            Workshop(
                blobs=self.blobs,
                sources=sources,
                deliveries=self.deliveries,
                executor=executor,
                hub=self.hub,
                sweeper=self.sweeper,
                clock=self.clock,
                limits=self.limits,
                plan_settings=PlanSettings(),
                build=lambda: self.build,
            ),
            Capacity(cores=executor.worker_count, memory_bytes=MEMORY_BYTES),
            self._parking,
            self.conditions,
            gate=lambda: self.gate,
            over_quota=lambda user_id: bool(self.quotas.exceeded(user_id)),
            membership=self.membership,
        )
        self.work: Work = sharing.work() if sharing else self.scheduler
        probes = Probes(executor, self.limits)
        self.passed = PassedFiles(self.policy, self.clock.monotonic)
        self.passed.open(self.folder / f"{self.membership.replica_id}.sock")
        copies = CopiedFiles(
            self.repository,
            self.blobs,
            self.passed,
            self.sweeper,
            self.clock,
            self.limits,
            self.quotas,
            lambda: self.space_left,
            stall_seconds=COPY_STALL_SECONDS,
        )
        self.watermarks = Watermarks(self.repository, self.sessions, sources, probes, copies)
        self.videos = Videos(
            self.repository,
            self.sessions,
            sources,
            probes,
            self.policy,
            self.clock,
            self.limits,
            MediaLimits(),
            self.work,
            self.sweeper,
            copies,
        )
        self.jobs = Jobs(
            self.repository,
            self.sessions,
            self.hub,
            self.work,
            self.clock,
            self.limits,
            PlanSettings(),
            lambda: self.build,
        )
        self.stops = Stops(
            self.repository, self.sweeper, self.sessions, self.hub, self.work, self.clock, self.limits
        )
        self.removals = Removals(
            self.repository,
            self.sessions,
            self.hub,
            self.work,
            self.sweeper,
            self.policy,
            self.clock,
            self.limits,
        )
        self.uploads = Uploads(
            self.repository,
            self.blobs,
            sources,
            self.policy,
            self.clock,
            self.limits,
            self.quotas,
            lambda: self.space_left,
        )
        self.results = Results(self.repository, self.blobs, self.policy)
        self.housekeeping = Housekeeping(
            self.sessions,
            Expirations(self.repository, self.uploads, self.work, self.clock, self.limits.retention),
            self.sweeper,
            ClockWatch(self.clock, self.clock.monotonic, self.limits.retention.steady_clock_seconds),
            interval_seconds=3600,
        )
        recover(self.repository, self.blobs, self.clock, self.membership.others)
        self.membership.start()
        self.scheduler.start()

    def _sharing(self) -> Sharing:
        life = self._life

        def scheduler() -> Scheduler:
            life.check()  # else the thread that watches a lease goes on for good
            return self.scheduler

        return Sharing(
            self.repository,
            self._notices,
            self._server_clock.now_us,
            self.clock,
            self._replica_id,
            self.hub,
            self.sessions,
            scheduler,
            LEASE_TIMES,
            self.clock.monotonic,
        )

    # -- its life

    def kill(self) -> None:
        """End the service as kill -9 does: nothing of it writes any more, its workers are gone, no thread is asked."""
        if isinstance(self.membership, ReplicaLease):
            self.membership.stop_listening()  # what it hears last may need the store
        self._life.end()
        with self._database.transaction():
            """Whatever was open is undone by now."""
        self.executor.kill_all()
        self.scheduler.begin_drain()  # lets its thread end; it changes nothing

    def restart(self) -> None:
        """Kill it and start it anew over the same store."""
        self.kill()
        self._compose()

    def stop_orderly(self, grace_seconds: float = 0.2) -> None:
        self.scheduler.close(grace_seconds)
        self.membership.close()

    def start_again(self) -> None:
        """Start anew after `stop_orderly`."""
        self._life.end()
        self._compose()

    def close(self) -> None:
        self.kill()
        self.executor.close()
        if not self._shares_database:
            self._database.close()

    # -- what its operator does

    def close_gate(self, reason: BlockReason) -> None:
        """Hold NORMAL work back; NONE opens the gate."""
        self.gate = reason
        self.scheduler.wake()

    # -- what callers do

    def session(self, user_id: int = USER, mode: ExecutionMode = ExecutionMode.DEFAULT) -> str:
        return self.sessions.create(CALLER, user_id, mode, "").session_id

    def commit(self, session_id: str, mode_setting: ModeSetting | None = None) -> None:
        self.sessions.commit_streams(CALLER, session_id, mode_setting or ModeSetting())

    def ready_session(
        self,
        user_id: int = USER,
        mode_setting: ModeSetting | None = None,
        mode: ExecutionMode = ExecutionMode.DEFAULT,
        streams: Sequence[StreamInfo] = (VIDEO_STREAM,),
    ) -> str:
        """A session with committed streams."""
        session_id = self.session(user_id, mode)
        self.sessions.create_streams(CALLER, session_id, streams)
        self.commit(session_id, mode_setting)
        return session_id

    def prepare(self, session_id: str, video_id: str, content: bytes = b"video") -> None:
        """Prepare a shared file of the video's name."""
        path = self.shared / f"{video_id}.mp4"
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        file = SharedReference(root="media", path=path.name)
        self.videos.prepare(CALLER, session_id, video_id, [file])

    def ready(self, video_id: str = "v", user_id: int = USER) -> str:
        """A session of the user that may process the video at once."""
        session_id = self.ready_session(user_id)
        self.prepare(session_id, video_id)
        return session_id

    def process(
        self,
        session_id: str,
        video_id: str = "v",
        timestamp_us: int = 0,
        request_id: str = "",
        priority: Priority | None = None,
    ) -> Accepted:
        request = ProcessRequest(
            video_id=video_id, timestamp_us=timestamp_us, priority=priority, request_id=request_id
        )
        return self.jobs.process(CALLER, session_id, request)

    def finished(self, session_id: str, video_id: str = "v") -> Event:
        """Process the video and return how that ended."""
        return self.end_of(self.process(session_id, video_id))

    # -- what there is

    def video(self, video_id: str = "v", user_id: int = USER) -> Video | None:
        with self._database.read() as reader:
            return reader.get_video(user_id, video_id)

    def state(self, video_id: str = "v", user_id: int = USER) -> VideoState:
        video = self.video(video_id, user_id)
        assert video is not None
        return video.state

    def is_open(self, session_id: str) -> bool:
        with self._database.read() as reader:
            session = reader.get_session(session_id)
        return session is not None and session.close_time_us is None

    def job(self, job_id: str) -> Job:
        with self._database.read() as reader:
            job = reader.get_job(job_id)
        assert job is not None
        return job

    def segments(self, video_id: str = "v", user_id: int = USER) -> Sequence[SegmentRecord]:
        """The rows of the video's newest plan."""
        with self._database.read() as reader:
            plans = reader.list_plans(user_id, video_id)
            return reader.list_segments(plans[-1].plan_id) if plans else ()

    def events(self, user_id: int = USER) -> Sequence[Event]:
        with self._database.read() as reader:
            return reader.list_events(user_id, 0, 10_000)

    def blocked_by(self, accepted: Accepted) -> BlockReason:
        """What the queued job waits for, as GetVideo tells it."""
        return self.work.live(self.job(accepted.job.job_id)).blocked_by

    def done_videos(self) -> list[str]:
        """The videos of the user's finished jobs, in the order of their events."""
        return [event.video_id for event in self.events() if event.kind is EventKind.PROCESS_DONE]

    def end_of(self, accepted: Accepted) -> Event:
        """Wait for the job's terminal event."""
        job = accepted.job
        until(lambda: self.job(job.job_id).state in TERMINAL_JOB_STATES)
        (event,) = (event for event in self.events(job.user_id) if event.job_id == job.job_id)
        return event

    def idle(self) -> None:
        """Wait until no driver is left; queued jobs may be."""
        until(lambda: self.scheduler.running_count() == 0)


@contextmanager
def running_engine(
    folder: Path, executor: ScriptedExecutor | None = None, **more: object
) -> Iterator[Engine]:
    engine = Engine(folder, executor or ScriptedExecutor(), **more)  # type: ignore[arg-type]
    try:
        yield engine
    finally:
        engine.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def outcome(event: Event) -> tuple[ErrorCode, str]:
    """How a job failed."""
    assert event.fault is not None, f"it did not fail: {event}"
    return event.fault.error_code, event.fault.reason


def other_build(build: BuildInfo) -> BuildInfo:
    return replace(build, versions={"libavcodec": "2"})
