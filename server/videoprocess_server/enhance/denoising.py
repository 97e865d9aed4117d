"""The denoising stage: how strong, given what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from videoprocess_server.enhance.formats import keep_planar
from videoprocess_server.model.plan import NoiseEstimate

#: code values of 255 below which a plane is left as it is: clean footage measures at most 0.4, and denoising a noise of
#: 1 wins 1 to 3 dB of 48
CLEAN_SIGMA: Final = 1.5
#: above it an estimate is not believed
MOST_SIGMA: Final = 40.0
#: a strength of 1 takes noise for so many times what was measured, and for at least so many code values of 255
_STRONGEST: Final = 2.0
_STRONGEST_SIGMA: Final = 3.0
#: less of the noise's variance that stands still is taken for none
_LEAST_FROZEN: Final = 0.25
_MOST_FROZEN: Final = 0.95
#: a curve of the noise over brightness is believed where its mean is that near to what was measured
_BELIEVED_FACTOR: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """How a mode denoises by itself."""

    #: multiple of the measured noise that is taken for noise
    gain: float = 1.0
    #: pictures that are looked at before and after each one
    radius: int = 4


def denoise(
    mode: Denoising | None, strength: float | None, noise: NoiseEstimate, bit_depth: int
) -> tuple[tuple[str, ...], int]:
    """Choose the stages that denoise.

    Args:
        mode: None where the mode does not by itself.
        strength: that was asked for, 0 to 1, or None.
        noise: of the source.
        bit_depth: of the frames that come in.

    Returns:
        The stages, and the frames that they look at before and after each.
    """
    if strength is None and mode is None:
        return (), 0
    how = mode or Denoising()
    measured = (noise.sigma_y, noise.sigma_u, noise.sigma_v)
    believed = tuple(_believed(sigma, how.gain, strength) for sigma in measured)
    planes = [
        argument
        for name, sigma in zip("yuv", believed, strict=True)
        if sigma
        for argument in _plane(name, sigma, noise)
    ]
    if not planes:
        return (), 0
    frozen = _frozen(noise)
    arguments = (f"radius={how.radius}", *planes, *((f"frozen={frozen:.2f}",) if frozen else ()))
    return (keep_planar(bit_depth), f"motion_denoise={':'.join(arguments)}"), how.radius


def _believed(sigma: float, gain: float, strength: float | None) -> float:
    """The noise to remove: by itself none of what may be texture, and no more than cameras make."""
    if strength is None:
        return min(sigma * gain, MOST_SIGMA) if sigma >= CLEAN_SIGMA else 0.0
    return min(max(sigma * _STRONGEST, _STRONGEST_SIGMA) * strength, MOST_SIGMA)


def _plane(name: str, sigma: float, noise: NoiseEstimate) -> list[str]:
    """A plane's arguments: of luma at black and at white, where that is known and agrees with what the plane measures."""
    black, white = noise.sigma_y_at_black, noise.sigma_y_at_white
    if name == "y" and black is not None and white is not None and noise.sigma_y > 0:
        middle = math.sqrt((black * black + white * white) / 2) / noise.sigma_y
        if 1 / _BELIEVED_FACTOR <= middle <= _BELIEVED_FACTOR:
            factor = sigma / noise.sigma_y
            return [f"y0={black * factor:.2f}", f"y255={white * factor:.2f}"]
    return [f"{name}={sigma:.2f}"]


def _frozen(noise: NoiseEstimate) -> float:
    """The share of luma's noise that stands still: averaging over time does not take it away."""
    if noise.temporal_sigma_y is None or noise.sigma_y < CLEAN_SIGMA:
        return 0.0
    changing = noise.temporal_sigma_y / noise.sigma_y
    share = 1 - changing * changing
    return min(share, _MOST_FROZEN) if share >= _LEAST_FROZEN else 0.0
