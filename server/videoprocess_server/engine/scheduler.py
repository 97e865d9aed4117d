"""Runs accepted jobs: asks the policy who may have how many workers, and has it so. Each running job has a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from videoprocess_server.engine import endings
from videoprocess_server.engine.blocked_time import BlockedTime
from videoprocess_server.engine.conditions import Condition, Conditions
from videoprocess_server.engine.driver import JobDriver
from videoprocess_server.engine.durable import Durable
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.membership import ALONE, Membership
from videoprocess_server.engine.parking import ParkingLimits, ParkingLot
from videoprocess_server.engine.preemption import Preemption
from videoprocess_server.engine.queue_view import Driven, QueueView
from videoprocess_server.engine.recovery import queue_again
from videoprocess_server.engine.usage import Usage
from videoprocess_server.engine.work import Stop, StopReason
from videoprocess_server.engine.workshop import Workshop
from videoprocess_server.model import job_times
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.records import Driver, Job, Priority, Video
from videoprocess_server.model.scheduling import Candidate, Decision, Situation, decide
from videoprocess_server.model.states import BlockReason, JobState, Trigger, VideoState
from videoprocess_server.store.repository import Reader, Repository, StoreUnavailableError, Transaction

log = structlog.get_logger(__name__)

#: how long a job that met a full disk or the like waits before it is tried again
PAUSE_SECONDS = 10.0
#: shares are dealt again at least so often while anything waits or runs
PASS_SECONDS = 2.0
RETRY_SECONDS = 1.0
STORE_AWAY = Condition(
    SessionStatus.NOT_READY_TEMPORARILY, BlockReason.STORE_UNREACHABLE, "the store is unreachable"
)
#: of a video whose frozen workers may be of use again
MAY_GO_ON = frozenset({VideoState.PAUSED, VideoState.QUEUED})
#: drivers of one job that may break before it ends in ABNORMAL
MAX_BREAKS = 3


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What jobs share."""

    #: worker places, each of one core
    cores: int
    memory_bytes: int


@dataclass(frozen=True)
class _Pause:
    """A job that is not tried before a time."""

    until: float
    reason: BlockReason


