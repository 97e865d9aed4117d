"""Puts a service among those that share its rows: its lease, and what they tell each other."""

from __future__ import annotations

import time
from collections.abc import Callable

from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.replica_lease import LEASE_LOST, LeaseTimes, ReplicaLease
from videoprocess_server.engine.replica_work import ReplicaWork
from videoprocess_server.engine.scheduler import Scheduler
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.model.clock import Clock
from videoprocess_server.store.notices import Notices
from videoprocess_server.store.repository import Repository


class Sharing:
    """Makes what a replica needs beyond what a service that is alone has.

    Args:
        repository: the shared rows.
        notices: between those who share them.
        server_now_us: the clock that they compare with, microseconds since 1970.
        clock: what rows are written by.
        replica_id: the same in all lives of this replica.
        hub: its subscribers.
        sessions: whose idle time begins anew when a replica is gone that may have had callers.
        scheduler: its jobs; made after the lease that it asks.
        times: of leases.
        monotonic: seconds that never jump.
    """

    def __init__(
        self,
        repository: Repository,
        notices: Notices,
        server_now_us: Callable[[], int],
        clock: Clock,
        replica_id: str,
        hub: EventHub,
        sessions: Sessions,
        scheduler: Callable[[], Scheduler],
        times: LeaseTimes | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._notices = notices
        self._replica_id = replica_id
        self._hub = hub
        self._sessions = sessions
        self._scheduler = scheduler
        self.lease = ReplicaLease(
            repository,
            clock,
            replica_id,
            server_now_us,
            lost=lambda: scheduler().stop_all(LEASE_LOST),
            found_dead=self._found_dead,
            listen=lambda: self.work().listen(),
            times=times,
            monotonic=monotonic,
        )
        self._work: ReplicaWork | None = None

    def work(self) -> ReplicaWork:
        """Return the work of all replicas, once the scheduler is there."""
        if self._work is None:
            self._work = ReplicaWork(
                self._repository, self._notices, self._scheduler(), self._hub, self._replica_id
            )
        return self._work

    def _found_dead(self) -> None:
        self._sessions.give_idle_time_again()
        self._scheduler().wake()
