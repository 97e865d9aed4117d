"""The product's service, with every durable step numbered, that kills itself at one of them.

    python mortal_server.py LOG STEP VICTIM serve --data-dir DIR --shared-root NAME=PATH ...

A step is the moment before or after a COMMIT of the store or a call of `os` that changes the data directory or the shared root, in the
service or in a worker; LOG gets a line for each. STEP 0 kills nobody. VICTIM says who dies at a worker's step: the service
and that worker, or that worker alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from durable_steps import VARIABLE, Reins, Steps, caller
from videoprocess_server import cli, databases, executors
from videoprocess_server.blobs import shared_directory
from videoprocess_server.execution import worker_process
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.store.repository import Transaction
from videoprocess_server.store.sqlite import SqliteRepository


def main() -> None:
    _, log, fatal_step, victim, *arguments = sys.argv
    data_dir = Path(arguments[arguments.index("--data-dir") + 1]).absolute()
    shared_dir = Path(arguments[arguments.index("--shared-root") + 1].partition("=")[2]).absolute()
    reins = Reins(Path(log), data_dir, shared_dir, int(fatal_step), victim)
    steps = Steps(reins, os.getpid())
    steps.number_os_calls()
    shared_directory.rename_to_new = steps.rename_to_new(shared_directory.rename_to_new)

    class NumberedRepository(SqliteRepository):
        """Counts before and after each COMMIT."""

        def __init__(self, path: Path, **more: Any) -> None:
            with steps.around("opening the database"):
                super().__init__(path, **more)

        @contextmanager
        def transaction(self) -> Iterator[Transaction]:
            use_case = caller()
            with super().transaction() as tx:
                yield tx
                steps.step(f"before COMMIT {use_case}")
            steps.step(f"after COMMIT {use_case}")

        def close(self) -> None:
            with steps.around("closing the database"):
                super().close()

    os.environ[VARIABLE] = reins.as_text()
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    worker_process._INHERITED = (*worker_process._INHERITED, VARIABLE)
    databases.SqliteRepository = NumberedRepository
    executors.ProcessPoolExecutor = partial(ProcessPoolExecutor, worker_module="mortal_worker")
    sys.argv = [sys.argv[0], *arguments]
    cli.main()


if __name__ == "__main__":
    main()
