"""A stabilised video's passes: motion a segment, one path, and frames that are the same whoever makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

pytest.importorskip("cv2")

from media_factory import make_clip
from media_tasks import as_one_segment, opened, picture_hash, plan_file
from shaken_clips import hand_held, window, write_shaken
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.planes import read_plane
from videoprocess_server.media.segments import filtered_frames
from videoprocess_server.media.stabilise.jitter import jitter_px
from videoprocess_server.media.stabilise.measurement import measure_motion
from videoprocess_server.media.stabilise.motion import MotionKind, MotionMeter
from videoprocess_server.media.stabilise.path_task import make_path
from videoprocess_server.media.stabilise.records import MOTION, PATH, read_records
from videoprocess_server.model.hdi import VideoStabilisation
from videoprocess_server.model.plan import Plan, SegmentPlan
from videoprocess_server.model.settings_snapshot import ModeSetting
from videoprocess_server.model.tasks import MotionTask, PathResult, PathTask, SegmentDone, TaskMessage

HALF_SECOND = Fraction(1, 2)
HIGH = ModeSetting(stabilisation=VideoStabilisation.HIGH)
AUTO = ModeSetting(stabilisation=VideoStabilisation.AUTO)


@pytest.fixture(name="shaken", scope="module")
def _shaken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shaken(tmp_path_factory.mktemp("shaken") / "shaken.mp4", hand_held(75, 5))


def draft_of(path: Path, setting: ModeSetting = HIGH, **options: int) -> Plan:
    return plan_file(path, setting=setting, segment_seconds=HALF_SECOND, **options)


def measure(path: Path, plan: Plan, leases: Sequence[Sequence[SegmentPlan]], folder: Path) -> list[Path]:
    """Have runs of segments measured, each by itself; give the files in the order of the segments."""
    folder.mkdir(parents=True, exist_ok=True)
    done: dict[int, SegmentDone] = {}
    for lease in leases:
        messages: list[TaskMessage] = []
        outputs = tuple(str(folder / f"{segment.index}.motion") for segment in lease)
        task = MotionTask(plan=plan, segments=tuple(lease), output_paths=outputs)
        with opened(path) as fd:
            result = measure_motion(task, fd, messages.append)
        told = tuple(message for message in messages if isinstance(message, SegmentDone))
        assert result.segments == told
        done |= {each.index: each for each in told}
    assert sorted(done) == [segment.index for segment in plan.segments]
    assert all(len(each.input_sha256) == 64 for each in done.values())
    return [Path(done[index].path) for index in sorted(done)]


def path_of(path: Path, plan: Plan, folder: Path) -> PathResult:
    files = measure(path, plan, [plan.segments], folder / "motion")
    output = folder / "camera_path"
    return make_path(PathTask(plan=plan, motion_paths=tuple(map(str, files)), output_path=str(output)), -1)


def hashes(
    path: Path, plan: Plan, segments: Sequence[SegmentPlan], camera_path: Path
) -> list[tuple[int, str]]:
    with opened(path) as fd:
        return [
            (frame.source_pts, picture_hash(frame.picture))
            for frame in filtered_frames(plan, tuple(segments), fd, camera_path=str(camera_path or ""))
        ]


def jitter_of(path: Path, plan: Plan, camera_path: Path | None) -> float:
    """Measure the frames that the encoder gets."""
    meter, motions = None, []
    with opened(path) as fd:
        for frame in filtered_frames(plan, plan.segments, fd, camera_path=str(camera_path or "")):
            meter = meter or MotionMeter(frame.picture.width, frame.picture.height)
            found = meter.measure(frame.source_pts, read_plane(frame.picture, 0))
            motions.append((found.pts, found.dx, found.dy, found.turn, found.growth, int(found.kind)))
    return jitter_px(np.array(motions, MOTION), plan.time_base, frame.picture.width, frame.picture.height)


@pytest.mark.slow
def test_shake_is_taken_out(shaken: Path, tmp_path: Path) -> None:
    made = path_of(shaken, draft_of(shaken), tmp_path)
    stabilisation = made.plan.stabilisation
    assert stabilisation is not None
    assert not made.plan.is_draft
    assert 0 < stabilisation.most_cropped <= 0.1
    assert made.file.sha256 == stabilisation.path_sha256
    before = jitter_of(shaken, made.plan, None)
    after = jitter_of(shaken, made.plan, tmp_path / "camera_path")
    assert stabilisation.jitter_px == pytest.approx(before, rel=0.15)
    assert after < 0.2 * before


@pytest.mark.slow
def test_motion_does_not_depend_on_the_leases(shaken: Path, tmp_path: Path) -> None:
    plan = draft_of(shaken)
    assert len(plan.segments) >= 4
    whole = measure(shaken, plan, [plan.segments], tmp_path / "whole")
    again = measure(shaken, plan, [plan.segments], tmp_path / "again")
    alone = measure(shaken, plan, [[segment] for segment in reversed(plan.segments)], tmp_path / "alone")
    pairs = measure(shaken, plan, [plan.segments[:3], plan.segments[3:]], tmp_path / "pairs")
    one = as_one_segment(plan)
    (unsegmented,) = measure(shaken, one, [one.segments], tmp_path / "one")
    expected = [file.read_bytes() for file in whole]
    for files in (again, alone, pairs):
        assert [file.read_bytes() for file in files] == expected
    records = np.concatenate([read_records(file, MOTION)[2] for file in whole])
    np.testing.assert_array_equal(records, read_records(unsegmented, MOTION)[2])
    assert records["kind"].tolist() == [MotionKind.CUT] + [MotionKind.MEASURED] * 74


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["8 bits", "10 bits", "variable rate", "zoomed", "denoised", "mirrored", "mid-scene", "open GOPs"]
)
def test_frames_at_a_seam_are_those_of_one_long_run(kind: str, tmp_path: Path) -> None:
    frames = 40 if kind == "denoised" else 60
    rows, pts = hand_held(frames, 5), None
    setting, options = HIGH, dict[str, int]()
    if kind == "variable rate":
        pts = np.cumsum([(20, 40, 19, 60, 33)[number % 5] for number in range(60)]).tolist()
    if kind == "zoomed":
        setting = replace(HIGH, zoom_ratio=1.3)
    if kind == "denoised":
        setting = replace(HIGH, denoise_strength=0.5)
    if kind == "mirrored":
        setting = replace(HIGH, mirror=True)
    if kind == "mid-scene":
        options = {"enhance_from_us": 700_000}
    if kind == "open GOPs":
        clip = make_clip(
            tmp_path / "open.mp4", frames=60, gop=15, b_frames=3, open_gop=True, movement=3.3
        ).path
    else:
        clip = write_shaken(
            tmp_path / "clip.mp4",
            rows,
            size=(160, 96) if kind == "denoised" else (320, 192),
            pix_fmt="yuv420p10le" if kind == "10 bits" else "yuv420p",
            pts=pts,
            time_base=Fraction(1, 600) if pts else Fraction(1, 30),
        )
    draft = draft_of(clip, setting, **options)
    assert len(draft.segments) >= 3
    made = path_of(clip, draft, tmp_path)
    plan, camera_path = replace(made.plan, stabilisation=draft.stabilisation), tmp_path / "camera_path"
    whole = hashes(clip, plan, plan.segments, camera_path)
    alone = [each for segment in plan.segments for each in hashes(clip, plan, [segment], camera_path)]
    assert alone == whole
    if kind != "mid-scene":
        one = as_one_segment(plan)
        assert hashes(clip, one, one.segments, camera_path) == whole
    without = hashes(clip, plan, plan.segments, None)
    changed = [pts for (pts, one), (_, other) in zip(whole, without, strict=True) if one != other]
    if kind != "open GOPs":
        assert len(changed) > 20
    if kind == "mid-scene":
        assert plan.enhance_from_pts is not None
        assert min(changed) > plan.enhance_from_pts


@pytest.mark.slow
def test_a_path_is_the_same_run_after_run(shaken: Path, tmp_path: Path) -> None:
    draft = draft_of(shaken)
    assert path_of(shaken, draft, tmp_path / "one").plan == path_of(shaken, draft, tmp_path / "other").plan


def test_auto_leaves_a_camera_at_rest_alone(tmp_path: Path) -> None:
    still = write_shaken(tmp_path / "still.mp4", np.zeros((4, 40)))
    made = path_of(still, draft_of(still, AUTO), tmp_path)
    assert made.plan.stabilisation is None
    assert not len(read_records(tmp_path / "camera_path", PATH)[2])


def test_a_camera_at_rest_is_left_alone_though_asked(tmp_path: Path) -> None:
    still = write_shaken(tmp_path / "still.mp4", np.zeros((4, 40)))
    assert path_of(still, draft_of(still, HIGH), tmp_path).plan.stabilisation is None


def test_auto_holds_a_shaking_camera(shaken: Path, tmp_path: Path) -> None:
    stabilisation = path_of(shaken, draft_of(shaken, AUTO), tmp_path).plan.stabilisation
    assert stabilisation is not None
    assert stabilisation.strength in (VideoStabilisation.MIDDLE, VideoStabilisation.HIGH)


def test_scenes_are_held_each_for_itself(tmp_path: Path) -> None:
    clip = write_shaken(tmp_path / "cut.mp4", hand_held(60, 5), seeds=[7] * 33 + [9] * 27)
    plan = draft_of(clip)
    files = measure(clip, plan, [plan.segments], tmp_path / "motion")
    kinds = np.concatenate([read_records(file, MOTION)[2]["kind"] for file in files])
    assert np.flatnonzero(kinds == MotionKind.CUT).tolist() == [0, 33]


def test_a_rotated_clip_is_measured_as_it_is_coded(clips: Path, tmp_path: Path) -> None:
    source = clips / "rot90_iphone_3f.mov"
    made = path_of(source, draft_of(source), tmp_path)
    width, height, _ = read_records(tmp_path / "motion" / "0.motion", MOTION)
    assert (width, height) == (568, 320)
    assert made.plan.frame_count == 3


def test_blank_pictures_are_left_alone(clips: Path, tmp_path: Path) -> None:
    """An iPhone's clip of 10 bits whose picture is black."""
    source = clips / "iphone14pro_hlg_noaudio_opengop_rot90.mov"
    assert path_of(source, draft_of(source), tmp_path).plan.stabilisation is None


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "setting"),
    [("png", "rgb24", None), ("png", "rgb48be", HIGH), ("rawvideo", "yuyv422", AUTO)],
)
def test_pixels_that_cannot_be_moved_are_refused(
    codec: str, pix_fmt: str, setting: ModeSetting | None, tmp_path: Path
) -> None:
    """The first of them can."""
    clip = tmp_path / "clip.mov"
    with av.open(str(clip), "w") as out:
        stream = cast("Any", out.add_stream(codec, rate=30))
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for number in range(3):
            frame = VideoFrame(64, 48, "gray").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    if setting is None:
        assert draft_of(clip).is_draft
        return
    with pytest.raises(MediaFault, match=pix_fmt) as told:
        draft_of(clip, setting)
    assert told.value.reason == "STREAM_NOT_SUPPORTED"
    assert plan_file(clip).stabilisation is None


