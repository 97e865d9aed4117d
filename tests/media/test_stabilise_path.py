"""The smoothed path: shake goes, pans and pictures at rest stay, no border is seen, and nothing jumps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("cv2")

from shaken_clips import hand_held
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.stabilise.camera_path import STRENGTHS, Strength, Warps, correct, needed_zoom
from videoprocess_server.media.stabilise.fixed_point import PIXEL_TICKS, UNIT_TICKS
from videoprocess_server.media.stabilise.jitter import camera_path, jitter_px
from videoprocess_server.media.stabilise.motion import MotionKind
from videoprocess_server.media.stabilise.path_task import choose_strength, plan_path
from videoprocess_server.media.stabilise.records import MOTION, PATH, Records, read_records, write_records
from videoprocess_server.media.stabilise.smoothing import envelope, smoothed
from videoprocess_server.model.hdi import VideoStabilisation

Array = NDArray[np.float64]

SIZE = (1280, 720)
TICK = Fraction(1, 30)
HIGH = STRENGTHS[VideoStabilisation.HIGH]


def seconds(frames: int) -> Array:
    return np.arange(frames) / 30


def still(frames: int) -> Array:
    return np.zeros((4, frames))


def corrected(path: Array, strength: Strength = HIGH, *, eased: bool = False) -> Warps:
    return correct(seconds(path.shape[1]), path, SIZE, strength, eased=eased)


def motion_of(path: Array, cuts: tuple[int, ...] = (0,)) -> Records:
    motion = np.zeros(path.shape[1], MOTION)
    steps = np.diff(path, axis=1, prepend=path[:, :1])
    motion["pts"] = np.arange(path.shape[1])
    for name, row, ticks in zip(
        ("dx", "dy", "turn", "growth"), steps, (PIXEL_TICKS, PIXEL_TICKS, UNIT_TICKS, UNIT_TICKS), strict=True
    ):
        motion[name] = np.rint(row * ticks)
    for cut in cuts:
        motion["kind"][cut] = MotionKind.CUT
        for name in ("dx", "dy", "turn", "growth"):
            motion[name][cut] = 0
    return motion


def speed_jitter(path: Array) -> float:
    """Root mean square of the second difference of x and y: a smooth path has hardly any."""
    return float(np.sqrt(np.square(np.diff(path[:2], n=2, axis=1)).sum(axis=0).mean()))


@pytest.mark.parametrize("strength", list(STRENGTHS))
def test_shake_goes_within_the_crop(strength: VideoStabilisation) -> None:
    shake = hand_held(300, 12)
    warps = corrected(shake, STRENGTHS[strength])
    assert speed_jitter(shake + warps.correction) < 0.15 * speed_jitter(shake)
    assert 1 - 1 / warps.zoom.max() <= STRENGTHS[strength].most_cropped + 1e-9
    assert (needed_zoom(warps.correction, SIZE) <= warps.zoom + 1e-9).all()


@pytest.mark.parametrize("most_px", [60, 400, 4000])
def test_more_shake_than_the_crop_allows_is_softened_and_no_border_is_seen(most_px: float) -> None:
    shake = hand_held(300, most_px)
    warps = corrected(shake)
    assert speed_jitter(shake + warps.correction) < speed_jitter(shake)
    assert (needed_zoom(warps.correction, SIZE) <= warps.zoom + 1e-9).all()
    assert 1 - 1 / warps.zoom.max() <= 0.1 + 1e-9


def test_no_pixel_comes_from_beyond_the_border() -> None:
    warps = corrected(hand_held(120, 30))
    a, b, dx, dy = warps.inverse()
    for x in (-639.5, 639.5):
        for y in (-359.5, 359.5):
            assert (np.abs(a * x - b * y + dx) <= 639.5).all()
            assert (np.abs(b * x + a * y + dy) <= 359.5).all()


def test_a_camera_at_rest_is_left_alone() -> None:
    rng = np.random.default_rng(1)
    hardly = np.cumsum(rng.normal(0, 0.02, (4, 300)) * [[1], [1], [0], [0]], axis=1)
    for path in (still(300), hardly):
        path_records, cropped = plan_path(motion_of(path), TICK, SIZE, HIGH)
        assert cropped == 0
        assert set(path_records["a"].tolist()) == {UNIT_TICKS}
        assert not path_records["dx"].any()


@pytest.mark.parametrize("acceleration", [0.0, 60.0, 200.0])
def test_a_pan_is_left_alone(acceleration: float) -> None:
    """In pixels a second, and a second more each second."""
    pan = still(300)
    pan[0] = 300 * seconds(300) + acceleration / 2 * seconds(300) ** 2
    assert not corrected(pan).correction.any()


@pytest.mark.parametrize("acceleration", [0.0, 60.0])
def test_a_shaken_pan_is_followed_without_lag(acceleration: float) -> None:
    pan = still(300)
    pan[0] = 300 * seconds(300) + acceleration / 2 * seconds(300) ** 2
    shake = hand_held(300, 8)
    alone, panned = corrected(shake).correction, corrected(shake + pan).correction
    assert (
        np.abs(panned[0] - alone[0])[27:-27].max() < 0.01
    )  # a parabola is followed exactly but for the ends
    assert np.abs(panned[0] - alone[0]).max() < 12


def test_a_pan_that_begins_soon_after_its_scene_keeps_its_corners() -> None:
    """It begins 0.4 s after the scene does, gets faster for 1 s, and ends as it began."""
    share, shake = np.clip((seconds(120) - 0.4) / 3.2, 0, 1), hand_held(120, 12)
    speed = np.minimum(1.0, np.minimum(share, 1 - share) / 0.3)
    pan = still(120)
    pan[0] = 400 * np.cumsum(speed) / speed.sum()
    beside = shake + corrected(shake + pan).correction
    assert np.sqrt(np.square(np.diff(beside[0])).mean()) < 1.0
    assert speed_jitter(beside) < 0.15 * speed_jitter(shake)


def test_a_pan_that_hardly_shakes_stays_as_it_was_meant() -> None:
    """One that begins and ends; what little shakes must not make it a slower one."""
    rng, pan = np.random.default_rng(6), still(150)
    share = np.clip((seconds(150) - 1) / 3, 0, 1)
    pan[0] = 500 * share * share * (3 - 2 * share)
    hardly = pan + rng.normal(0, 0.35, (4, 150)) * [[1], [1], [0], [0]]
    assert np.abs(corrected(hardly).correction[:2]).max() < 3
    assert np.abs(corrected(pan + hand_held(150, 12)).correction[:2]).max() > 8


def doubted(path: Array, doubtful: slice, jump: float) -> Array:
    """Give what is made of a path of which a part is doubtful and the last step of that jumps."""
    motion = motion_of(path)
    motion["kind"][doubtful] = MotionKind.DOUBTFUL
    motion["dx"][doubtful.stop - 1] += round(jump * PIXEL_TICKS)
    return camera_path(motion)


def test_doubtful_motion_is_believed_where_it_is_like_what_is_around() -> None:
    shake, rest = hand_held(90, 12), still(90)
    np.testing.assert_allclose(doubted(shake, slice(40, 45), 0)[0], shake[0] - shake[0, 0], atol=0.01)
    assert not doubted(rest, slice(40, 45), 20).any()
    assert np.abs(doubted(rest + 1e-3 * shake, slice(40, 45), 20)).max() < 0.1


def test_what_is_known_here_and_there_is_not_believed() -> None:
    motion = motion_of(still(60))
    motion["kind"][20:40] = MotionKind.UNKNOWN
    motion["kind"][[25, 31]] = MotionKind.MEASURED
    motion["dx"][[25, 31]] = 20 * PIXEL_TICKS
    assert not camera_path(motion).any()


def test_what_is_known_among_much_that_is_doubtful_is_believed_where_it_is_like_what_is_around() -> None:
    shake = hand_held(90, 12)
    motion = motion_of(shake)
    motion["kind"][40:50] = MotionKind.DOUBTFUL
    motion["kind"][45] = MotionKind.MEASURED
    np.testing.assert_allclose(camera_path(motion)[0], shake[0] - shake[0, 0], atol=0.01)


def test_shake_that_begins_is_met_without_a_jump() -> None:
    shake = hand_held(900, 12)
    shake[:, :600] = shake[:, 600:601]
    warps = corrected(shake)
    assert not warps.correction[:, :450].any()
    assert (warps.zoom[:250] == 1).all()
    made = shake + warps.correction
    assert np.abs(np.diff(made[0], n=2)).max() < 0.6 * np.abs(np.diff(shake[0], n=2)).max()
    assert np.abs(np.diff(warps.zoom)).max() < 0.003


def test_the_ends_do_not_wobble() -> None:
    shake = hand_held(300, 12)
    made = shake + corrected(shake).correction
    middle = np.abs(np.diff(made[:2, 60:-60], n=2, axis=1)).max()
    for end in (slice(0, 45), slice(-45, None)):
        assert np.abs(np.diff(made[:2, end], n=2, axis=1)).max() < max(2 * middle, 0.5)


def test_what_is_enhanced_from_the_middle_begins_as_it_was() -> None:
    warps = corrected(hand_held(300, 12), eased=True)
    assert not warps.correction[:, 0].any()
    assert warps.zoom[0] == 1
    assert np.abs(np.diff(warps.correction[:2, :10])).max() < 0.5


def test_each_scene_has_its_own_path() -> None:
    one, other = hand_held(120, 12, seed=1), hand_held(150, 9, seed=2)
    both = np.concatenate([one, other + one[:, -1:]], axis=1)
    path, _ = plan_path(motion_of(both, cuts=(0, 120)), TICK, SIZE, HIGH)
    alone, _ = plan_path(motion_of(one), TICK, SIZE, HIGH)
    for name in ("a", "b", "dx", "dy"):
        np.testing.assert_array_equal(path[name][:120], alone[name])


def test_a_long_scene_in_parts_is_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    motion = motion_of(hand_held(2400, 12))
    whole, _ = plan_path(motion, TICK, SIZE, HIGH)
    monkeypatch.setattr("videoprocess_server.media.stabilise.path_task._PART_FRAMES", 700)
    parts, _ = plan_path(motion, TICK, SIZE, HIGH)
    for name in ("a", "b", "dx", "dy"):
        assert np.abs(whole[name].astype(np.int64) - parts[name]).max() <= 2


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 8])
def test_few_frames(frames: int) -> None:
    path, cropped = plan_path(motion_of(hand_held(8, 12)[:, :frames], cuts=()), TICK, SIZE, HIGH)
    assert len(path) == frames
    assert 0 <= cropped <= 0.1


def test_nothing_but_cuts() -> None:
    path, cropped = plan_path(motion_of(hand_held(20, 12), cuts=tuple(range(20))), TICK, SIZE, HIGH)
    assert cropped == 0
    assert set(path["a"].tolist()) == {UNIT_TICKS}


def test_wild_motion_gives_a_path_that_shows_no_border() -> None:
    rng = np.random.default_rng(4)
    motion = np.zeros(200, MOTION)
    motion["pts"] = np.cumsum(rng.integers(1, 90, 200))
    for name in ("dx", "dy"):
        motion[name] = rng.integers(-600 * PIXEL_TICKS, 600 * PIXEL_TICKS, 200)
    motion["turn"] = rng.integers(-(UNIT_TICKS // 4), UNIT_TICKS // 4, 200)
    motion["growth"] = rng.integers(-(UNIT_TICKS // 5), UNIT_TICKS // 5, 200)
    path, cropped = plan_path(motion, TICK, SIZE, HIGH)
    a, b, dx, dy = (
        path[name] / ticks
        for name, ticks in zip(
            ("a", "b", "dx", "dy"), (UNIT_TICKS, UNIT_TICKS, PIXEL_TICKS, PIXEL_TICKS), strict=True
        )
    )
    assert cropped <= 0.1 + 1e-9
    assert (np.abs(a) * 639.5 + np.abs(b) * 359.5 + np.abs(dx) <= 640).all()
    assert (np.abs(b) * 639.5 + np.abs(a) * 359.5 + np.abs(dy) <= 360).all()


def test_jitter_is_the_motion_that_no_pan_has() -> None:
    shake, pan = hand_held(300, 12), still(300)
    pan[0] = 500 * seconds(300)
    alone = jitter_px(motion_of(shake), TICK, *SIZE)
    assert jitter_px(motion_of(pan), TICK, *SIZE) < 0.001
    assert jitter_px(motion_of(shake + pan), TICK, *SIZE) == pytest.approx(alone, rel=0.01)
    assert jitter_px(motion_of(2 * shake), TICK, *SIZE) == pytest.approx(2 * alone, rel=0.001)
    steps = np.sqrt(np.square(np.diff(shake[:2])).sum(axis=0).mean())
    assert alone == pytest.approx(steps, rel=0.3)


def test_a_variable_rate_is_taken_for_what_it_is() -> None:
    """The same camera seen at other times: what is done to a frame follows from its time, not from its number."""
    fine = hand_held(1200, 12, rate=120)
    chosen = np.sort(np.random.default_rng(3).choice(1200, 500, replace=False))
    times = chosen / 120
    warps = correct(times, fine[:, chosen], SIZE, HIGH, eased=False)
    even = correct(np.arange(1200) / 120, fine, SIZE, HIGH, eased=False)
    beside = np.abs(warps.correction[0] - even.correction[0, chosen])[60:-60]
    assert beside.max() < 0.15 * np.abs(even.correction[0]).max()


@pytest.mark.parametrize(
    ("share", "strength"),
    [
        (0.0001, VideoStabilisation.OFF),
        (0.0006, VideoStabilisation.LOW),
        (0.0016, VideoStabilisation.MIDDLE),
        (0.006, VideoStabilisation.HIGH),
    ],
)
def test_auto_does_as_much_as_is_needed(share: float, strength: VideoStabilisation) -> None:
    diagonal = (1280**2 + 720**2) ** 0.5
    assert choose_strength(VideoStabilisation.AUTO, share * diagonal, 1280, 720) is strength
    assert choose_strength(VideoStabilisation.LOW, share * diagonal, 1280, 720) is VideoStabilisation.LOW


def test_smoothing_follows_lines_and_parabolas_and_envelopes_stay_above() -> None:
    rng = np.random.default_rng(2)
    times = np.cumsum(rng.uniform(0.01, 0.09, 200))
    line, parabola = 3 + 2 * times, 3 + 2 * times - times**2
    np.testing.assert_allclose(smoothed(times, line[None], 1.0)[0], line, atol=1e-9)
    inner = slice(40, -40)
    np.testing.assert_allclose(
        smoothed(times, parabola[None], 1.0, curved=True)[0][inner], parabola[inner], atol=1e-3
    )
    values = rng.uniform(0, 1, 200)
    above = envelope(times, values, 1.0)
    assert (above >= values).all()
    assert np.abs(np.diff(above)).max() < 0.2 * np.abs(np.diff(values)).max()


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    write_records(tmp_path / "path", PATH, 4, 2, np.zeros(3, PATH))
    assert read_records(tmp_path / "path", PATH)[:2] == (4, 2)
    data = (tmp_path / "path").read_bytes()
    for name, broken in (("short", data[:-1]), ("none", b""), ("head", data[:10]), ("long", data + b"x")):
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(MediaFault, match=name):
            read_records(tmp_path / name, PATH)
    with pytest.raises(MediaFault):
        read_records(tmp_path / "path", MOTION)
