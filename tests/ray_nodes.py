"""A Ray cluster of two nodes on this machine, for tests."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

#: what Ray reads when it starts; nodes inherit it
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # whatever the developer has a token for
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_METRICS_COLLECTION": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",
    # a node that is gone refuses to be asked and is missed soon; one that is there may take its time to answer
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "30000",
    "RAY_health_check_failure_threshold": "4",
}
#: bounds what hangs, on a machine that has much else to do
_PATIENCE_SECONDS = 120.0
#: Ray's variable for where it keeps its files, each cluster's its own
_FOLDER = "RAY_TMPDIR"
_TRIES = 4
_NODE = {"num_cpus": 1, "object_store_memory": 100 << 20, "memory": 4 << 30, "include_dashboard": False}


class RayNodes:
    """A head without CPUs, which the service is beside, and nodes with one each."""

    def __init__(self, count: int = 2) -> None:
        self._port = free_port()
        self._count = count
        self.start()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def start(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ray.cluster_utils import Cluster

            self._cluster: Any = Cluster()
            self._add_head()
            self.nodes = [self.add() for _ in range(self._count)]

    def add(self, **more: Any) -> Any:
        """A node waits for its own start for half a minute, and gives up now and then where all cores are busy."""
        for _ in range(_TRIES - 1):
            try:
                return self._add(**more)
            except Exception as error:  # noqa: BLE001 - it raises nothing narrower
                print(f"a node did not start: {error}")
        return self._add(**more)

    def kill(self, node: Any) -> None:
        """Take a node away, as a power cut would."""
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def replace(self, node: Any) -> None:
        """The same, and another node comes."""
        self.kill(node)
        self.nodes.append(self.add())

    def kill_head(self) -> None:
        """kill -9 the head; it comes back at its address, knows nothing, and whoever looks after the nodes starts them anew."""
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)
        self._add_head()
        for node in list(self.nodes):
            self.replace(node)

    def _add_head(self) -> Any:
        for _ in range(_TRIES - 1):
            try:
                return self._add(num_cpus=0, gcs_server_port=self._port)
            except Exception as error:  # noqa: BLE001 - it raises nothing narrower
                print(f"the head did not start: {error}")
                for server in processes_of("/gcs_server"):  # it has the port
                    server.kill()
                    server.wait()
        return self._add(num_cpus=0, gcs_server_port=self._port)

    def stop(self) -> None:
        self._cluster.shutdown()

    def _add(self, **more: Any) -> Any:
        node = self._cluster.add_node(wait=False, **{**_NODE, **more})
        self._cluster._wait_for_node(node, timeout=_PATIENCE_SECONDS)
        return node


@contextmanager
def ray_environment() -> Iterator[None]:
    """Sockets of Ray have long names: a cluster gets a folder with a short one."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.environ.update({**ENVIRONMENT, _FOLDER: folder})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def ray_nodes(count: int = 2) -> Iterator[RayNodes]:
    """A cluster of so many nodes, besides its head."""
    with ray_environment():
        nodes = RayNodes(count)
        try:
            yield nodes
        finally:
            nodes.stop()


def free_port() -> int:
    """One that the system gives to nobody who connects: a client that tries a free one again and again connects to itself."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
    raise AssertionError("no port is free")


def hosted_workers() -> list[psutil.Process]:
    """Return the workers of all nodes."""
    found = []
    for host in hosts():
        with contextlib.suppress(psutil.Error):
            found += host.children()
    return found


def holds_nothing() -> bool:
    """Whether no worker is on a node any more, some day."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while hosted_workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not hosted_workers()


def hosts() -> list[psutil.Process]:
    """Return the processes of Ray that host workers."""
    return processes_of("NodeHost")


def processes_of(word: str) -> list[psutil.Process]:
    """Return the processes of these nodes, and of who uses them, that have a word in their command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_ours = word in " ".join(process.cmdline()) and process.environ().get(
                _FOLDER
            ) == os.environ.get(_FOLDER)
            found += [process] if is_ours else []
    return found


def free_cpus(nodes: RayNodes) -> float:
    """Return the CPUs that Ray could give away now."""
    told = subprocess.run(
        [sys.executable, "-c", _FREE_CPUS, nodes.address], capture_output=True, text=True, check=True
    )
    # Ray may tell of nodes that died, too
    (free,) = re.findall(r"^free ([\d.]+)$", told.stdout, re.MULTILINE)
    return float(free)


_FREE_CPUS = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
print("free", ray.available_resources().get("CPU", 0.0))
"""