def test_one_frame(tmp_path: Path) -> None:
    clip = write_shaken(tmp_path / "one.mp4", np.zeros((4, 1)))
    assert path_of(clip, draft_of(clip), tmp_path).plan.stabilisation is None


def test_files_that_exist_are_not_written_over(shaken: Path, tmp_path: Path) -> None:
    plan = draft_of(shaken)
    measure(shaken, plan, [plan.segments[:1], plan.segments[1:]], tmp_path)
    with pytest.raises(FileExistsError):
        measure(shaken, plan, [plan.segments[:1]], tmp_path)


def test_motion_that_is_not_whole_is_refused(shaken: Path, tmp_path: Path) -> None:
    plan = draft_of(shaken)
    files = measure(shaken, plan, [plan.segments], tmp_path)
    files[1].write_bytes(files[1].read_bytes()[:-4])
    task = PathTask(plan=plan, motion_paths=tuple(map(str, files)), output_path=str(tmp_path / "path"))
    with pytest.raises(MediaFault, match=r"1\.motion"):
        make_path(task, -1)


def test_a_window_of_the_helper_moves_as_it_says() -> None:
    """The other tests rest on it."""
    steady, moved = window((64, 48)), window((64, 48), 5, -3)
    np.testing.assert_allclose(moved[:40, 8:], steady[3:43, 3:59], atol=1.0)


def test_the_shaken_clip_is_read_back(shaken: Path) -> None:
    with av.open(str(shaken)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 75
