"""One engine a test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.engine_under_test import Engine, running_engine
from engine.scripted_executor import ScriptedExecutor
from engine.two_replicas import Pair, two_replicas
from videoprocess_server.store.memory import MemoryRepository
from videoprocess_server.store.repository import Repository

#: nothing here cuts the power, so an fsync needs no disk
MEMORY = Path("/dev/shm")


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Iterator[Path]:
    where = MEMORY if os.access(MEMORY, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=where, prefix="videoprocess-tests-") as folder:
        yield Path(folder)


@pytest.fixture(name="workers")
def _workers() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture(name="database")
def _database() -> Iterator[Repository]:
    """Rows in memory that replicas share."""
    with closing(MemoryRepository(busy_timeout_seconds=20)) as database:
        yield database


@pytest.fixture(name="pair")
def _pair(folder: Path, database: Repository) -> Iterator[Pair]:
    """Two replicas, which do not hear each other."""
    with two_replicas(folder, database) as pair:
        yield pair


@pytest.fixture(name="engine")
def _engine(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    with running_engine(folder, workers) as engine:
        yield engine