class Scheduler:
    """Runs jobs. Implements `Work`.

    Args:
        repository: where the queue is.
        shop: what drivers work with.
        capacity: what jobs share.
        parking: how much may stay frozen.
        gate: why NORMAL work must not run now; NONE where it may.
        over_quota: whether a user's NORMAL work must wait until there is space again.
        conditions: told when the store is away.
        membership: who this is among those that share the rows.
    """

    def __init__(
        self,
        repository: Repository,
        shop: Workshop,
        capacity: Capacity,
        parking: ParkingLimits,
        conditions: Conditions,
        gate: Callable[[], BlockReason] = lambda: BlockReason.NONE,
        over_quota: Callable[[int], bool] = lambda _user_id: False,
        membership: Membership = ALONE,
    ) -> None:
        self._repository = repository
        self._shop = shop
        self._capacity = capacity
        self._conditions = conditions
        self._gate = gate
        self._membership = membership
        self._closing = threading.Event()
        self._durable = Durable(repository, self._closing)
        self._lot: ParkingLot[JobDriver] = ParkingLot(parking)
        self._queue = QueueView(shop.limits, over_quota)
        self._usage = Usage()
        self._preemption = Preemption(shop.hub)
        self._blocked_time = BlockedTime(shop.limits.max_blocked_seconds)
        self._changed = threading.Condition()
        self._running: dict[str, Driven] = {}
        self._threads: set[threading.Thread] = set()
        self._pauses: dict[str, _Pause] = {}
        self._blocked: Mapping[str, BlockReason] = {}
        self._breaks: dict[str, int] = {}
        self._draining = False
        self._woken = True
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    # -- Work

    @property
    def draining(self) -> bool:
        """Whether nothing new is admitted."""
        return self._draining

    def start(self) -> None:
        """Begin to run jobs."""
        self._thread.start()

    def wake(self) -> None:
        """Look for queued jobs."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def stop(self, job_id: str, reason: StopReason) -> bool:
        """Stop a running job's workers; it ends by itself. False where no driver has it."""
        with self._changed:  # else the driver may work for the video's next job by then
            entry = self._running.get(job_id)
            if entry is not None:
                entry.driver.stop(Stop(reason=reason))
        return entry is not None

    def stop_all(self, stop: Stop) -> None:
        """Stop the workers of all running jobs."""
        with self._changed:
            drivers = [entry.driver for entry in self._running.values()]
        for driver in drivers:
            driver.stop(stop)

    def evict(self, user_id: int, video_id: str) -> None:
        """Drop the frozen workers of a video's interrupted work; nothing happens where there are none."""
        driver = self._lot.take(user_id, video_id)
        if driver is not None:
            driver.evict()

    def live(self, job: Job) -> Job:
        """Return the job with its progress of this moment, or with what it waits for."""
        if job.state is JobState.QUEUED:
            return replace(job, blocked_by=self._why_not_running(job))
        with self._changed:
            entry = self._running.get(job.job_id)
        if entry is None or job.state is not JobState.RUNNING:
            return job
        return replace(job, progress=entry.driver.live().progress)

    def driver_of(self, job_id: str) -> Driver | None:
        """Return as whom a job is driven here; None where it is not."""
        with self._changed:
            entry = self._running.get(job_id)
        return entry.driver.job.driver if entry is not None else None

    def driven_ids(self) -> Sequence[str]:
        """Return the ids of the jobs that are driven here."""
        with self._changed:
            return list(self._running)

    def parked_videos(self) -> Sequence[tuple[int, str]]:
        """Return user_id and video_id of all frozen work."""
        return self._lot.names()

    def running_count(self) -> int:
        """Return how many jobs have a driver."""
        with self._changed:
            return len(self._running)

    def parked_count(self) -> int:
        """Return how many jobs' frozen workers wait."""
        return self._lot.count()

    def parked_bytes(self) -> int:
        """Return the memory of frozen workers."""
        return self._lot.resident_bytes()

    def begin_drain(self) -> None:
        """Admit nothing new."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def close(self, timeout_seconds: float) -> None:
        """Let open segments end within the time, give running jobs back to the queue, and end all threads."""
        self.begin_drain()
        if self._thread.ident is not None:
            self._thread.join()  # after this no driver is added
        self._lot.clear()
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            threads = list(self._threads)
        self.stop_all(Stop(reason=StopReason.DRAIN, blocked_by=BlockReason.DRAINING, deadline=deadline))
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()) + RETRY_SECONDS)
        self._closing.set()
        for thread in threads:
            thread.join(RETRY_SECONDS)

    # -- its thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._woken or self._draining, timeout=self._idle_seconds())
                if self._draining:
                    return
                self._woken = False
            try:
                self._pass()
                self._conditions.end("store")
            except Exception as error:
                if isinstance(error, StoreUnavailableError):
                    log.warning("store_unavailable", error=str(error))
                    self._conditions.begin("store", STORE_AWAY)
                else:
                    log.exception("pass_failed")
                self._closing.wait(RETRY_SECONDS)
                self.wake()

    def _idle_seconds(self) -> float | None:
        """Return how long nothing needs to be done unless somebody wakes it; the caller holds the lock."""
        now = time.monotonic()
        times = [max(0.0, pause.until - now) for pause in self._pauses.values()]
        expiry = self._lot.seconds_to_next_expiry()
        if expiry is not None:
            times.append(expiry)
        if self._busy:
            times.append(PASS_SECONDS)
        return min(times, default=None)

    def _pass(self) -> None:
        """Decide who runs, and have it so."""
        now = time.monotonic()
        self._lot.keep_within_limits()
        self._end_blocked_too_long(now)  # before a job whose pause is over gets its next try
        with self._changed:
            self._pauses = {job_id: pause for job_id, pause in self._pauses.items() if pause.until > now}
            running = dict(self._running)
        self._usage.charge(_by_user(running.values()), now)
        gate = self._gate()
        with self._repository.read() as reader:
            users = [user.user_id for user in reader.list_active_users()]
            usage = self._usage.keep_only(users)
            seen = self._queue.look(
                reader,
                usage,
                running,
                self._pauses.keys(),
                self._is_parked_alone,
            )
        self._queue_lost_again(seen.elsewhere)
        situation = Situation(
            candidates=seen.candidates,
            cores=self._capacity.cores,
            memory_bytes=max(1, self._capacity.memory_bytes - self._lot.resident_bytes()),
            max_running_jobs=self._shop.limits.max_running_jobs,
            usage_seconds=usage,
            gate=gate,
            may_start=self._membership.may_drive(),
            high_elsewhere={job.user_id for job in seen.high_elsewhere},
        )
        decision = decide(situation)
        self._busy = bool(users)
        self._blocked = {**decision.blocked, **seen.excluded}
        self._preemption.tell(decision, seen)
        self._apply(decision, seen.candidates, running)

    def _queue_lost_again(self, elsewhere: Iterable[Job]) -> None:
        """Take jobs back that are this replica's and have no driver: the COMMIT that began one was in doubt, or a driver broke.

        Only this thread begins any, and a driver is forgotten when its job is not RUNNING any more.
        """
        lost = {(job.job_id, job.driver): job for job in elsewhere if self._is_mine(job)}
        if not lost:
            return
        with self._repository.transaction() as tx:
            for job in tx.list_running_jobs():
                if (job.job_id, job.driver) in lost:  # nobody has taken it over since
                    log.warning("job_without_driver", job_id=job.job_id)
                    queue_again(tx, job, self._shop.clock.now_us())
        for user_id in {job.user_id for job in lost.values()}:
            self._shop.hub.committed(user_id)
        self.wake()

    def _is_mine(self, job: Job) -> bool:
        return job.driver is not None and job.driver.replica_id == self._membership.replica_id

    def _apply(
        self, decision: Decision, candidates: Iterable[Candidate], running: Mapping[str, Driven]
    ) -> None:
        deadline = time.monotonic() + self._shop.limits.checkpoint_seconds
        alone = {candidate.job_id for candidate in candidates if candidate.alone}
        for job_id, entry in running.items():
            workers = decision.workers.get(job_id, 0)
            self._note(job_id, replace(entry, workers=workers))
            if workers:
                # What is to run alone waits until nobody else does.
                entry.driver.allow(workers, alone=job_id in alone and len(running) == 1)
            else:
                reason = self._blocked.get(job_id, BlockReason.NONE)
                entry.driver.stop(Stop(reason=StopReason.YIELD, blocked_by=reason, deadline=deadline))
        for candidate in candidates:
            workers = decision.workers.get(candidate.job_id, 0)
            if workers and not candidate.running and not self._draining:
                self._start(candidate, workers)

    def _note(self, job_id: str, entry: Driven) -> None:
        with self._changed:
            if job_id in self._running:
                self._running[job_id] = entry

    def _start(self, candidate: Candidate, workers: int) -> None:
        driver: JobDriver | None = None
        try:
            with self._repository.transaction() as tx:
                queued = self._startable(tx, candidate.job_id)
                if queued is None:
                    return
                driver = self._parked_for(tx, queued[0])  # while the rows still name whose it is
                job, video, passed_over = self._begin(tx, *queued)
                if driver is None:
                    driver = JobDriver(job, video, self._durable, self._shop, self._park, self.wake)
                    self._launch(driver)
                else:
                    driver.take_over(job, video)
                driver.allow(workers)
                with self._changed:  # before the commit: from then on Interrupt asks for its driver
                    self._running[job.job_id] = Driven(driver, workers, candidate.turn)
        except (
            BaseException
        ):  # nothing of it is durable; or it is, where the COMMIT is in doubt: see the next pass
            with self._changed:
                self._running.pop(candidate.job_id, None)
            if driver is not None:
                driver.evict()
            raise
        self._queue.started(candidate.user_id, was_oldest=not passed_over)
        driver.go_on()
        self.wake()  # it may want more workers than a job that is not known yet

    def _launch(self, driver: JobDriver) -> None:
        """Start its thread, which waits: a thread that cannot be had must not leave a job running without a driver."""
        thread = threading.Thread(
            target=self._drive, args=(driver,), name=f"job-{driver.job.job_id[:8]}", daemon=True
        )
        with self._changed:
            thread.start()
            self._threads.add(thread)

    def _is_parked_alone(self, job: Job) -> bool:
        parked = self._lot.get(job.user_id, job.video_id)
        return parked is not None and parked.alone

    def _parked_for(self, reader: Reader, job: Job) -> JobDriver | None:
        """Take the frozen work of the job's video out, if the job can go on with it; else it is given up."""
        parked = self._lot.take(job.user_id, job.video_id)
        if parked is not None and not parked.can_go_on_with(reader, job):
            parked.evict()
            return None
        return parked

    def _startable(self, tx: Transaction, job_id: str) -> tuple[Job, Video] | None:
        """Return a job that is still queued, and its video; None where it is not, or nothing may be driven here now."""
        job = tx.get_job(job_id)
        video = tx.get_video(job.user_id, job.video_id) if job else None
        if job is None or video is None or job.state is not JobState.QUEUED or self._is_driven(job):
            return None
        return (job, video) if self._membership.may_drive() else None

    def _begin(self, tx: Transaction, job: Job, video: Video) -> tuple[Job, Video, bool]:
        """Move a queued job to RUNNING; return it, its video, and whether an older one of its user was passed over."""
        oldest = tx.get_oldest_queued(job.user_id)
        now = self._shop.clock.now_us()
        driver = Driver(replica_id=self._membership.replica_id, fence=new_id())
        begun = replace(
            job_times.begun(job, now),
            state=JobState.RUNNING,
            driver=driver,
            blocked_by=BlockReason.NONE,  # but not `blocked_since_us`: it may meet the same full disk again at once
        )
        tx.put_job(begun)
        moved = endings.move(tx, video, Trigger.DISPATCH, now)
        moved = replace(
            moved,
            attempt_count=moved.attempt_count + (job.start_time_us is None),
            last_driver=driver,
        )
        tx.put_video(moved)
        return begun, moved, oldest is not None and oldest.job_id != job.job_id

    def _is_driven(self, job: Job) -> bool:
        """Whether an earlier driver of the job's video has not let go of it yet; when it has, it wakes us."""
        with self._changed:
            drivers = [entry.driver for entry in self._running.values()]
        return any(
            (driver.video.user_id, driver.video.video_id) == (job.user_id, job.video_id) for driver in drivers
        )

    # -- drivers' threads

    def _park(self, driver: JobDriver) -> None:
        """A driver's job is not its any more: from here on another may take it over."""
        job = driver.job
        self._lot.park(job.user_id, job.video_id, driver)
        video = self._durable.read(lambda reader: reader.get_video(job.user_id, job.video_id))
        with self._changed:
            self._forget(driver)
            draining = self._draining
        # Whoever asked to give it up, just after the job's end and just before this, did not find it.
        if draining or video is None or video.state not in MAY_GO_ON:
            self.evict(job.user_id, job.video_id)

    def _forget(self, driver: JobDriver) -> None:
        for job_id in [job_id for job_id, entry in self._running.items() if entry.driver is driver]:
            del self._running[job_id]

    def _drive(self, driver: JobDriver) -> None:
        try:
            driver.run()
        except Exception:
            log.exception("driver_broke", job_id=driver.job.job_id)
            self._after_break(driver)
        finally:
            with self._changed:
                job_id = driver.job.job_id
                if driver.waits_for is not None:
                    self._pauses[job_id] = _Pause(time.monotonic() + PAUSE_SECONDS, driver.waits_for)
                else:
                    self._breaks.pop(job_id, None)
                self._forget(driver)
                self._threads.discard(threading.current_thread())
            self.wake()

    def _after_break(self, driver: JobDriver) -> None:
        """A mistake of ours must not leave a job without a driver: another try, or an end."""
        job_id = driver.job.job_id
        self._breaks[job_id] = self._breaks.get(job_id, 0) + 1
        driver.waits_for = BlockReason.RETRY_BACKOFF
        try:
            if self._breaks[job_id] < MAX_BREAKS:
                driver.give_back(BlockReason.RETRY_BACKOFF)
            else:
                del self._breaks[job_id]
                driver.give_up()
        except Exception:
            log.exception("job_left_running", job_id=job_id)

    # -- what is not running

    def _why_not_running(self, job: Job) -> BlockReason:
        if self._draining:
            return BlockReason.DRAINING
        pause = self._pauses.get(job.job_id)
        if pause is not None:
            return pause.reason
        decided = self._blocked.get(job.job_id, BlockReason.NONE)
        if decided is not BlockReason.NONE:
            return decided
        return self._gate() if job.priority is Priority.NORMAL else BlockReason.NONE

    def _end_blocked_too_long(self, now: float) -> None:
        if not self._blocked_time.is_due(now):
            return
        with self._repository.read() as reader:
            queued = [job for job in reader.list_active_jobs() if job.state is JobState.QUEUED]
        reasons = {job.job_id: self._why_not_running(job) for job in queued}
        now_us = self._shop.clock.now_us()
        for job in self._blocked_time.over(queued, reasons, now, now_us):
            with self._repository.transaction() as tx:
                self._blocked_time.end(tx, job, reasons[job.job_id], now_us)
            self._shop.hub.committed(job.user_id)
            self.evict(job.user_id, job.video_id)


def _by_user(entries: Iterable[Driven]) -> dict[int, int]:
    workers: dict[int, int] = {}
    for entry in entries:
        user_id = entry.driver.job.user_id
        workers[user_id] = workers.get(user_id, 0) + entry.workers
    return workers
