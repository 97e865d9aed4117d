"""Where each frame of a scene should be, and how much it must be zoomed so that no border is seen.

The camera's path is smoothed by local parabolas: a pan, also one that gets faster, is followed without lag. Where the picture would
have to be moved farther than the crop allows, the path is smoothed less there, not cut off. Stretches without shake stay as
they are, bit for bit. Everything changes slowly: strength, zoom and what is held back are all smooth in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.stabilise.fixed_point import exponential, sine_and_cosine
from videoprocess_server.media.stabilise.jitter import squared_displacement, squared_jitter
from videoprocess_server.media.stabilise.smoothing import (
    averaged,
    envelope,
    most_around,
    smooth_step,
    smoothed,
)
from videoprocess_server.model.hdi import VideoStabilisation

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How much is done."""

    #: how far the smoothing looks before and after each frame
    reach_seconds: float
    #: share of width and height that may be lost at most
    most_cropped: float


STRENGTHS: Final[Mapping[VideoStabilisation, Strength]] = MappingProxyType(
    {
        VideoStabilisation.LOW: Strength(reach_seconds=1.2, most_cropped=0.05),
        VideoStabilisation.MIDDLE: Strength(reach_seconds=1.6, most_cropped=0.08),
        VideoStabilisation.HIGH: Strength(reach_seconds=2.2, most_cropped=0.10),
    }
)

#: reaches that are tried where the wanted correction is far beyond what the crop allows or shake explains, as shares of the whole one; and how
#: far that is, as a multiple of the crop
_SHARES_OF_REACH: Final = (1.0, 0.65, 0.42, 0.27, 0.17)
_MOST_WANTED: Final = 1.25
#: nor may it be so many times what the picture shakes about: where little shakes, slow motion is meant. From a shake of such a
#: share of the diagonal it may be more and more
_MOST_SHAKES: Final = 4.0
_LITTLE_SHAKE: Final = 0.0006
#: how long it takes to hold back what the crop does not allow, and how often it is tried
_HOLD_REACH_SECONDS: Final = 0.4
_TURNS: Final = 20
#: jitter as a share of the picture's diagonal: below the first, where AUTO would not do anything either, nothing is done, from the
#: second on everything
STILL_JITTER: Final = 0.000_3
SHAKING_JITTER: Final = 0.000_6
#: of the parabolas that this jitter is beside: so short that a pan that begins has none
_GATE_REACH_SECONDS: Final = 0.5
#: over which jitter is averaged, and how far from a shaking frame it is acted on
_JITTER_REACH_SECONDS: Final = 1.5
#: how long the zoom takes to change
_ZOOM_REACH_SECONDS: Final = 3.0
#: of the correction at the begin of what is enhanced, inside a scene
_EASE_SECONDS: Final = 1.5
#: how far any of this looks from a frame: a scene may be worked on in parts that overlap by so much
HALO_SECONDS: Final = 16.0

_HALVINGS: Final = 24
#: pixels at the border that interpolation would have to make up
_MARGIN_PIXELS: Final = 1.0


@dataclass(frozen=True)
class Warps:
    """What is done to the frames of a scene, one a column: first moved, turned and grown, then zoomed."""

    #: rows of x and y in pixels, turn in radians, logarithm of the scale
    correction: Array
    zoom: Array

    def inverse(self) -> tuple[Array, Array, Array, Array]:
        """Give a, b, dx and dy: the pixel at (x, y) comes from (a x - b y + dx, b x + a y + dy)."""
        a, b, dx, dy = _inverse(self.correction)
        return a / self.zoom, b / self.zoom, dx, dy


def correct(seconds: Array, path: Array, size: tuple[int, int], strength: Strength, *, eased: bool) -> Warps:
    """Decide the warps of a scene.

    Args:
        seconds: of the frames, ascending.
        path: of the camera, as `jitter.camera_path` adds it up.
        size: width and height of the frames.
        strength: what may be done.
        eased: whether it begins with the frame as it is, since what comes before stays so.
    """
    most_zoom = 1 / (1 - strength.most_cropped)
    correction = _softened(seconds, path, size, strength, most_zoom)
    share = _shaking(seconds, path, size)
    ease = smooth_step((seconds - seconds[0]) / _EASE_SECONDS) if eased else np.ones_like(seconds)
    correction = correction * (share * ease)
    needed = needed_zoom(correction, size)
    zoom = np.minimum(envelope(seconds, np.minimum(needed, most_zoom), _ZOOM_REACH_SECONDS), most_zoom)
    zoom = 1 + (zoom - 1) * ease
    return Warps(correction * _held_back(correction, size, zoom), zoom)


