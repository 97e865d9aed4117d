"""Segments are measured as they are made: figures move the right way, a bad segment shows, and who made it does not."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from media_factory import make_clip
from media_tasks import encode, opened, plan_file
from videoprocess_server.media.segments import encode_segments
from videoprocess_server.model.hdi import PixelFormat, StreamIntent, VideoStabilisation
from videoprocess_server.model.plan import NoiseEstimate, Plan
from videoprocess_server.model.quality import SegmentMeasures
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, StreamInfo
from videoprocess_server.model.tasks import EncodeTask, MotionTask, PathTask

HALF_SECOND = Fraction(1, 2)
NOISY = NoiseEstimate(sigma_y=8.0, sigma_u=8.0, sigma_v=8.0, frame_count=3)
CLEAN = NoiseEstimate(sigma_y=0.1, sigma_u=0.1, sigma_v=0.1, frame_count=3)


def _clip(folder: Path, *, noise_sigma: float = 0.0, pix_fmt: str = "yuv420p") -> Path:
    made = make_clip(folder / "clip.mp4", frames=45, gop=15, noise_sigma=noise_sigma, crf=5, pix_fmt=pix_fmt)
    return made.path


def _measured(path: Path, plan: Plan, folder: Path) -> list[SegmentMeasures]:
    found = [done.measures for done in encode(path, plan, plan.segments, folder)]
    assert None not in found
    return [each for each in found if each is not None]


@pytest.mark.slow
def test_denoising_shows(tmp_path: Path) -> None:
    path = _clip(tmp_path, noise_sigma=8)
    for measures in _measured(
        path, plan_file(path, noise=NOISY, segment_seconds=HALF_SECOND), tmp_path / "s"
    ):
        assert measures.before
        assert measures.before.sigma_y == pytest.approx(8, rel=0.2)
        assert measures.after.sigma_y < 0.5 * measures.before.sigma_y
        assert (measures.before.width, measures.before.height) == (320, 180)
        assert measures.changed_ssim
        assert measures.changed_ssim < 0.99


@pytest.mark.slow
def test_what_is_clean_is_left_alone(tmp_path: Path) -> None:
    path = _clip(tmp_path)
    (first, *_) = _measured(path, plan_file(path, noise=CLEAN, segment_seconds=HALF_SECOND), tmp_path / "s")
    assert first.before
    assert first.changed_ssim
    assert first.changed_ssim > 0.97
    assert first.after.sharpness == pytest.approx(first.before.sharpness, rel=0.2)


def test_blur_shows(tmp_path: Path) -> None:
    path = _clip(tmp_path)
    plan = plan_file(path, noise=CLEAN)
    blurred = replace(plan, filters=replace(plan.filters, enhancement=("avgblur=sizeX=2",)))
    (measures,) = _measured(path, blurred, tmp_path / "s")
    assert measures.before
    assert measures.after.sharpness < 0.7 * measures.before.sharpness


@pytest.mark.slow
def test_a_bad_segment_shows(tmp_path: Path) -> None:
    path = _clip(tmp_path, noise_sigma=3)
    plan = plan_file(path, noise=CLEAN, segment_seconds=HALF_SECOND)
    # of the plan's own options those that bound the bytes would be in the way
    options = {name: value for name, value in plan.renditions[0].encoder.options.items() if name == "preset"}
    encoder = replace(plan.renditions[0].encoder, options=options | {"crf": "18"})
    segments = [
        replace(part, encoder_options={1: {"crf": "40"}} if part.index == 1 else {}) for part in plan.segments
    ]
    plan = replace(plan, renditions=(replace(plan.renditions[0], encoder=encoder),), segments=tuple(segments))
    good, bad, also_good = _measured(path, plan, tmp_path / "s")
    for other in (good, also_good):
        assert bad.coding.xpsnr_db < other.coding.xpsnr_db - 4
        assert bad.coding.ssim < other.coding.ssim - 0.02
        assert bad.size_bytes < other.size_bytes


def test_seams_are_told_apart(tmp_path: Path) -> None:
    path = _clip(tmp_path)
    parts = _measured(path, plan_file(path, segment_seconds=HALF_SECOND, noise=CLEAN), tmp_path / "s")
    counts = [(part.at_seams.frame_count if part.at_seams else 0) for part in parts]
    assert counts == [1, 2, 1]  # neither the video's beginning nor its end is one
    assert [part.sample_count for part in parts] == [2, 2, 2]
    assert all(part.coding.least_xpsnr_db <= part.coding.xpsnr_db for part in parts)


def test_one_segment_has_no_seam(tmp_path: Path) -> None:
    path = _clip(tmp_path)
    (whole,) = _measured(path, plan_file(path, noise=CLEAN), tmp_path / "s")
    assert whole.at_seams is None
    assert whole.elsewhere == whole.coding


@pytest.mark.slow
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le"])
def test_alone_or_in_a_run_they_are_the_same(tmp_path: Path, pix_fmt: str) -> None:
    path = _clip(tmp_path, noise_sigma=6, pix_fmt=pix_fmt)
    plan = plan_file(path, noise=NOISY, segment_seconds=HALF_SECOND)
    together = encode(path, plan, plan.segments, tmp_path / "together")
    alone = [encode(path, plan, [part], tmp_path / str(part.index))[0] for part in plan.segments]
    assert [done.measures for done in alone] == [done.measures for done in together]
    assert None not in [done.measures for done in together]


@pytest.mark.slow
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv422p", "yuv420p10le"])
def test_every_chroma_and_depth(tmp_path: Path, pix_fmt: str) -> None:
    path = _clip(tmp_path, noise_sigma=6, pix_fmt=pix_fmt)
    plan = plan_file(path, noise=NOISY, segment_seconds=Fraction(1))
    for measures in _measured(path, plan, tmp_path / "s"):
        assert measures.before
        for before, after in zip(
            (measures.before.sigma_y, measures.before.sigma_u, measures.before.sigma_v),
            (measures.after.sigma_y, measures.after.sigma_u, measures.after.sigma_v),
            strict=True,
        ):
            assert before == pytest.approx(6, rel=0.3)
            assert after < before


@pytest.mark.slow
def test_results_of_another_size_are_measured_in_their_own_pixels(tmp_path: Path) -> None:
    path = _clip(tmp_path)
    streams = [StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, width=160, height=90)]
    setting = ModeSetting(zoom_ratio=2.0, mirror=True)
    (measures,) = _measured(
        path, plan_file(path, setting=setting, streams=streams, noise=CLEAN), tmp_path / "s"
    )
    assert measures.before
    assert (measures.before.width, measures.after.width) == (160, 160)
    scaled = [replace(streams[0], width=320, height=180)]
    (measures,) = _measured(
        path, plan_file(path, setting=setting, streams=scaled, noise=CLEAN), tmp_path / "t"
    )
    assert measures.before
    assert (measures.before.width, measures.after.width) == (160, 320)
    assert measures.changed_ssim is None
    assert measures.coding.ssim > 0.9


def test_another_depth_is_not_compared_with_the_source(tmp_path: Path) -> None:
    path = _clip(tmp_path)
    streams = [StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, format=PixelFormat.YCBCR_P010)]
    (measures,) = _measured(path, plan_file(path, streams=streams, noise=CLEAN), tmp_path / "s")
    assert measures.changed_ssim is None
    assert measures.coding.ssim > 0.9


def test_without_a_video_the_proxy_is_measured(tmp_path: Path) -> None:
    path = _clip(tmp_path)
    streams = [
        StreamInfo(stream_id=3, intent=StreamIntent.STILL_CAPTURE),
        StreamInfo(stream_id=2, intent=StreamIntent.PREVIEW, width=160, height=90),
    ]
    (measures,) = _measured(path, plan_file(path, streams=streams, noise=CLEAN), tmp_path / "s")
    assert measures.after.width == 160


def test_stills_are_not_measured(tmp_path: Path) -> None:
    path = _clip(tmp_path)
    plan = plan_file(path, streams=[StreamInfo(stream_id=3, intent=StreamIntent.STILL_CAPTURE)])
    (done,) = encode(path, plan, plan.segments, tmp_path / "s")
    assert done.measures is None


@pytest.mark.slow
@pytest.mark.parametrize("rates", [(10, 10), (60, 60), (40, 40)])
def test_other_frame_rates_are_measured(tmp_path: Path, rates: tuple[int, int]) -> None:
    path = _clip(tmp_path)
    setting = ModeSetting(frame_rate_range=FrameRateRange(min_fps=rates[0], max_fps=rates[1]))
    plan = plan_file(path, setting=setting, segment_seconds=HALF_SECOND, noise=CLEAN)
    for measures in _measured(path, plan, tmp_path / "s"):
        assert measures.before
        assert measures.coding.frame_count == measures.sample_count
        assert measures.coding.xpsnr_db > 20


@pytest.mark.slow
def test_a_stabilised_video_shakes_less(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    from shaken_clips import hand_held, write_shaken
    from videoprocess_server.media.stabilise.measurement import measure_motion
    from videoprocess_server.media.stabilise.path_task import make_path

    path = write_shaken(tmp_path / "shaken.mp4", hand_held(75, 8))
    setting = ModeSetting(stabilisation=VideoStabilisation.HIGH)
    draft = plan_file(path, setting=setting, noise=CLEAN, segment_seconds=Fraction(1))
    motions = tuple(str(tmp_path / f"{part.index}.motion") for part in draft.segments)
    with opened(path) as fd:
        measure_motion(
            MotionTask(plan=draft, segments=draft.segments, output_paths=motions), fd, lambda _: None
        )
    camera_path = str(tmp_path / "camera_path")
    plan = make_path(PathTask(plan=draft, motion_paths=motions, output_path=camera_path), lambda _: None).plan
    assert plan.stabilisation
    outputs = tuple(str(tmp_path / f"{part.index}.mp4") for part in plan.segments)
    task = EncodeTask(plan=plan, segments=plan.segments, output_paths=outputs, camera_path=camera_path)
    with opened(path) as fd:
        done = encode_segments(task, fd, lambda _: None).segments
    for each in done:
        assert each.measures
        assert each.measures.motion_after
        assert each.measures.motion_after.jitter_px < 0.5 * plan.stabilisation.jitter_px
        assert each.measures.changed_ssim is None
    assert (
        sum(
            each.measures.motion_after.pair_count + 1
            for each in done
            if each.measures and each.measures.motion_after
        )
        == 75
    )


def test_a_source_of_many_more_frames_is_measured_too(tmp_path: Path) -> None:
    """It was forgotten before the frame that comes nearest to a slot was known, and its noise was told as 0."""
    made = make_clip(tmp_path / "clip.mp4", frames=170, fps=Fraction(120), gop=60, width=64, height=48)
    setting = ModeSetting(frame_rate_range=FrameRateRange(min_fps=1, max_fps=1))
    (measures,) = _measured(made.path, plan_file(made.path, setting=setting, noise=CLEAN), tmp_path / "s")
    assert measures.sample_count == 2
    assert measures.before
    assert measures.changed_ssim
    assert measures.changed_ssim > 0.9
