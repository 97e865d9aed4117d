"""The Ray cluster as the gateway sees it: nodes, seats on them, and the actor on each that hosts workers."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from videoprocess_server.execution.gateway_protocol import GatewayOptions, Node, Order, Sign
from videoprocess_server.execution.node_host import NodeHost
from videoprocess_server.execution.sandbox import Confinement

#: an actor's process takes a second to start; on a node under load more
_HOST_SECONDS = 60.0
#: the cluster's head answers within milliseconds, or is away
_LOOK_SECONDS = 5.0
_NODE_LABEL = "ray.io/node-id"


class NoRoomError(Exception):
    """All that the nodes have is taken, or none has so much."""


class Seat:
    """A CPU and memory of a node, as Ray counts them, while a task runs.

    An actor holds what it was given for life, but a frozen worker must give its CPU back at once. So the actors take nothing,
    and a worker's share is a placement group that nothing runs in.

    Args:
        memory_bytes: beside one CPU.
        node: its id; "" for whichever has room.
    """

    def __init__(self, memory_bytes: int, node: str = "") -> None:
        self._bundle = {"CPU": 1.0, "memory": float(memory_bytes)}
        self._selector = [{_NODE_LABEL: node}] if node else None
        self._group: PlacementGroup | None = None
        self.ask()

    def holds(self, memory_bytes: int) -> bool:
        """Return whether it is one with at least so much memory, taken or asked for."""
        return self._group is not None and self._bundle["memory"] >= memory_bytes

    async def wait(self, seconds: float) -> str:
        """Return the id of its node once it is granted.

        Raises:
            NoRoomError: no node has room.
        """
        assert self._group is not None
        if not await asyncio.to_thread(self._group.wait, seconds):
            self.leave()
            wanted = f"1 CPU and {self._bundle['memory'] / (1 << 20):.0f} MiB"
            raise NoRoomError(f"no node of the Ray cluster had {wanted} free for {seconds:.0f} s")
        node: str = placement_group_table(self._group)["bundles_to_node_id"][0]
        self._selector = [{_NODE_LABEL: node}]
        return node

    def leave(self) -> None:
        """Give it back."""
        group, self._group = self._group, None
        if group is not None:
            with contextlib.suppress(Exception):  # the cluster is gone, and with it the seat
                remove_placement_group(group)

    def ask(self) -> None:
        """Ask for it, again on its node where it had one, and do not wait."""
        if self._group is None:
            self._group = placement_group([self._bundle], bundle_label_selector=self._selector)


class Cluster:
    """Made by `join`."""

    def __init__(self, options: GatewayOptions) -> None:
        self._options = options
        self._own_node = ray.get_runtime_context().get_node_id()
        self._memory_bytes: dict[str, int] = {}
        self._hosts: dict[str, Any] = {}
        self._lock = asyncio.Lock()

    @classmethod
    def join(cls, options: GatewayOptions) -> Cluster:
        """Connect to a cluster; this machine is a node of it.

        Raises:
            Exception: Ray's own, of many kinds.
        """
        ray.init(
            address=options.address,
            namespace=options.namespace,
            log_to_driver=False,
            configure_logging=False,
            include_dashboard=False,
        )
        return cls(options)

    async def look(self) -> Sign:
        """Return the nodes that are alive; none once this process is no part of the cluster any more."""
        try:
            found = await asyncio.wait_for(asyncio.to_thread(ray.nodes), _LOOK_SECONDS)
        except Exception as error:  # noqa: BLE001  whatever Ray raises while its head is away
            return Sign([], f"its head does not answer ({type(error).__name__})")
        alive = [node for node in found if node["Alive"]]
        nodes = [
            Node(
                node["NodeID"],
                f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})",
                node["Resources"].get("CPU", 0.0),
                int(node["Resources"].get("memory", 0)),
            )
            for node in alive
        ]
        self._memory_bytes = {node.id: node.memory_bytes for node in nodes}
        return Sign(nodes if self._own_node in self._memory_bytes else [])

    async def find_seat(self, order: Order) -> tuple[Seat | None, str]:
        """Return a seat and the id of its node; no seat where the order names the node.

        Raises:
            NoRoomError: no node has room.
        """
        if order.node:
            return None, order.node
        seat = Seat(order.memory_bytes)
        try:
            return seat, await seat.wait(order.patience_seconds)
        except BaseException:
            seat.leave()
            raise

    def bounded(self, confinement: str, node: str) -> str:
        """Return a confinement with the node's memory as its bound, as Ray knows it."""
        given = Confinement.from_argument(confinement)
        return replace(given, memory_bytes=self._memory_bytes.get(node, 0)).to_argument()

    def is_too_small(self, node: str, memory_bytes: int) -> bool:
        """Return whether a node never has so much for tasks; False for one that is not known yet."""
        return memory_bytes > self._memory_bytes.get(node, memory_bytes)

    async def host(self, node: str) -> Any:  # noqa: ANN401 - Ray's
        """Return the actor that hosts the workers of a node; it is started where there is none.

        Raises:
            Exception: Ray's own, of many kinds: it does not start.
        """
        async with self._lock:
            if node not in self._hosts:
                kind = ray.remote(NodeHost).options(
                    num_cpus=0,
                    max_restarts=0,
                    max_task_retries=0,
                    max_concurrency=10_000,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
                )
                self._hosts[node] = kind.remote(self._options.node_folder, self._options.cache_bytes)
            host = self._hosts[node]
            try:
                await asyncio.wait_for(self.ask(host.facts.remote()), _HOST_SECONDS)
            except BaseException:
                self._hosts.pop(node, None)  # those who still have it may find it alive again
                raise
            return host

    async def ask(self, reference: Any) -> Any:  # noqa: ANN401 - Ray's, and of the method
        """Wait for what an actor's method returns.

        Raises:
            Exception: what the method raised, or Ray's own.
        """
        return await reference

    async def close(self) -> None:
        """Leave nothing on the nodes."""
        hosts, self._hosts = list(self._hosts.values()), {}
        closing = [asyncio.wait_for(self.ask(host.close.remote()), _LOOK_SECONDS) for host in hosts]
        await asyncio.gather(*closing, return_exceptions=True)
        for host in hosts:
            with contextlib.suppress(Exception):
                ray.kill(host)
        await asyncio.to_thread(ray.shutdown)
