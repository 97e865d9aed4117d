"""Two service programs whose PostgreSQL or S3 server is killed for ten seconds: a job waits, and goes on to the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from postgres_server import PostgresServer
from replicas.replica_set import ReplicaSet, Stores
from replicas.shared_job import Order, assert_a_hit_cost_no_byte, hit_in_the_middle, until
from s3_server import S3Server

pytestmark = pytest.mark.scale

AWAY_SECONDS = 10.0
STORES: dict[str, Callable[[Stores], PostgresServer | S3Server]] = {
    "PostgreSQL": lambda stores: stores.database,
    "S3": lambda stores: stores.s3,
}


@pytest.mark.parametrize("name", STORES)
async def test_a_store_that_is_killed_for_ten_seconds_costs_no_byte(
    replicas: ReplicaSet, stores: Stores, dog: Order, embedded_dog: str, name: str
) -> None:
    store = STORES[name](stores)
    job = await hit_in_the_middle(replicas, dog, store.kill)
    await asyncio.sleep(AWAY_SECONDS)
    assert [server.exit_code for server in replicas.servers] == [None, None]
    await asyncio.to_thread(store.start)
    await assert_a_hit_cost_no_byte(replicas, job, embedded_dog)


async def test_a_database_that_is_away_for_longer_than_a_lease_costs_no_byte(
    local: ReplicaSet, stores: Stores, dog: Order, embedded_dog: str
) -> None:
    """Whoever drove has stopped by then; either goes on."""
    job = await hit_in_the_middle(local, dog, stores.database.kill)
    await until(lambda: "lease_lost" in job.driving.log_path.read_text())
    await asyncio.to_thread(stores.database.start)
    await assert_a_hit_cost_no_byte(local, job, embedded_dog)


async def test_a_driving_one_that_dies_without_its_stores_costs_no_byte(
    replicas: ReplicaSet, stores: Stores, dog: Order, embedded_dog: str
) -> None:
    """All at once, as a power cut of a rack would have it."""

    def hit() -> None:
        stores.database.kill()
        stores.s3.kill()

    job = await hit_in_the_middle(replicas, dog, hit)
    job.driving.kill()
    stores.s3.start()
    await asyncio.to_thread(stores.database.start)
    await assert_a_hit_cost_no_byte(replicas, job, embedded_dog)
