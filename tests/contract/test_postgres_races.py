"""Two processes that race for the same thing through one schema: there is one winner, each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from repository_records import a_job, a_plan, an_event, schema_of, some_segments

from postgres_server import PostgresServer
from soaking import SOAKING
from videoprocess_server.model.records import SegmentRecord
from videoprocess_server.model.states import JobState, SegmentState
from videoprocess_server.store.postgres import PostgresRepository
from videoprocess_server.store.repository import ConflictError, Transaction

ROUNDS = 1000
PATIENCE_SECONDS = 1200.0 if SOAKING else 400.0


def accept(transaction: Transaction, number: int, me: str) -> bool:
    job = a_job(f"{number}{me}", video_id=str(number), accept_number=transaction.next_accept_number())
    transaction.put_job(job)
    return True


def moving(before: JobState, after: JobState) -> Callable[[Transaction, int, str], bool]:
    def move(transaction: Transaction, number: int, _me: str) -> bool:
        job = transaction.get_active_job(1, str(number))
        if job is None or job.state is not before:
            return False
        transaction.put_job(replace(job, state=after))
        return True

    return move


def lease(transaction: Transaction, number: int, me: str) -> bool:
    return transaction.lease_segments(str(number), [0, 1], me)


def finish(transaction: Transaction, number: int, _me: str) -> bool:
    """Both know the token: what is asked is that one of two writers is refused."""
    token = transaction.list_segments(str(number))[0].lease_token
    done = SegmentRecord(plan_id=str(number), index=0, state=SegmentState.DONE, path="x", size_bytes=1)
    return bool(token) and transaction.finish_segment(done, token)


def end(transaction: Transaction, number: int, _me: str) -> bool:
    job = transaction.get_active_job(1, str(number))
    if job is None:
        return False
    transaction.put_job(replace(job, state=JobState.COMPLETED))
    transaction.append_event(an_event(job.job_id))
    return True


def tell(transaction: Transaction, number: int, _me: str) -> bool:
    transaction.append_event(an_event(f"told {number}", user_id=2))
    return True


#: in the order of a job's life
TRANSITIONS: Mapping[str, Callable[[Transaction, int, str], bool]] = {
    "accept": accept,
    "start": moving(JobState.QUEUED, JobState.RUNNING),
    "lease": lease,
    "finish": finish,
    "requeue": moving(JobState.RUNNING, JobState.QUEUED),
    "end": end,
    "tell": tell,
}


def race(url: str, schema: str, me: str) -> None:
    """Try everything, in step with the other: a line is written when ready, and one is read before each try."""
    winners: dict[str, list[int]] = {name: [] for name in TRANSITIONS}
    with closing(PostgresRepository(url, schema=schema, busy_timeout_seconds=60)) as repository:
        for number in range(ROUNDS):
            for name, transition in TRANSITIONS.items():
                print(flush=True)
                sys.stdin.readline()
                has_won = False
                with suppress(ConflictError), repository.transaction() as transaction:
                    has_won = transition(transaction, number, me)
                if has_won:
                    winners[name].append(number)
    print(json.dumps(winners), flush=True)


@pytest.mark.scale
def test_of_two_processes_one_wins_each_transition(postgres: PostgresServer, tmp_path: Path) -> None:
    schema = schema_of(tmp_path)
    with closing(PostgresRepository(postgres.url(), schema=schema)) as repository:
        for number in range(ROUNDS):
            with repository.transaction() as transaction:
                transaction.add_plan(a_plan(str(number)), some_segments(2, str(number)))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        script = "import sys, test_postgres_races; test_postgres_races.race(*sys.argv[1:])"
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", script, postgres.url(), schema, me],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for me in "ab"
        ]
        won = [json.loads(line) for line in _in_step(racers)]
        for name in TRANSITIONS:
            winners = Counter(number for racer in won for number in racer[name])
            assert winners == Counter(range(ROUNDS)), name
            assert all(racer[name] for racer in won), f"{name}: one always came too late: no race"
            print(f"count winners_of_{name} = {len(winners)}")
        with repository.read() as reader:
            assert reader.event_bounds(1) == (1, ROUNDS)
            assert reader.event_bounds(2) == (1, ROUNDS)
            assert reader.count_active_jobs() == 0


def _in_step(racers: list[subprocess.Popen[str]]) -> list[str]:
    """Let both begin each try at once; returns what they say at the end."""
    try:
        for _ in range(ROUNDS * len(TRANSITIONS)):
            for racer in racers:
                assert racer.stdout
                assert racer.stdout.readline() == "\n"
            for racer in racers:
                assert racer.stdin
                racer.stdin.write("\n")
                racer.stdin.flush()
        return [racer.communicate(timeout=PATIENCE_SECONDS)[0] for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
