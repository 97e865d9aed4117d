"""Clusters that the service cannot use, or should not as they are: one line each, from `check` and from the start."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.executor_harness import eventually
from ray_nodes import RayNodes, free_cpus, free_port, hosts, processes_of, ray_environment, ray_nodes
from ray_strangers import Stranger, started
from service_harness import PATIENCE_SECONDS, SERVER

pytestmark = pytest.mark.scale

#: of a machine of a cluster
SIZES = ("--num-cpus=1", f"--memory={2 << 30}", f"--object-store-memory={100 << 20}")
#: what keeps a node from being used → the line that says so
UNFIT = {
    "no package": (Stranger(has_package=False), "No module named 'videoprocess_server'"),
    "another version": (Stranger(versions=(("videoprocess", "9.9.9"),)), "it runs videoprocess 9.9.9"),
    "another PyAV": (Stranger(versions=(("av", "17.0.1"),)), "its versions differ: pyav 17.0.1 there, pyav "),
}
#: what the whole cluster is of → the line that says so, after the cluster's address
FOREIGN = {
    "another Ray": (
        Stranger(installs=("ray==2.59.0",)),
        "The cluster was started with: Ray: 2.59.0 Python: ",
    ),
    "another Python": (
        Stranger(
            first="import sys\n"
            "class Other(tuple): major, minor, micro, releaselevel, serial = 3, 11, 99, 'final', 0\n"
            "sys.version_info = Other((3, 11, 99, 'final', 0))"
        ),
        " Python: 3.11.99 ",
    ),
}
#: what is amiss on a node and changes no byte → the line that says so
AMISS = {
    "clock": (
        Stranger(first="import time; ours = time.time_ns; time.time_ns = lambda: ours() + 3_600_000_000_000"),
        "is +3600.",
    ),
    "niceness": (Stranger(niceness="15"), "start Ray there with RAY_worker_niceness=0"),
}


@pytest.fixture(name="head", scope="module")
def _head() -> Iterator[RayNodes]:
    """Without any node that has a CPU."""
    with ray_nodes(count=0) as nodes:
        yield nodes


@pytest.fixture(name="node")
def _node(head: RayNodes, stranger: Stranger, tmp_path: Path) -> Iterator[str]:
    """Yields the address of a cluster with one node."""
    with started(stranger, tmp_path, f"--address={head.address}", *SIZES):
        assert eventually(lambda: free_cpus(head) == 1), (tmp_path / "ray.log").read_text()
        yield head.address
    assert eventually(lambda: free_cpus(head) == 0)


@pytest.fixture(name="foreign")
def _foreign(stranger: Stranger, tmp_path: Path) -> Iterator[str]:
    """Yields the address of a cluster whose head is on such a machine."""
    port = free_port()
    with ray_environment(), started(stranger, tmp_path, "--head", f"--port={port}", *SIZES):
        log = tmp_path / "ray.log"
        assert eventually(lambda: "Ray runtime started" in log.read_text()), log.read_text()
        yield f"127.0.0.1:{port}"


def _told(command: str, data_dir: Path, address: str, *flags: str) -> subprocess.CompletedProcess[str]:
    ray = ("--executor", "ray", "--ray-address", address)
    return subprocess.run(
        [*SERVER, command, "--data-dir", str(data_dir), *ray, *flags],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


def _executor_line(told: subprocess.CompletedProcess[str]) -> str:
    """Return what `check` says of the executor; all that it says are its findings."""
    assert told.stderr == ""
    findings = told.stdout.splitlines()
    (line,) = (line for line in findings if line.split(":")[1].strip() == "executor")
    assert len(findings) == 6
    return line


def _start_line(told: subprocess.CompletedProcess[str]) -> str:
    """Return why the service did not start."""
    assert told.returncode == 3
    (line,) = told.stderr.splitlines()
    return line


def _left_nothing() -> bool:
    return eventually(lambda: not processes_of("ray_gateway") and not hosts())


@pytest.mark.parametrize(("stranger", "line"), UNFIT.values(), ids=list(UNFIT))
def test_a_node_that_could_make_other_bytes_is_not_used(node: str, line: str, tmp_path: Path) -> None:
    told = _told("check", tmp_path / "data", node)
    assert told.returncode == 3
    assert _executor_line(told).startswith("not fit: ")
    assert line in _executor_line(told)
    assert line in _start_line(_told("serve", tmp_path / "data", node, "--listen", "127.0.0.1:0"))
    assert not (tmp_path / "data").exists()
    assert _left_nothing()


@pytest.mark.parametrize(("stranger", "line"), FOREIGN.values(), ids=list(FOREIGN))
def test_a_cluster_of_another_version_is_not_joined(foreign: str, line: str, tmp_path: Path) -> None:
    """Ray keeps nodes from a cluster of another version: so it is the cluster that differs, or nothing."""
    told = _told("check", tmp_path / "data", foreign)
    assert told.returncode == 3
    lines = (
        _executor_line(told),
        _start_line(_told("serve", tmp_path / "data", foreign, "--listen", "127.0.0.1:0")),
    )
    for one in lines:
        assert f"no connection to the Ray cluster at {foreign}: Version mismatch: " in one
        assert line in one
        assert one.endswith(": install the same Ray and Python on both")
    assert not (tmp_path / "data").exists()
    assert _left_nothing()


@pytest.mark.parametrize(("stranger", "line"), AMISS.values(), ids=list(AMISS))
def test_what_is_amiss_on_a_node_and_changes_no_byte_is_a_warning(
    node: str, line: str, tmp_path: Path
) -> None:
    told = _told("check", tmp_path / "data", node)
    assert told.returncode == 0
    assert _executor_line(told).startswith("warning: ")
    assert line in _executor_line(told)
    assert _left_nothing()


def test_an_address_that_takes_connections_and_never_answers_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        told = _told("check", tmp_path / "data", address)
    assert told.returncode == 3
    assert f"no connection to the Ray cluster at {address}: " in _executor_line(told)
    assert _left_nothing()
