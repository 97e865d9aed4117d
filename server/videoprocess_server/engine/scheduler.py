"""Takes queued jobs in order of acceptance and gives each running one a driver thread."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import structlog

from videoprocess_server.engine import endings
from videoprocess_server.engine.driver import JobDriver, Workshop
from videoprocess_server.engine.durable import Durable
from videoprocess_server.engine.work import StopReason
from videoprocess_server.model.records import Job, Video
from videoprocess_server.model.states import JobState, Trigger
from videoprocess_server.store.repository import Repository, StoreUnavailableError, Transaction

log = structlog.get_logger(__name__)

#: how long a job that met a full disk waits before it is tried again
PAUSE_SECONDS = 10.0
#: queued jobs looked at in one pass; those ahead of them run or wait out a pause
LOOK_AHEAD = 64
RETRY_SECONDS = 1.0
#: drivers of one job that may break before it ends in ABNORMAL
MAX_BREAKS = 3


class Scheduler:
    """Runs jobs. Implements `Work`."""

    def __init__(self, repository: Repository, shop: Workshop) -> None:
        self._repository = repository
        self._shop = shop
        self._closing = threading.Event()
        self._durable = Durable(repository, self._closing)
        self._changed = threading.Condition()
        self._drivers: dict[str, tuple[JobDriver, threading.Thread]] = {}
        self._not_before: dict[str, float] = {}
        self._breaks: dict[str, int] = {}
        self._draining = False
        self._woken = True
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

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
        with self._changed:
            entry = self._drivers.get(job_id)
        if entry is None:
            return False
        entry[0].stop(reason)
        return True

    def live(self, job: Job) -> Job:
        """Return the job with its progress of this moment."""
        with self._changed:
            entry = self._drivers.get(job.job_id)
        return entry[0].live() if entry is not None and job.state is JobState.RUNNING else job

    def running_count(self) -> int:
        """Return how many jobs have a driver."""
        with self._changed:
            return len(self._drivers)

    def begin_drain(self) -> None:
        """Admit nothing new."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def close(self, timeout_seconds: float) -> None:
        """Give running jobs back to the queue and end all threads; finished segments stay finished."""
        self.begin_drain()
        if self._thread.ident is not None:
            self._thread.join()  # after this no driver is added
        with self._changed:
            entries = list(self._drivers.values())
        for driver, _ in entries:
            driver.stop(StopReason.DRAIN)
        deadline = time.monotonic() + timeout_seconds
        for _, thread in entries:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._closing.set()
        for _, thread in entries:
            thread.join(RETRY_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._woken or self._draining, timeout=self._next_pause_end())
                if self._draining:
                    return
                self._woken = False
            try:
                self._dispatch()
            except Exception as error:
                if isinstance(error, StoreUnavailableError):
                    log.warning("store_unavailable", error=str(error))
                else:
                    log.exception("dispatch_failed")
                self._closing.wait(RETRY_SECONDS)
                self.wake()

    def _next_pause_end(self) -> float | None:
        """Drop pauses that are over and return the seconds until the next one is; the caller holds the lock."""
        now = time.monotonic()
        self._not_before = {job_id: until for job_id, until in self._not_before.items() if until > now}
        return min((until - now for until in self._not_before.values()), default=None)

    def _dispatch(self) -> None:
        """Start drivers for the first queued jobs, as many as may run."""
        limit = self._shop.limits.max_running_jobs
        now = time.monotonic()
        with self._changed:
            paused = {job_id for job_id, until in self._not_before.items() if until > now}
        with self._repository.read() as reader:
            jobs = reader.list_active_jobs(limit=limit + len(paused) + LOOK_AHEAD)
        for job in jobs:
            if self.running_count() >= limit or self._draining:
                return
            if job.state is JobState.QUEUED and job.job_id not in paused:
                self._start(job.job_id)

    def _start(self, job_id: str) -> None:
        driver: JobDriver | None = None
        try:
            with self._repository.transaction() as tx:
                begun = self._begin(tx, job_id)
                if begun is None:
                    return
                driver = JobDriver(*begun, self._durable, self._shop)
                thread = threading.Thread(
                    target=self._drive, args=(job_id, driver), name=f"job-{job_id[:8]}", daemon=True
                )
                with self._changed:  # before the commit: from then on Interrupt asks for its driver
                    self._drivers[job_id] = (driver, thread)
            thread.start()
        except BaseException:
            with self._changed:
                self._drivers.pop(job_id, None)
            if driver is not None:
                driver.give_back()
            raise

    def _begin(self, tx: Transaction, job_id: str) -> tuple[Job, Video] | None:
        job = tx.get_job(job_id)
        video = tx.get_video(job.user_id, job.video_id) if job else None
        if job is None or video is None or job.state is not JobState.QUEUED:
            return None
        now = self._shop.clock.now_us()
        running = replace(job, state=JobState.RUNNING, start_time_us=job.start_time_us or now)
        tx.put_job(running)
        moved = endings.move(tx, video, Trigger.DISPATCH, now)
        moved = replace(moved, attempt_count=moved.attempt_count + (job.start_time_us is None))
        tx.put_video(moved)
        return running, moved

    def _drive(self, job_id: str, driver: JobDriver) -> None:
        try:
            driver.run()
        except Exception:
            self._breaks[job_id] = self._breaks.get(job_id, 0) + 1
            log.exception("driver_broke", job_id=job_id, times=self._breaks[job_id])
            driver.wants_pause.set()
            self._after_break(job_id, driver)
        finally:
            with self._changed:
                if driver.wants_pause.is_set():
                    self._not_before[job_id] = time.monotonic() + PAUSE_SECONDS
                else:
                    self._breaks.pop(job_id, None)
                del self._drivers[job_id]
            self.wake()

    def _after_break(self, job_id: str, driver: JobDriver) -> None:
        """A mistake of ours must not leave a job without a driver: another try, or an end."""
        try:
            if self._breaks[job_id] < MAX_BREAKS:
                driver.give_back()
            else:
                driver.give_up()
        except Exception:
            log.exception("job_left_running", job_id=job_id)
