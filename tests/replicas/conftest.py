"""Stores for replicas, and what an embedded service makes of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from media_factory import shrink_clip
from postgres_server import PostgresServer
from ray_nodes import RayNodes, ray_nodes
from replicas.replica_set import ReplicaSet, Stores
from replicas.shared_job import FLAGS, Order, embedded_sha256
from s3_server import S3Server, credentials


@pytest.fixture(name="stores", scope="module")
def _stores(s3_server: S3Server) -> Iterator[Stores]:
    """Servers for the tests of a module, and what services need to get in."""
    database = PostgresServer(durable=True).start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials().items():
            patch.setenv(name, value)
        yield Stores(database, s3_server)
    database.remove()


@pytest.fixture(name="nodes", scope="session")
def _nodes() -> Iterator[RayNodes]:
    """Two nodes of one CPU each; who takes one away brings another."""
    pytest.importorskip("ray", reason="Ray is not installed: make test-scale does it")
    with ray_nodes() as nodes:
        yield nodes


@pytest.fixture(name="local")
def _local(tmp_path: Path, stores: Stores) -> Iterator[ReplicaSet]:
    """Two replicas with workers of their own."""
    with ReplicaSet(tmp_path, stores, *FLAGS, "--workers", "1") as replicas:
        yield replicas


@pytest.fixture(name="on_ray")
def _on_ray(tmp_path: Path, stores: Stores, nodes: RayNodes) -> Iterator[ReplicaSet]:
    """Two replicas whose segments are made on the nodes."""
    ray = ("--executor", "ray", "--ray-address", nodes.address, "--ray-node-dir", str(tmp_path / "node"))
    with ReplicaSet(tmp_path, stores, *FLAGS, "--workers", "1", *ray) as replicas:
        yield replicas


@pytest.fixture(name="replicas", params=["local", "on_ray"])
def _replicas(request: pytest.FixtureRequest) -> ReplicaSet:
    replicas: ReplicaSet = request.getfixturevalue(request.param)
    return replicas


@pytest.fixture(name="dog", scope="session")
def _dog(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Order:
    """Twenty segments of real footage."""
    clip = tmp_path_factory.mktemp("clip") / "dog.mp4"
    shrink_clip(clips / "dog_720p30_10s.mp4", clip, width=384, height=216, gop=15)
    return Order(clip)


@pytest.fixture(name="embedded_dog", scope="session")
def _embedded_dog(tmp_path_factory: pytest.TempPathFactory, dog: Order) -> str:
    return embedded_sha256(tmp_path_factory.mktemp("embedded"), dog)
