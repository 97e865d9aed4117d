"""Two service programs over one PostgreSQL, one S3 and a Ray cluster: a node that dies changes no byte of what an embedded service makes."""

from __future__ import annotations

import pytest

from ray_nodes import RayNodes
from replicas.replica_set import ReplicaSet
from replicas.shared_job import Order, assert_a_hit_cost_no_byte, hit_in_the_middle

pytestmark = pytest.mark.scale


async def test_a_node_that_dies_costs_its_open_segments(
    on_ray: ReplicaSet, nodes: RayNodes, dog: Order, embedded_dog: str
) -> None:
    job = await hit_in_the_middle(on_ray, dog, lambda: nodes.kill(nodes.nodes[0]))
    nodes.nodes.append(nodes.add())
    await assert_a_hit_cost_no_byte(on_ray, job, embedded_dog)
