"""A video with an unfinished plan tells where ProcessVideo goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
from test_convert_reports import VIEW

from videoprocess_server.engine.videos import VideoView
from videoprocess_server.model.plan import FilterPlan, NoiseEstimate, Plan, SegmentPlan
from videoprocess_server.model.records import Job, PlanRecord, SegmentRecord
from videoprocess_server.model.states import SegmentState, VideoState
from videoprocess_server.rpc.catalog import Catalog
from videoprocess_server.store.memory import MemoryRepository
from videoprocess_server.store.repository import Repository
from videoprocess_server.store.sqlite import SqliteRepository

#: three segments of a second at 600 ticks, the first frame at tick 100
SEGMENTS = tuple(
    SegmentPlan(
        index=index,
        start_pts=100 + 600 * index,
        end_pts=700 + 600 * index,
        decode_from_pts=100 + 600 * index,
        source_frame_count=30,
        frame_count=30,
        enhanced=True,
    )
    for index in range(3)
)
PLAN = Plan(
    video_track_index=0,
    time_base=Fraction(1, 600),
    first_pts=100,
    last_pts=1880,
    end_pts=1900,
    source_frame_count=90,
    frame_count=90,
    pts_sha256="",
    segments=SEGMENTS,
    renditions=(),
    filters=FilterPlan(pixel_format="yuv420p", enhancement=(), pre_roll_frames=0, post_roll_frames=0),
    grid=None,
    noise=NoiseEstimate(sigma_y=0, sigma_u=0, sigma_v=0, frame_count=1),
    output_time_base=Fraction(1, 600),
    not_kept=(),
)
RECORD = PlanRecord(
    plan_id="p",
    user_id=0,
    video_id="v",
    settings_fingerprint="f",
    fingerprint="",
    enhance_from_us=0,
    plan=PLAN,
    stages=(),
    create_time_us=1,
)


#: the states and lease tokens of segments that are not done
UNDER_WAY = ((SegmentState.LEASED, "t"), (SegmentState.WAITING, ""), (SegmentState.LEASED, "u"))
STORES: dict[str, Callable[[Path], Repository]] = {
    "memory": lambda _folder: MemoryRepository(),
    "sqlite": lambda folder: SqliteRepository(folder / "database"),
}


@pytest.fixture(name="repository", params=STORES)
def _repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    repository = STORES[request.param](tmp_path)
    yield repository
    repository.close()


def keep_plan(repository: Repository, done: set[int]) -> None:
    """One plan of the video, with these segments finished and the others under way."""
    segments = [
        SegmentRecord(plan_id="p", index=index, state=SegmentState.DONE, path=f"p/{index}")
        if index in done
        else SegmentRecord(plan_id="p", index=index, state=state, lease_token=token)
        for index, (state, token) in enumerate(UNDER_WAY)
    ]
    with repository.transaction() as transaction:
        transaction.add_plan(RECORD, segments)


class Idle:
    """Work that has nothing newer than the rows."""

    def live(self, job: Job) -> Job:
        return job


class Lasting:
    """Videos of which nothing expires."""

    def expire_time_us(self, view: VideoView) -> None:
        assert view.video


def show(repository: Repository, view: VideoView) -> Any:
    catalog = Catalog(videos=cast("Any", Lasting()), work=cast("Any", Idle()), repository=repository)
    return catalog.show(view)


def paused(state: VideoState = VideoState.PAUSED) -> VideoView:
    assert VIEW.job is not None
    return replace(
        VIEW, video=replace(VIEW.video, state=state), job=replace(VIEW.job, settings_fingerprint="f")
    )


@pytest.mark.parametrize(
    ("done", "resume_us"),
    [
        (set(), 0),
        ({1, 2}, 0),
        ({0}, 1_000_000),
        ({0, 2}, 1_000_000),
        ({0, 1}, 2_000_000),
        ({0, 1, 2}, 3_000_000),
    ],
)
def test_all_before_the_first_unfinished_segment_is_done(
    repository: Repository, done: set[int], resume_us: int
) -> None:
    keep_plan(repository, done)
    made = show(repository, paused())
    assert made.HasField("resume_timestamp_us")
    assert made.resume_timestamp_us == resume_us


def test_without_a_plan_there_is_no_such_time(repository: Repository) -> None:
    assert not show(repository, paused()).HasField("resume_timestamp_us")
    keep_plan(repository, set())
    assert not show(repository, paused(VideoState.COMPLETED)).HasField("resume_timestamp_us")
    assert not show(repository, replace(VIEW, job=None)).HasField("resume_timestamp_us")
