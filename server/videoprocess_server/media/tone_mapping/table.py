"""What of HDR is shown as SDR: light of PQ and HLG to colours of BT.709, in linear light.

A pixel goes this way, all of it in doubles:

1. its signals become light of the display in cd/m2: PQ's by its EOTF, HLG's by the inverse OETF and the OOTF of a display of
   1000 cd/m2 (ITU-R BT.2100-2); the reference white of 203 cd/m2 (BT.2408-7) counts as 1;
2. its primaries become those of BT.709, in linear light;
3. what these cannot show moves towards the grey of its own luminance, softly: the luminance stays, and the hue does as far as a line
   in linear light keeps it;
4. red, green and blue are multiplied by one factor that follows from the largest of them, so that neither hue nor saturation changes:
   1 up to the knee, and above it such that the source's peak is SDR's white and nothing below is clipped (Reinhard et al. 2002,
   equation 4, begun at the knee);
5. light becomes the signals of SDR: for video those of a display of BT.1886, for stills those of sRGB.

Frames go through a table of that (`build_cube`), of so few bits that a difference in a double's last ones does not show; a test
holds its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media import colour_tables as tables

Light = NDArray[np.float64]

#: of a table: its nodes a side, a square number, and the bits of its entries
CUBE_SIDE: Final = 64
CUBE_BITS: Final = 12
#: SDR's white of that many bits: libswscale takes 255 of 8 bits for it, and 16 times that of 12
WHITE: Final = 255 << (CUBE_BITS - 8)

#: light of SDR, in units of its white, up to which nothing changes
KNEE: Final = 0.6
#: distance from the grey of its luminance, as a share of what there is to black, up to which a colour stays; and that of BT.2020's blue,
#: the colour that is farthest outside
_SOFT_FROM: Final = 0.97
_FARTHEST: Final = 2.23
#: so dark that a pixel has no colour
_DARK: Final = 1e-9
_BT709: Final = 1
_BT1886_EXPONENT: Final = 2.4


class Curve(Enum):
    """The transfer curve of SDR, by the name that plans use."""

    BT1886 = "bt1886"
    SRGB = "srgb"


@cache
def build_cube(transfer: int, primaries: int, peak: int, curve: Curve, white: int) -> NDArray[np.uint16]:
    """Give SDR for HDR whose codes are evenly spread from 0 to the last of `CUBE_BITS`.

    Args:
        transfer: ISO/IEC 23091-2, PQ or HLG.
        primaries: ISO/IEC 23091-2, of the source.
        peak: cd/m2 of the brightest light of a PQ source; that of HLG is its display's.
        curve: of the result.
        white: the code of HDR's signal of 1.

    Returns:
        Codes of which the most is `WHITE`, indexed by red, green, blue and the channel of the result.
    """
    signals = np.minimum(np.linspace(0.0, ((1 << CUBE_BITS) - 1) / white, CUBE_SIDE), 1.0)
    grid = np.stack(np.meshgrid(signals, signals, signals, indexing="ij"), axis=-1)
    mapped = map_to_sdr(grid, transfer, primaries, peak, curve)
    return np.rint(mapped * WHITE).astype(np.uint16)


def map_to_sdr(signals: Light, transfer: int, primaries: int, peak: int, curve: Curve) -> Light:
    """Give signals of SDR for signals of HDR, all 0 to 1; the last axis is red, green and blue. Arguments as of `build_cube`."""
    shown = _TO_LIGHT[transfer](signals) / tables.REFERENCE_WHITE
    most = (tables.PEAK if transfer == tables.HLG else peak) / tables.REFERENCE_WHITE
    matrix = np.array(tables.rgb_matrix(primaries, _BT709), dtype=np.float64) / tables.ONE
    return _FROM_LIGHT[curve](roll_off(into_gamut(shown @ matrix.T), most))


def into_gamut(light: Light) -> Light:
    """Move colours that have a negative part, or nearly so, towards the grey of their luminance."""
    shares = np.array([float(share) for share in tables.luma_shares(_BT709)])
    grey = np.maximum(light @ shares, _DARK)[..., np.newaxis]
    distance = (grey - light.min(axis=-1, keepdims=True)) / grey
    factor = _compressed(distance, _SOFT_FROM, _FARTHEST) / np.maximum(distance, _SOFT_FROM)
    return np.where(distance > _SOFT_FROM, grey + (light - grey) * factor, light)


def roll_off(light: Light, most: float) -> Light:
    """Make light up to `most` light up to 1; what is brighter still becomes 1 of the same hue.

    Args:
        light: none of it negative.
        most: the source's peak in units of the reference white.
    """
    largest = np.maximum(light.max(axis=-1, keepdims=True), _DARK)
    rolled: Light = np.clip(light * (_compressed(largest, KNEE, max(most, 1.0)) / largest), 0.0, 1.0)
    return rolled


def _compressed(values: Light, begin: float, most: float) -> Light:
    """Give `values` up to `begin`, and above it what grows to 1 at `most` without a corner."""
    rest = 1.0 - begin
    end = (most - begin) / rest
    beyond = np.clip((values - begin) / rest, 0.0, end)
    return np.where(values <= begin, values, begin + rest * beyond * (1 + beyond / end**2) / (1 + beyond))


def _pq_to_light(signals: Light) -> Light:
    return _by_value(signals, tables.pq_eotf)


def _hlg_to_light(signals: Light) -> Light:
    scene = _by_value(signals, tables.hlg_inverse_oetf)
    shares = np.array([float(share) for share in tables.luma_shares(tables.HDR_PRIMARIES)])
    luminance = np.maximum(scene @ shares, _DARK)[..., np.newaxis]
    shown: Light = scene * luminance ** (tables.SYSTEM_GAMMA - 1) * tables.PEAK
    return shown


def _by_value(signals: Light, curve: Callable[[float], float]) -> Light:
    """Apply a curve to each value that there is: of a grid there are few."""
    values, places = np.unique(signals, return_inverse=True)
    return np.array([curve(float(value)) for value in values])[places].reshape(signals.shape)


def _to_bt1886(light: Light) -> Light:
    signals: Light = light ** (1 / _BT1886_EXPONENT)
    return signals


def _to_srgb(light: Light) -> Light:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


_TO_LIGHT: Final[Mapping[int, Callable[[Light], Light]]] = {
    tables.PQ: _pq_to_light,
    tables.HLG: _hlg_to_light,
}
_FROM_LIGHT: Final[Mapping[Curve, Callable[[Light], Light]]] = {
    Curve.BT1886: _to_bt1886,
    Curve.SRGB: _to_srgb,
}
