"""A video with an unfinished plan tells where ProcessVideo goes on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, cast

import pytest
from test_convert_reports import VIEW

from videoprocess_server.engine.videos import VideoView
from videoprocess_server.model.plan import FilterPlan, NoiseEstimate, Plan, SegmentPlan
from videoprocess_server.model.records import Job, PlanRecord, SegmentRecord
from videoprocess_server.model.states import SegmentState, VideoState
from videoprocess_server.rpc.catalog import Catalog

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


@dataclass
class OnePlan:
    """A repository and its reader, with one plan of the video or none."""

    done: set[int]
    record: PlanRecord | None = RECORD

    def read(self) -> AbstractContextManager[OnePlan]:
        return nullcontext(self)

    def find_plan(self, user_id: int, video_id: str, settings_fingerprint: str) -> PlanRecord | None:
        assert (user_id, video_id, settings_fingerprint) == (0, "v", "f")
        return self.record

    def list_segments(self, plan_id: str) -> list[SegmentRecord]:
        assert plan_id == "p"
        states = [SegmentState.DONE if index in self.done else SegmentState.LEASED for index in range(3)]
        return [SegmentRecord(plan_id="p", index=index, state=state) for index, state in enumerate(states)]


class Idle:
    """Work that has nothing newer than the rows."""

    def live(self, job: Job) -> Job:
        return job


class Lasting:
    """Videos of which nothing expires."""

    def expire_time_us(self, view: VideoView) -> None:
        assert view.video


def show(repository: OnePlan, view: VideoView) -> Any:
    catalog = Catalog(
        videos=cast("Any", Lasting()), work=cast("Any", Idle()), repository=cast("Any", repository)
    )
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
def test_all_before_the_first_unfinished_segment_is_done(done: set[int], resume_us: int) -> None:
    made = show(OnePlan(done), paused())
    assert made.HasField("resume_timestamp_us")
    assert made.resume_timestamp_us == resume_us


def test_without_a_plan_there_is_no_such_time() -> None:
    assert not show(OnePlan(set(), record=None), paused()).HasField("resume_timestamp_us")
    assert not show(OnePlan(set()), paused(VideoState.COMPLETED)).HasField("resume_timestamp_us")
    assert not show(OnePlan(set()), replace(VIEW, job=None)).HasField("resume_timestamp_us")
