"""Several service programs over one PostgreSQL server and one S3 server: all of them real, all of them killed at the end."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from postgres_server import PostgresServer
from replicas.shared_rows import SharedRows
from s3_server import S3Server
from service_harness import Server


@dataclass(frozen=True)
class Stores:
    """Where replicas keep rows and bytes; both may be killed and started again."""

    database: PostgresServer
    s3: S3Server


class ReplicaSet:
    """Replicas with rows and a prefix of their own; a context manager.

    Args:
        folder: for their data directories.
        stores: what they share.
        flags: of each of them.
        count: how many there are.
    """

    def __init__(self, folder: Path, stores: Stores, *flags: str, count: int = 2) -> None:
        #: of their schema, and their prefix in the bucket
        self.name = f"set_{uuid.uuid4().hex}"
        rows = ("--database-url", stores.database.url(), "--database-schema", self.name)
        shared = (*rows, *stores.s3.flags(self.name))
        self.rows = SharedRows(stores.database, self.name)
        self.servers = [Server(folder / f"replica-{number}", *shared, *flags) for number in range(count)]

    def __enter__(self) -> Self:
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(Server.start, self.servers))
            self.rows.call_witness()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            if server.running:
                server.kill()

    def driver_of(self, job_id: str) -> Server:
        """The replica that drives a running job."""
        found = self.rows.replica_of(job_id)
        return next(
            each for each in self.servers if (each.data_dir / "replica-id").read_text().strip() == found
        )

    def other_than(self, server: Server) -> Server:
        """Another replica."""
        return next(each for each in self.servers if each is not server)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep all replicas from doing anything meanwhile, so that no row moves; their workers go on."""
        for server in self.servers:
            server.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for server in self.servers:
                server.signal(signal.SIGCONT)
