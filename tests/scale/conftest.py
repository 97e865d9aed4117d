"""A Ray cluster for the tests of a run, and executors over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract import executor_harness as harness
from ray_nodes import RayNodes, ray_nodes
from videoprocess_server.execution import remote_worker
from videoprocess_server.execution.gateway_protocol import GatewayOptions
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.execution.ray_executor import RayExecutor, RayOptions

NewExecutor = Callable[..., AbstractContextManager[RayExecutor]]


@pytest.fixture(scope="session", autouse=True)
def _ray() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: make test-scale does it")


@pytest.fixture(scope="session", autouse=True)
def _workers_find_the_tests() -> Iterator[None]:
    with harness.workers_find_the_tests():
        yield


@pytest.fixture(scope="session", autouse=True)
def _patient_with_nodes() -> Iterator[None]:
    """A node that is slow to freeze a worker loses it, which is right, and not what tests of freezing ask for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote_worker, "_FREEZE_SECONDS", harness.PATIENCE_SECONDS)
        yield


@pytest.fixture(autouse=True)
def _cancel_what_is_left() -> Iterator[None]:
    yield
    harness.cancel_what_is_left()


@pytest.fixture(name="nodes", scope="session")
def _nodes(_ray: None, _workers_find_the_tests: None) -> Iterator[RayNodes]:
    """Two nodes of one CPU each; who takes one away brings another."""
    with ray_nodes() as nodes:
        yield nodes


@pytest.fixture(name="node_folder", scope="session")
def _node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("node")


@pytest.fixture(name="new_executor", scope="session")
def _new_executor(nodes: RayNodes, node_folder: Path) -> NewExecutor:
    """Makes a started executor whose workers do scripts; paths of tasks are taken as they are."""

    @contextmanager
    def new(worker_count: int = 2, **more: Any) -> Iterator[RayExecutor]:
        options = RayOptions(
            **{
                "gateway": GatewayOptions(
                    address=nodes.address,
                    namespace="test",
                    node_folder=str(node_folder),
                    cache_bytes=1 << 30,
                ),
                "worker_count": worker_count,
                "shared_mount": Path("/nowhere"),
                "data_dir": Path("/nowhere"),
                "worker_module": harness.FAKE_WORKER,
                "compare_builds": False,
                "backoff_seconds": 0.01,
                **more,
            }
        )
        executor = RayExecutor(ProcessPoolExecutor(1, worker_module=harness.FAKE_WORKER), options)
        executor.examine()
        executor.start()
        try:
            yield executor
        finally:
            executor.close()

    return new
