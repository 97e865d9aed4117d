"""Two service programs over one PostgreSQL, one S3 and a Ray cluster: a node that dies changes no byte of what an embedded service makes."""

from __future__ import annotations

import pytest

from ray_nodes import RayNodes
from replicas.replica_set import ReplicaSet
from replicas.shared_job import (
    Order,
    assert_ends_once,
    assert_little_was_made_twice,
    in_the_middle,
)

pytestmark = pytest.mark.scale


async def test_a_node_that_dies_costs_its_open_segments(
    on_ray: ReplicaSet, nodes: RayNodes, dog: Order, embedded_dog: str
) -> None:
    job = await in_the_middle(on_ray, dog)
    with on_ray.held():
        hit = on_ray.rows.segments("leased")
        nodes.kill(nodes.nodes[0])
    nodes.nodes.append(nodes.add())
    await assert_ends_once(job.other, [job.answer], embedded_dog)
    assert_little_was_made_twice(on_ray, hit)
