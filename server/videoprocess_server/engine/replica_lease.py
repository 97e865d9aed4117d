"""This service's row among the replicas: kept alive by a thread; jobs of those whose row has expired are taken back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from videoprocess_server.engine.recovery import is_orphan, take_back
from videoprocess_server.engine.work import Stop, StopReason
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND, Clock
from videoprocess_server.model.records import Replica
from videoprocess_server.model.states import BlockReason
from videoprocess_server.store.repository import Reader, Repository, StoreUnavailableError

log = structlog.get_logger(__name__)

#: how running jobs stop then: where nobody has taken them back meanwhile, they are queued again
LEASE_LOST = Stop(reason=StopReason.DRAIN, blocked_by=BlockReason.STORE_UNREACHABLE)

_RETRY_SECONDS = 1.0
_MARGIN_SHARE = 10


@dataclass(frozen=True, kw_only=True)
class LeaseTimes:
    """How long a replica is believed in."""

    #: from a renewal on its jobs are left to it; so long they wait after a kill -9
    lease_seconds: float = 20.0
    #: between two renewals; much less than a lease lasts, so that one may fail
    renew_seconds: float = 4.0
    #: between two looks for replicas that are gone; so much longer at most their jobs wait
    look_seconds: float = 4.0

    @property
    def retry_seconds(self) -> float:
        """Until the next try when a renewal has failed."""
        return min(_RETRY_SECONDS, self.renew_seconds)

    @property
    def margin_seconds(self) -> float:
        """Before its end, in which what is driven stops; and clocks may differ in speed."""
        return self.lease_seconds / _MARGIN_SHARE


class ReplicaLease:
    """Implements `Membership`.

    Args:
        repository: what the replicas share.
        clock: what rows of jobs are written by.
        replica_id: the same in all lives of one replica.
        now_us: the clock that all replicas compare with, microseconds since 1970.
        lost: called when no renewal came through for so long that others may take the jobs: stop driving.
        found_dead: called when another replica is gone, after its jobs were taken back.
        listen: begins to hear the others; returns what ends that.
        times: how long all that takes.
        monotonic: seconds that never jump.
    """

    def __init__(
        self,
        repository: Repository,
        clock: Clock,
        replica_id: str,
        now_us: Callable[[], int],
        lost: Callable[[], None],
        found_dead: Callable[[], None],
        listen: Callable[[], Callable[[], None]],
        times: LeaseTimes | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._replica_id = replica_id
        self._now_us = now_us
        self._lost = lost
        self._found_dead = found_dead
        self._listen = listen
        #: called where this one is to hear nothing more
        self.stop_listening: Callable[[], None] = lambda: None
        self._times = times or LeaseTimes()
        self._monotonic = monotonic
        self._drives_until = monotonic()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=f"replica-{name}", daemon=True)
            for name, run in (("lease", self._keep), ("look", self._look_out), ("watch", self._watch))
        ]

    @property
    def replica_id(self) -> str:
        """See `Membership`."""
        return self._replica_id

    def may_drive(self) -> bool:
        """See `Membership`."""
        return self._monotonic() < self._drives_until

    def others(self, reader: Reader) -> Collection[str]:
        """See `Membership`."""
        return self._living(reader, self._now_us()) - {self._replica_id}

    def start(self) -> None:
        """See `Membership`.

        Raises:
            StoreUnavailableError: the others cannot be told.
        """
        self.renew()
        self.stop_listening = self._listen()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """See `Membership`. Where the store is away, the row expires."""
        self._closing.set()
        self.stop_listening()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._drives_until = self._monotonic()
        try:
            with self._repository.transaction() as tx:
                tx.delete_replica(self._replica_id)
        except StoreUnavailableError as error:
            log.warning("store_unavailable", error=str(error))

    def renew(self) -> None:
        """Have the others leave its jobs to it for as long as a lease lasts.

        Raises:
            StoreUnavailableError: they are not told; what was told before still counts.
        """
        begin = (
            self._monotonic()
        )  # before the clock is read, so that the end here is never after that of the row
        expire_time_us = self._now_us() + round(self._times.lease_seconds * MICROSECONDS_PER_SECOND)
        with self._repository.transaction() as tx:
            tx.put_replica(Replica(replica_id=self._replica_id, expire_time_us=expire_time_us))
        self._drives_until = begin + self._times.lease_seconds - self._times.margin_seconds

    def look(self) -> None:
        """Take the jobs back of replicas that are gone.

        Raises:
            StoreUnavailableError: the next look does.
        """
        now_us = self._now_us()
        with self._repository.read() as reader:
            alive = self._living(reader, now_us) | {self._replica_id}
            has_dead = any(each.replica_id not in alive for each in reader.list_replicas())
            has_orphans = any(is_orphan(job, alive) for job in reader.list_running_jobs())
        if has_orphans:
            take_back(self._repository, self._clock, lambda tx: self._living(tx, now_us) | {self._replica_id})
        if has_dead:
            self._forget_dead(now_us)
        if has_dead or has_orphans:
            self._found_dead()

    def _living(self, reader: Reader, now_us: int) -> set[str]:
        return {each.replica_id for each in reader.list_replicas() if each.expire_time_us > now_us}

    def _forget_dead(self, now_us: int) -> None:
        with self._repository.transaction() as tx:
            for each in tx.list_replicas():
                if each.expire_time_us <= now_us:
                    log.warning("replica_gone", replica_id=each.replica_id)
                    tx.delete_replica(each.replica_id)

    def _keep(self) -> None:
        pause_seconds = self._times.renew_seconds
        while not self._closing.wait(pause_seconds):
            is_renewed = self._try(self.renew)
            pause_seconds = self._times.renew_seconds if is_renewed else self._times.retry_seconds

    def _look_out(self) -> None:
        """Apart from the thread that renews, whom many jobs of others must not keep from that."""
        while not self._closing.wait(self._times.look_seconds):
            self._try(self.look)

    def _try(self, work: Callable[[], None]) -> bool:
        """Return whether it was done; else it is tried again."""
        try:
            work()
        except StoreUnavailableError as error:
            log.warning("store_unavailable", error=str(error))
        except Exception:
            log.exception("lease_failed")
        else:
            return True
        return False

    def _watch(self) -> None:
        """Apart from the thread that renews: a store that is away may keep that one waiting."""
        while not self._closing.wait(max(0.0, self._drives_until - self._monotonic())):
            if not self.may_drive():
                log.warning("lease_lost", replica_id=self._replica_id)
                self._lost()
                self._closing.wait(self._times.retry_seconds)
