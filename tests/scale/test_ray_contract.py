"""The suite of every executor, over a Ray cluster of two nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract import test_executor as suite
from contract import test_worker_processes as process_suite
from scale.conftest import NewExecutor
from videoprocess_server.execution.ray_executor import RayExecutor

pytestmark = pytest.mark.scale


@pytest.fixture(name="pool", scope="class")
def _pool(new_executor: NewExecutor) -> Iterator[RayExecutor]:
    with new_executor() as executor:
        yield executor


@pytest.fixture(name="executor")
def _executor(pool: RayExecutor) -> RayExecutor:
    return pool


@pytest.fixture(name="closable")
def _closable(new_executor: NewExecutor) -> Iterator[RayExecutor]:
    with new_executor() as executor:
        yield executor


class TestRayExecutor(suite.TestEveryExecutor):
    """Whatever every executor does."""


class TestWorkersOnNodes(process_suite.TestWorkerProcesses):
    """Whatever worker processes do."""

    #: two on the nodes, two beside the data directory
    WORKERS = 4
    STALL_SECONDS = 3.0
