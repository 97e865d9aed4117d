"""Two service programs over one PostgreSQL, one S3 and a Ray cluster of two nodes: the bytes of an embedded service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_nodes import RayNodes, ray_nodes
from replicas.conftest import FLAGS
from replicas.replica_set import ReplicaSet, Stores
from replicas.shared_job import (
    Order,
    assert_ends_once,
    assert_little_was_made_twice,
    in_the_middle,
)

pytestmark = pytest.mark.scale


@pytest.fixture(name="nodes", scope="module")
def _nodes() -> Iterator[RayNodes]:
    pytest.importorskip("ray", reason="Ray is not installed: make test-scale does it")
    with ray_nodes() as nodes:
        yield nodes


@pytest.fixture(name="replicas")
def _replicas(tmp_path: Path, stores: Stores, nodes: RayNodes) -> Iterator[ReplicaSet]:
    ray = ("--executor", "ray", "--ray-address", nodes.address, "--ray-node-dir", str(tmp_path / "node"))
    with ReplicaSet(tmp_path, stores, *FLAGS, "--workers", "1", *ray) as replicas:
        yield replicas


async def test_a_node_that_dies_costs_its_open_segments(
    replicas: ReplicaSet, nodes: RayNodes, dog: Order, embedded_dog: str
) -> None:
    job = await in_the_middle(replicas, dog)
    with replicas.held():
        hit = replicas.rows.segments("leased")
        nodes.kill(nodes.nodes[0])
    nodes.nodes.append(nodes.add())
    await assert_ends_once(job.other, [job.answer], embedded_dog)
    assert_little_was_made_twice(replicas, hit)


async def test_when_the_driving_one_dies_the_other_goes_on_with_the_nodes(
    replicas: ReplicaSet, dog: Order, embedded_dog: str
) -> None:
    job = await in_the_middle(replicas, dog)
    job.driving.kill()
    hit = replicas.rows.segments("leased")
    await assert_ends_once(job.other, [job.answer], embedded_dog)
    assert_little_was_made_twice(replicas, hit)