def needed_zoom(correction: Array, size: tuple[int, int]) -> Array:
    """Give the least zoom that shows no border; infinite where none does."""
    a, b, dx, dy = (np.abs(part) for part in _inverse(correction))
    across, down = (max(0.5, (side - 1) / 2) for side in size)
    margin_across, margin_down = (min(_MARGIN_PIXELS, half / 2) for half in (across, down))
    free_across, free_down = across - margin_across - dx, down - margin_down - dy
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.maximum((a * across + b * down) / free_across, (b * across + a * down) / free_down)
    needed = np.where((free_across > 0) & (free_down > 0), np.maximum(needed, 1.0), np.inf)
    moved = (correction != 0).any(axis=0)
    return np.where(moved, needed, 1.0)


def _inverse(correction: Array) -> tuple[Array, Array, Array, Array]:
    """Turn around: where the pixels of the corrected frame come from, before it is zoomed."""
    x, y, turn, growth = correction
    sine, cosine = sine_and_cosine(-turn)
    scale = exponential(-growth)
    a, b = scale * cosine, scale * sine
    return a, b, -(a * x - b * y), -(b * x + a * y)


def _softened(
    seconds: Array, path: Array, size: tuple[int, int], strength: Strength, most_zoom: float
) -> Array:
    """Give the correction that is nearest to the wanted one, within the crop, and as smooth as that allows.

    What is too much is held back, that is smoothed, and so on in turns (projections onto convex sets).
    """
    wanted = _wanted(seconds, path, size, strength)
    most = np.full_like(seconds, most_zoom)
    correction = wanted
    if (needed_zoom(wanted, size) <= most).all():
        return wanted
    for _ in range(_TURNS):
        held_back = correction * _held_back(correction, size, most) - wanted
        correction = wanted + smoothed(seconds, held_back, _HOLD_REACH_SECONDS)
    return correction


def _wanted(seconds: Array, path: Array, size: tuple[int, int], strength: Strength) -> Array:
    """Give the correction of the longest reach that is not far beyond crop and shake, the reach changing slowly."""
    most_zoom = 1 / (1 - _MOST_WANTED * strength.most_cropped)
    about = path - smoothed(seconds, path, _GATE_REACH_SECONDS, curved=True)
    shake = averaged(seconds, squared_displacement(about, *size), _JITTER_REACH_SECONDS)
    little = _LITTLE_SHAKE**2 * float(size[0] ** 2 + size[1] ** 2)
    most_moved = _MOST_SHAKES**2 * shake * np.maximum(1.0, shake / little)
    tries = []
    level = np.full_like(seconds, len(_SHARES_OF_REACH) - 1.0)
    for number, share in enumerate(_SHARES_OF_REACH):
        reach = strength.reach_seconds * share
        tries.append(smoothed(seconds, path, reach, curved=True, straight_ends=True) - path)
        fits = needed_zoom(tries[-1], size) <= most_zoom
        fits &= squared_displacement(tries[-1], *size) <= most_moved
        level = np.where(fits, np.minimum(level, number), level)
        if not number and fits.all():
            return tries[0]
    level = envelope(seconds, level, strength.reach_seconds)
    chosen = np.zeros_like(path)
    for number, tried in enumerate(tries):
        chosen += np.maximum(0.0, 1.0 - np.abs(level - number)) * tried
    return chosen


def _shaking(seconds: Array, path: Array, size: tuple[int, int]) -> Array:
    """Give how much of the correction is made, 0 to 1: none where the camera hardly shakes for a while."""
    squared = squared_jitter(seconds, path, *size, _GATE_REACH_SECONDS)
    diagonal = np.sqrt(float(size[0] ** 2 + size[1] ** 2))
    jitter = np.sqrt(averaged(seconds, squared, _JITTER_REACH_SECONDS)) / diagonal
    share = smooth_step((jitter - STILL_JITTER) / (SHAKING_JITTER - STILL_JITTER))
    return averaged(seconds, most_around(seconds, share, _JITTER_REACH_SECONDS), _JITTER_REACH_SECONDS)


def _held_back(correction: Array, size: tuple[int, int], zoom: Array) -> Array:
    """Give the largest share of each correction, at most 1, that shows no border at a zoom."""
    fits = needed_zoom(correction, size) <= zoom
    if fits.all():
        return np.ones_like(zoom)
    low, high = np.zeros_like(zoom), np.ones_like(zoom)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        inside = needed_zoom(correction * middle, size) <= zoom
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.where(fits, 1.0, low)
