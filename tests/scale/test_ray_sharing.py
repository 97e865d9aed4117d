"""Who shares a cluster: two services, tasks of all sizes, nodes of all sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from contract.executor_harness import LONG, eventually, facts, pings, running, submit, submitted
from contract.sample_tasks import ENCODER, PLAN, script
from ray_nodes import RayNodes, free_cpus, processes_of
from scale.conftest import NewExecutor
from videoprocess_server.execution.executor import TaskHandle
from videoprocess_server.execution.ray_executor import RayExecutor
from videoprocess_server.execution.remote_worker import reservation_bytes
from videoprocess_server.model.tasks import EncodeTask, TaskMessage

pytestmark = pytest.mark.scale

#: of a node of the tests, and of one that is too small for what follows
LARGE_NODE_BYTES, SMALL_NODE_BYTES = 4 << 30, 1 << 30


@pytest.fixture(name="other")
def _other(new_executor: NewExecutor) -> Iterator[RayExecutor]:
    with new_executor() as executor:
        yield executor


def test_a_neighbour_that_is_killed_disturbs_nobody(new_executor: NewExecutor, other: RayExecutor) -> None:
    """Both have the same namespace, as replicas do."""
    theirs = processes_of("ray_gateway")
    with new_executor() as executor:
        (ours,) = (gateway for gateway in processes_of("ray_gateway") if gateway not in theirs)
        lost, kept = running(executor, LONG), running(other, "sleep:2", "count:3")
        ours.kill()
        with pytest.raises(Exception, match="-9"):
            lost.result()
        assert facts(kept) == facts(submit(other, "count:3"))
        assert submit(executor).result()


def test_who_finds_no_room_waits_and_is_no_failure(new_executor: NewExecutor, other: RayExecutor) -> None:
    holding = [running(other, LONG) for _ in range(2)]
    with capture_logs() as logs, new_executor(room_seconds=2.0) as executor:
        waiting = submit(executor)
        assert eventually(lambda: 12 <= sum(entry["event"] == "ray_no_room" for entry in logs))
        assert pings(executor)
        assert not waiting.done()
        for handle in holding:
            handle.cancel()
        assert waiting.result()
    assert "worker_start_failed" not in {entry["event"] for entry in logs}


def test_a_task_waits_for_a_node_with_enough_memory(new_executor: NewExecutor, nodes: RayNodes) -> None:
    """Two have a large node each; the third finds CPUs, but on a node that is too small for it."""
    assert SMALL_NODE_BYTES < reservation_bytes(LARGE, LARGE_NODE_BYTES) < LARGE_NODE_BYTES
    small = nodes.add(memory=SMALL_NODE_BYTES, num_cpus=2)
    nodes.nodes.append(small)
    try:
        with new_executor(4) as executor:
            tasks = [_large(executor) for _ in range(3)]
            assert eventually(lambda: 2 == len(_begun(tasks)))
            assert eventually(lambda: 2 == free_cpus(nodes))
            assert not any(_is_of(small, pid) for pid in _begun(tasks).values())
            first = next(iter(_begun(tasks)))
            first.cancel()
            assert eventually(lambda: 3 == len(_begun(tasks)))
            assert not any(_is_of(small, pid) for handle, pid in _begun(tasks).items() if handle is not first)
    finally:
        nodes.kill(small)


def _large(executor: RayExecutor) -> tuple[TaskHandle, list[TaskMessage]]:
    told: list[TaskMessage] = []
    handle = executor.submit(LARGE, stall_seconds=300, on_message=told.append)
    submitted.append(handle)
    return handle, told


def _begun(tasks: list[tuple[TaskHandle, list[TaskMessage]]]) -> dict[TaskHandle, int]:
    """Return those that run or ran, each with its worker's process id."""
    return {handle: int(getattr(told[0], "path", "0")) for handle, told in tasks if told}


def _is_of(node: Any, pid: int) -> bool:
    """Whether a worker's host was started by a node's raylet."""
    (raylet,) = node.all_processes["raylet"]
    return any(parent.pid == raylet.process.pid for parent in psutil.Process(pid).parents())


def _of_size(width: int, height: int) -> EncodeTask:
    rendition = replace(PLAN.renditions[0], encoder=replace(ENCODER, width=width, height=height))
    return replace(script("announce", LONG), plan=replace(PLAN, renditions=(rendition,)))


LARGE = _of_size(2560, 1440)
