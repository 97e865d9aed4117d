"""Each COMMIT of a job is lost, kept or not, for longer than its doubt is waited for: nothing is done twice, nothing is missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.engine_under_test import Engine, running_engine, until
from engine.scripted_executor import ScriptedExecutor
from engine.test_random_lives import MISTAKES
from postgres_proxy import Cut, PostgresProxy
from postgres_server import PostgresServer
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine import durable, scheduler
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import TERMINAL_JOB_STATES, BlockReason
from videoprocess_server.store.postgres import PostgresRepository

pytestmark = pytest.mark.slow

#: of a job that nobody disturbs: it begins, keeps its plan, leases and finishes three segments, notes costs, completes
LEAST_COMMITS = 10


@pytest.fixture(name="proxy")
def _proxy(postgres: PostgresServer) -> Iterator[PostgresProxy]:
    with PostgresProxy(postgres) as proxy:
        yield proxy


@pytest.fixture(name="engine")
def _engine(folder: Path, proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    for module in (durable, scheduler):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    with (
        closing(
            PostgresRepository(
                proxy.url,
                schema=_schema(folder),
                busy_timeout_seconds=5.0,
                settle_seconds=0.05,
            )
        ) as database,
        running_engine(folder, ScriptedExecutor(), database=database, replica_id="a") as engine,
    ):
        yield engine


@pytest.fixture(name="rows")
def _rows(folder: Path, postgres: PostgresServer, engine: Engine) -> Iterator[PostgresRepository]:
    """The same, for who looks during an outage."""
    with closing(PostgresRepository(postgres.url(), schema=_schema(folder))) as rows:
        yield rows


def _schema(folder: Path) -> str:
    return f"test_{folder.name[-8:].lower()}"


def _has_ended(rows: PostgresRepository, job_id: str) -> bool:
    with rows.read() as reader:
        job = reader.get_job(job_id)
    return job is not None and job.state in TERMINAL_JOB_STATES


class Outage:
    """Loses the COMMIT of a number, and all that is said after it, until somebody has been told of the doubt."""

    def __init__(self, number: int, cut: Cut, log: list[MutableMapping[str, Any]]) -> None:
        self._left = number
        self._cut = cut
        self._log = log
        self._lock = threading.Lock()
        self.begun = False

    def decide(self, message: bytes) -> Cut:
        with self._lock:
            if self.begun:
                return Cut.NO if self._is_told else Cut.BEFORE
            if b"COMMIT;" not in message:
                return Cut.NO
            self._left -= 1
            if self._left >= 0:
                return Cut.NO
            self.begun = True
            return self._cut

    @property
    def _is_told(self) -> bool:
        return any("not known yet" in line.get("error", "") for line in self._log)


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
def test_whichever_commit_is_in_doubt_the_job_is_done_once(
    engine: Engine, proxy: PostgresProxy, rows: PostgresRepository, cut: Cut
) -> None:
    session_id, number = engine.ready_session(), 0
    while True:
        video_id = f"v{number}"
        engine.prepare(session_id, video_id)
        engine.executor.encoded.clear()
        with capture_logs() as log:
            engine.close_gate(BlockReason.MANUAL)
            accepted = engine.process(session_id, video_id)
            outage = Outage(number, cut, log)
            proxy.decide = outage.decide
            engine.close_gate(BlockReason.NONE)
            until(partial(_has_ended, rows, accepted.job.job_id))
            engine.idle()
            proxy.decide = lambda _message: Cut.NO
        event = engine.end_of(accepted)
        assert event.kind is EventKind.PROCESS_DONE
        assert [each.sequence for each in engine.events()] == list(range(1, number + 2))
        assert engine.executor.encoded == [0, 1, 2]
        assert [line for line in log if line["event"] in MISTAKES] == []
        with engine.repository.read() as reader:
            assert set(engine.blobs.keys(BlobKind.RESULT)) == set(reader.list_all_artifact_ids())
        until(lambda: not engine.blobs.keys(BlobKind.SEGMENT) and not engine.blobs.keys(BlobKind.WORK))
        if not outage.begun:
            break
        number += 1
    assert number >= LEAST_COMMITS
