"""Killed at random moments, again and again: the same bytes and one terminal event. `make soak` does many."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, USER, Server, connect
from videoprocess.v1 import job_pb2 as job

SOAKING = "VIDEOPROCESS_SOAK" in os.environ
RUNS = 20 if SOAKING else 1
SEED = 20261122
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "2")


async def _start(server: Server) -> str:
    """Prepares and processes the clip; returns the job."""
    async with connect(server) as api:
        session_id = await api.open_session()
        await api.prepare_path(session_id, "v", "clip.mp4")
        await api.commit_video(session_id)
        return (await api.process(session_id, "v")).job_id


async def _finish(server: Server, job_id: str) -> tuple[str, int]:
    """Waits for the result; returns its SHA-256 and how many terminal events the job has."""
    async with connect(server) as api, asyncio.timeout(PATIENCE_SECONDS):
        async for event in api.events(USER, 0):
            if event.sequence and event.job_id == job_id:
                break
        marker = await api.process(await api.open_session(), "unknown")
        digests = []
        async for event in api.events(USER, 0):
            if event.sequence and event.job_id == job_id:
                digests.append(event.on_process_done.report.artifacts[0].sha256)
            if event.job_id == marker.job_id:
                return digests[0], len(digests)
    raise AssertionError("the subscription ended")


async def _phase(server: Server) -> str:
    async with connect(server) as api:
        return job.JobPhase.Name((await api.video("v")).progress.phase)


@pytest.mark.parametrize("run", range(RUNS))
async def test_kills_at_random_moments_do_not_change_a_byte(tmp_path: Path, run: int) -> None:
    dice = random.Random(SEED + run)
    (tmp_path / "media").mkdir()
    make_clip(tmp_path / "media" / "clip.mp4", frames=300, gop=15, noise_sigma=6.0, width=192, height=108)
    flags = (*FLAGS, "--shared-root", f"media={tmp_path / 'media'}")
    with Server(tmp_path / "undisturbed", *flags) as server:
        expected = await _finish(server, await _start(server))
    hit: Counter[str] = Counter()  # PUBLISH stands for after the end, too
    with Server(tmp_path / "killed", *flags) as server:
        job_id = await _start(server)
        for _ in range(dice.randint(2, 4)):
            await asyncio.sleep(dice.uniform(0.0, 0.8))
            hit[await _phase(server)] += 1
            server.kill()
            server.start()
        assert expected == await _finish(server, job_id)
    print(f"seed {SEED + run}: killed in {dict(hit)}")
