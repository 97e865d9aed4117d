"""The camera's motion is measured as it was made, whatever moves in the picture, and is none where nothing tells."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("cv2")

from shaken_clips import window
from videoprocess_server.media.stabilise.camera_path import STRENGTHS
from videoprocess_server.media.stabilise.fixed_point import (
    PIXEL_TICKS,
    UNIT_TICKS,
    arc_tangent,
    exponential,
    logarithm,
    sine_and_cosine,
)
from videoprocess_server.media.stabilise.jitter import jitter_px
from videoprocess_server.media.stabilise.motion import Motion, MotionKind, MotionMeter
from videoprocess_server.media.stabilise.path_task import choose_strength, plan_path
from videoprocess_server.media.stabilise.records import MOTION
from videoprocess_server.media.stabilise.robust_fit import fit_similarity
from videoprocess_server.model.hdi import VideoStabilisation

SIZE = (320, 192)


def luma(*place: float, seed: int = 7, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return window(size, *place, seed=seed).astype(np.uint8)


def measure(*frames: NDArray[np.uint8]) -> Motion:
    meter = MotionMeter(frames[0].shape[1], frames[0].shape[0])
    for number, frame in enumerate(frames):
        found = meter.measure(number, frame)
    return found


@pytest.mark.parametrize(
    ("x", "y", "turn", "growth"),
    [
        (0.4, -0.3, 0.0, 0.0),
        (5.0, 3.0, 0.01, 0.0),
        (-17.0, 9.0, -0.03, 0.01),
        (24.0, -11.0, 0.05, -0.02),
    ],
)
def test_known_motion_is_found(x: float, y: float, turn: float, growth: float) -> None:
    found = measure(luma(), luma(x, y, turn, growth))
    assert found.kind is MotionKind.MEASURED
    assert found.dx / PIXEL_TICKS == pytest.approx(x, abs=0.06)
    assert found.dy / PIXEL_TICKS == pytest.approx(y, abs=0.06)
    assert found.turn / UNIT_TICKS == pytest.approx(turn, abs=0.0005)
    assert found.growth / UNIT_TICKS == pytest.approx(growth, abs=0.0005)


def test_a_large_picture_is_measured_in_its_own_pixels() -> None:
    size = (1280, 720)
    found = measure(luma(size=size), luma(11.5, -6.25, 0.01, 0, size=size))
    assert (found.dx / PIXEL_TICKS, found.dy / PIXEL_TICKS) == pytest.approx((11.5, -6.25), abs=0.15)


def test_a_camera_at_rest_does_not_move() -> None:
    found = measure(luma(), luma())
    assert (found.dx, found.dy, found.turn, found.growth) == (0, 0, 0, 0)


def test_noise_and_darkness_hide_little() -> None:
    rng = np.random.default_rng(5)
    frames = [
        np.clip(luma(place) / 5.0 + rng.normal(0, 3, SIZE[::-1]), 0, 255).astype(np.uint8)
        for place in (0.0, 6.0)
    ]
    assert measure(*frames).dx / PIXEL_TICKS == pytest.approx(6.0, abs=0.3)


def test_what_moves_in_front_does_not_count() -> None:
    before, after = luma(), luma(2.0, 1.0)
    thing = luma(seed=3)
    before[40:130, 60:150], after[40:130, 72:162] = thing[40:130, 60:150], thing[40:130, 60:150]
    found = measure(before, after)
    assert (found.dx / PIXEL_TICKS, found.dy / PIXEL_TICKS) == pytest.approx((2.0, 1.0), abs=0.15)


def test_a_thing_that_passes_where_there_is_nothing_else_is_not_the_camera() -> None:
    """A car on plain ground: all corners are its own."""
    rng = np.random.default_rng(2)
    ground = np.clip(90 + rng.normal(0, 0.7, SIZE[::-1]), 0, 255).astype(np.uint8)
    before, after = ground.copy(), ground.copy()
    car = luma(seed=3)
    before[40:120, 60:140], after[40:120, 72:152] = car[40:120, 60:140], car[40:120, 60:140]
    found = measure(before, after)
    assert found.kind is MotionKind.DOUBTFUL or abs(found.dx) < PIXEL_TICKS / 2


def test_a_bus_that_fills_most_of_the_picture_is_not_the_camera() -> None:
    before, after = luma(), luma()
    bus = luma(seed=3)
    before[:, 100:], after[:, 100:] = bus[:, 100:], bus[:, 88:308]
    found = measure(before, after)
    assert (found.kind, found.dx, found.dy) == (MotionKind.MEASURED, 0, 0)


@pytest.mark.parametrize("faint", [0.0, 0.7])
def test_cars_that_pass_leave_a_camera_at_rest_alone(faint: float) -> None:
    """On plain ground, where hardly anything but the cars can be followed."""
    rng, car = np.random.default_rng(2), luma(seed=3)
    meter, motions = MotionMeter(*SIZE), np.zeros(48, MOTION)
    for number in range(48):
        frame = np.clip(90 + rng.normal(0, faint, SIZE[::-1]), 0, 255).astype(np.uint8)
        frame[20:30, 20:40] = 200
        wide = np.pad(frame, ((0, 0), (120, 120)))
        wide[40:140, 9 * number : 9 * number + 120] = car[40:140, :120]
        frame = np.ascontiguousarray(wide[:, 120:-120])
        found = meter.measure(number, frame)
        motions[number] = (number, found.dx, found.dy, found.turn, found.growth, int(found.kind))
    path, cropped = plan_path(motions, Fraction(1, 30), SIZE, STRENGTHS[VideoStabilisation.HIGH])
    assert cropped == 0
    assert not path["dx"].any()
    jitter = jitter_px(motions, Fraction(1, 30), *SIZE)
    assert choose_strength(VideoStabilisation.AUTO, jitter, *SIZE) is VideoStabilisation.OFF


def test_another_scene_is_a_cut() -> None:
    dark = (luma(seed=9) // 3).astype(np.uint8)
    assert measure(luma(), dark).kind is MotionKind.CUT


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (16, 16), (192, 2), (192, 320)])
def test_blank_and_tiny_pictures_tell_nothing(shape: tuple[int, int]) -> None:
    found = measure(np.full(shape, 16, np.uint8), np.full(shape, 16, np.uint8))
    assert found == Motion(pts=1, kind=MotionKind.UNKNOWN)


def test_a_pair_is_measured_alike_whatever_came_before() -> None:
    places = [(0.0, 0.0), (4.0, 1.0), (9.0, -2.0), (3.0, 3.0)]
    frames = [luma(*place) for place in places]
    assert measure(*frames) == Motion(**{**vars(measure(*frames[2:])), "pts": 3})


def test_most_points_decide_the_fit() -> None:
    rng = np.random.default_rng(1)
    before = rng.uniform(-150, 150, (100, 2))
    after = before @ np.array([[math.cos(0.02), math.sin(0.02)], [-math.sin(0.02), math.cos(0.02)]]) + (3, -4)
    after[:45] += (20, 5)
    fit = fit_similarity(before, after)
    assert fit is not None
    assert (fit.dx, fit.dy, fit.b) == pytest.approx((3, -4, math.sin(0.02)), abs=1e-6)
    assert fit.agreement == pytest.approx(0.55)


def test_points_at_one_place_tell_nothing() -> None:
    assert fit_similarity(np.zeros((50, 2)), np.ones((50, 2))) is None
    assert fit_similarity(np.zeros((3, 2)), np.ones((3, 2))) is None


def test_the_polynomials_are_the_functions() -> None:
    values = np.linspace(-0.9, 0.9, 181)
    sine, cosine = sine_and_cosine(values)
    np.testing.assert_allclose(sine, np.sin(values), atol=1e-13)
    np.testing.assert_allclose(cosine, np.cos(values), atol=1e-13)
    np.testing.assert_allclose(exponential(values), np.exp(values), atol=1e-13)
    for value in np.linspace(-0.4, 0.4, 41):
        assert arc_tangent(value) == pytest.approx(math.atan(value), abs=1e-12)
        assert logarithm(1 + value) == pytest.approx(math.log(1 + value), abs=1e-12)
