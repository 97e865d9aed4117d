"""Measures how many changes a second the service's databases take, from one process and from two; prints JSON.

    python scripts/database_rates.py [--seconds N] [--out FILE]

A change is what a finished segment costs: its row by compare-and-set, and its job's progress. PostgreSQL is a server of this
script's own, which syncs, on a Unix socket. "apart" is two processes in two schemas, which wait for nobody: what finer locks could
bring at most.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

sys.path += [
    str(Path(__file__).parent.parent / "tests"),
    str(Path(__file__).parent.parent / "tests" / "contract"),
]

from repository_records import a_job, a_plan, some_segments

from postgres_server import PostgresServer
from videoprocess_server.model.records import SegmentRecord
from videoprocess_server.model.states import SegmentState
from videoprocess_server.store.postgres import PostgresRepository
from videoprocess_server.store.repository import Repository
from videoprocess_server.store.sqlite import SqliteRepository

SEGMENTS = 20_000


def main() -> None:
    """Print the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--out", type=Path, default=None, help="write it there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = PostgresServer(durable=True).start()
        try:
            one, other = (partial(_open_postgres, server.url(), schema) for schema in ("one", "other"))
            rates = {
                "sqlite, 1 process": _rate([partial(_open_sqlite, folder)], options.seconds),
                "postgres, 1 process": _rate([one], options.seconds),
                "postgres, 2 processes": _rate([one, one], options.seconds),
                "postgres, 2 processes apart": _rate([one, other], options.seconds),
            }
            version = server.execute("SHOW server_version")[0][0]
        finally:
            server.remove()
    machine = {"cores": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    date = time.strftime("%Y-%m-%d", time.gmtime())
    text = json.dumps(
        {"date": date, "machine": machine, "postgres": version, "changes_per_second": rates}, indent=1
    )
    print(text)
    if options.out is not None:
        options.out.write_text(f"{text}\n")


def _open_sqlite(folder: str) -> Repository:
    return SqliteRepository(Path(folder) / "database.sqlite3", busy_timeout_seconds=60)


def _open_postgres(url: str, schema: str) -> Repository:
    return PostgresRepository(url, schema=schema, busy_timeout_seconds=60)


def _rate(openers: list[Callable[[], Repository]], seconds: float) -> float:
    """Return the changes a second of one process for each opener, together."""
    context = multiprocessing.get_context("spawn")
    together, counts = context.Barrier(len(openers)), context.Queue()
    processes = [
        context.Process(target=_change, args=(open_, str(number), seconds, together, counts))
        for number, open_ in enumerate(openers)
    ]
    for process in processes:
        process.start()
    count = sum(counts.get() for _ in processes)
    for process in processes:
        process.join()
    return round(count / seconds, 1)


def _change(
    open_: Callable[[], Repository], name: str, seconds: float, together: Barrier, counts: Queue[int]
) -> None:
    with closing(open_()) as repository:
        plan_id = f"{name} {time.time_ns()}"
        job = a_job(plan_id, video_id=plan_id)
        with repository.transaction() as tx:
            tx.add_plan(a_plan(plan_id), some_segments(SEGMENTS, plan_id))
            tx.lease_segments(plan_id, range(SEGMENTS), "token")
        together.wait()
        end, index = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            done = SegmentRecord(
                plan_id=plan_id, index=index, state=SegmentState.DONE, path=f"{index}", size_bytes=1 << 20
            )
            with repository.transaction() as tx:
                assert tx.finish_segment(done, "token")
                tx.put_job(job)
            index += 1
        counts.put(index)


if __name__ == "__main__":
    main()
