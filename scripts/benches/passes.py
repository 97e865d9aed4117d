"""What a pass of the scheduler costs: it looks at the queue and decides, over the service's own database."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from videoprocess_server.datadir import DATABASE_NAME
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.queue_view import QueueView
from videoprocess_server.model.scheduling import Decision, Situation, decide
from videoprocess_server.model.states import BlockReason
from videoprocess_server.store.repository import Repository
from videoprocess_server.store.sqlite import SqliteRepository

CORES = 2
MEMORY_BYTES = 8 << 30


def passes(data_dir: Path, count: int) -> list[float]:
    """Return the seconds of so many passes in this process; the queue stays as it is."""
    repository = SqliteRepository(data_dir / DATABASE_NAME)
    try:
        view = QueueView(Limits(), over_quota=lambda _user_id: False)
        return [_timed(lambda: _pass(repository, view)) for _ in range(count)]
    finally:
        repository.close()


def _pass(repository: Repository, view: QueueView) -> Decision:
    limits = Limits()
    with repository.read() as reader:
        usage = dict.fromkeys([user.user_id for user in reader.list_active_users()], 0.0)
        seen = view.look(reader, usage, driven={}, paused=(), is_parked_alone=lambda _job: False)
    return decide(
        Situation(
            candidates=seen.candidates,
            cores=CORES,
            memory_bytes=MEMORY_BYTES,
            max_running_jobs=limits.max_running_jobs,
            usage_seconds=usage,
            gate=BlockReason.NONE,
        )
    )


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
