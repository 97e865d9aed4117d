"""A data directory with many pending videos: one is prepared by the service, its row is copied by the store's own code."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benches.clips import DOG, scaled
from benches.job_run import desk
from benches.service import Service
from videoprocess_server.datadir import DATABASE_NAME
from videoprocess_server.store.sqlite import SqliteRepository

USER_ID = 100
CLIP_NAME = "clip.mp4"
PER_TRANSACTION = 1000


def small_clip(media: Path) -> None:
    """Write the clip that all of them are videos of."""
    scaled(DOG, media / CLIP_NAME, width=160, height=90, frames=30, gop_frames=30)


def seed_videos(folder: Path, media: Path, video_ids: Sequence[str]) -> None:
    """Make the data directory of a service in `folder`; all its videos are pending, the first by a real Prepare."""
    with Service(folder, media) as service:
        asyncio.run(_prepare(service, video_ids[0]))
        data_dir = service.data_dir
    repository = SqliteRepository(data_dir / DATABASE_NAME)
    try:
        with repository.read() as reader:
            prepared = reader.get_video(USER_ID, video_ids[0])
        assert prepared is not None
        for begin in range(1, len(video_ids), PER_TRANSACTION):
            with repository.transaction() as tx:
                for number, video_id in enumerate(
                    video_ids[begin : begin + PER_TRANSACTION], start=begin + 1
                ):
                    created = prepared.create_time_us + number
                    tx.put_video(
                        replace(prepared, video_id=video_id, create_time_us=created, update_time_us=created)
                    )
    finally:
        repository.close()


async def _prepare(service: Service, video_id: str) -> None:
    async with desk(service) as client:
        await client.prepare(video_id, CLIP_NAME)
