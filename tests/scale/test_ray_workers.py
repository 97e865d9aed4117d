"""What only workers on nodes can go through: lost hosts, lost nodes, a lost head, files that travel."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from contract.executor_harness import (
    LONG,
    ended,
    eventually,
    facts,
    pings,
    running,
    submit,
)
from ray_nodes import RayNodes, free_cpus, holds_nothing, hosted_workers, hosts, processes_of
from scale.conftest import NewExecutor
from videoprocess_server.engine.faults import Cause, cause_of
from videoprocess_server.execution.executor import TaskCancelledError, TaskHandle, WorkerCrashedError
from videoprocess_server.execution.ray_executor import ClusterUnfitError, RayExecutor

pytestmark = pytest.mark.scale


@pytest.fixture(name="executor")
def _executor(new_executor: NewExecutor) -> Iterator[RayExecutor]:
    with new_executor() as executor:
        yield executor


def _lost(handle: TaskHandle) -> None:
    """Its end is laid to nobody."""
    with pytest.raises(WorkerCrashedError) as caught:
        handle.result()
    assert cause_of(caught.value) is Cause.FOREIGN_KILL


def _pid(executor: RayExecutor) -> int:
    return int(facts(submit(executor, "fact:pid"))[0])


def test_a_worker_that_is_killed_is_a_foreign_kill_and_replaced(executor: RayExecutor) -> None:
    pids: list[str] = []
    handle = running(
        executor, "announce", LONG, on_message=lambda told: pids.append(getattr(told, "path", ""))
    )
    os.kill(int(pids[0]), signal.SIGKILL)
    _lost(handle)
    assert submit(executor).result()


def test_a_host_that_is_killed_takes_its_workers_along_and_is_replaced(executor: RayExecutor) -> None:
    handles = [running(executor, LONG), running(executor, LONG)]
    workers = [child for host in hosts() for child in host.children()]
    assert len(workers) == 2
    for host in hosts():
        host.kill()
    for handle in handles:
        _lost(handle)
    assert eventually(lambda: not any(worker.is_running() for worker in workers))
    assert submit(executor).result()


def test_a_node_that_dies_costs_its_tasks_only(executor: RayExecutor, nodes: RayNodes) -> None:
    handles = [running(executor, LONG), running(executor, LONG)]
    nodes.kill(nodes.nodes[0])
    nodes.nodes.append(nodes.add())
    assert eventually(lambda: any(handle.done() for handle in handles))
    lost, kept = sorted(handles, key=lambda handle: not handle.done())
    _lost(lost)
    assert not kept.done()
    assert submit(executor).result()
    assert not kept.done()


def test_frozen_workers_give_their_cpu_back_at_once_and_go_on_where_they_were(
    executor: RayExecutor, nodes: RayNodes, tmp_path: Path
) -> None:
    counting = [running(executor, f"until:{tmp_path / 'end'}", "count:2000000") for _ in range(2)]
    assert eventually(lambda: free_cpus(nodes) == 0)
    for handle in counting:
        handle.freeze()
    assert {worker.status() for worker in hosted_workers()} == {psutil.STATUS_STOPPED}
    assert eventually(lambda: free_cpus(nodes) == 2)
    between = [running(executor, LONG) for _ in range(2)]
    (tmp_path / "end").touch()
    for handle in counting:
        handle.thaw()
    assert not any(handle.done() for handle in counting)
    for handle in between:
        handle.cancel()
    assert [facts(handle) for handle in counting] == [facts(submit(executor, "count:2000000"))] * 2


def test_cancelling_frees_the_cpu(executor: RayExecutor, nodes: RayNodes) -> None:
    handles = [running(executor, LONG) for _ in range(2)]
    for handle in handles:
        handle.cancel()
    for handle in handles:
        with pytest.raises(TaskCancelledError):
            handle.result()
    assert eventually(lambda: free_cpus(nodes) == 2)


def test_an_idle_executor_holds_no_cpu(executor: RayExecutor, nodes: RayNodes) -> None:
    assert submit(executor).result()
    assert eventually(lambda: free_cpus(nodes) == 2)


def test_while_the_cluster_is_away_ping_says_so_and_tasks_wait_for_it(
    executor: RayExecutor, nodes: RayNodes
) -> None:
    handle = running(executor, LONG)
    assert pings(executor)
    nodes.stop()
    _lost(handle)
    assert eventually(lambda: not pings(executor))
    nodes.start()
    assert eventually(lambda: pings(executor))
    assert submit(executor).result()


@pytest.mark.parametrize("state", ["idle", "running", "frozen"])
def test_closing_leaves_nothing_anywhere(
    new_executor: NewExecutor, node_folder: Path, nodes: RayNodes, state: str
) -> None:
    with new_executor() as executor:
        assert _pid(executor)
        handles = [running(executor, LONG) for _ in range(2 if state != "idle" else 0)]
        for handle in handles if state == "frozen" else []:
            handle.freeze()
        pids = executor.worker_pids()
    assert all(handle.done() for handle in handles)
    assert all(ended(pid) for pid in pids)
    assert holds_nothing()
    assert eventually(lambda: not hosts())
    assert not [found for found in node_folder.rglob("*") if found.is_file()]
    assert not processes_of("ray_gateway")
    assert eventually(lambda: free_cpus(nodes) == 2)


def test_a_node_that_cannot_say_what_its_build_is_is_not_used(
    new_executor: NewExecutor, node_folder: Path
) -> None:
    """The far workers do scripts and know no build; nothing is left of the try."""
    with (
        pytest.raises(ClusterUnfitError, match="does not describe itself") as caught,
        new_executor(compare_builds=True),
    ):
        pass
    assert 1 == len(str(caught.value).splitlines())
    assert holds_nothing()
    assert not [found for found in node_folder.rglob("*") if found.is_file()]


def test_a_node_whose_worker_takes_too_long_to_start_is_told_as_slow(new_executor: NewExecutor) -> None:
    with (
        pytest.raises(ClusterUnfitError) as caught,
        new_executor(worker_module="contract.silent_worker", startup_seconds=2.0),
    ):
        pass
    assert "its worker did not start within 2 s: is it overloaded?" in str(caught.value)
    assert holds_nothing()


def test_more_workers_than_the_cluster_has_cpus_are_refused(new_executor: NewExecutor) -> None:
    with pytest.raises(ClusterUnfitError, match="have 2 CPUs"), new_executor(3):
        pass
    assert not processes_of("ray_gateway")


def test_tasks_go_where_their_source_is(executor: RayExecutor, tmp_path: Path) -> None:
    """One at a time, while a worker of each node is idle."""
    path = tmp_path / "source"
    path.write_bytes(bytes(3 << 20))
    assert eventually(lambda: len(executor.worker_pids()) == 4)
    pids = [facts(submit(executor, "fact:pid", source_fd=os.open(path, os.O_RDONLY)))[0] for _ in range(12)]
    assert len(set(pids[1:])) == 1
