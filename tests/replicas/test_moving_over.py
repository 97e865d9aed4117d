"""An embedded installation that is killed in the middle of a job is moved over to PostgreSQL and S3, and two services go on with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import post_mortem
from replicas.replica_set import ReplicaSet, Stores
from replicas.shared_job import (
    FLAGS,
    SEGMENTS_BEFORE,
    VIDEO_ID,
    Order,
    assert_ends_once,
    assert_little_was_made_twice,
    begin,
    until,
)
from s3_server import BUCKET
from service_harness import PATIENCE_SECONDS, SERVER, Server, connect

pytestmark = pytest.mark.scale


def _run(*command: str) -> None:
    ended = subprocess.run([*SERVER, *command], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert (ended.returncode, ended.stderr) == (0, "")


async def test_a_job_goes_on_where_it_stood(
    tmp_path: Path, stores: Stores, dog: Order, embedded_dog: str
) -> None:
    replicas = ReplicaSet(tmp_path, stores, *FLAGS, "--workers", "1")
    data_dir = replicas.servers[0].data_dir
    with Server(data_dir, *FLAGS, "--workers", "1") as embedded:
        async with connect(embedded) as api:
            job = await begin(api, dog)
            await until(lambda: _segments_done(data_dir) >= SEGMENTS_BEFORE)
        embedded.kill()
    hit = post_mortem.open_segments(data_dir)
    s3 = ("--to", f"s3://{BUCKET}/{replicas.name}", "--s3-endpoint", stores.s3.endpoint)
    _run("move-blobs", "--data-dir", str(data_dir), *s3)
    rows = ("--to", stores.database.url(), "--to-schema", replicas.name)
    _run("move-database", "--data-dir", str(data_dir), *rows)
    with replicas:
        await assert_ends_once(replicas.servers[1], [job.answer], embedded_dog)
        assert_little_was_made_twice(replicas, hit)
        async with connect(replicas.servers[1]) as api:
            report = (await api.terminal(job.answer)).on_process_done.report
            assert report.reused_segment_count >= SEGMENTS_BEFORE
            assert (await api.video(VIDEO_ID)).artifacts


def _segments_done(data_dir: Path) -> int:
    ((count,),) = post_mortem.rows(data_dir, "SELECT count(*) FROM segments WHERE state = 'done'")
    return int(count)
