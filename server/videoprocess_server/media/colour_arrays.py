"""Converts the colours of many pixels at once, by the tables of colour_tables.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media import colour_tables as tables
from videoprocess_server.model.media_info import Colour

Array = NDArray[np.int64]
#: red, green and blue
Colours = tuple[Array, Array, Array]

_HALF: Final = tables.ONE // 2


def to_srgb(colours: Colours, colour: Colour) -> Colours:
    """Give sRGB's signals of signals of a colour space of SDR; what it cannot show is clipped."""
    if _is_like_srgb(colour):
        return colours
    light = _apply_matrix(_srgb_to_light(colours), _primaries(colour), tables.SRGB_PRIMARIES)
    return _light_to_srgb(light)


def from_srgb(colours: Colours, colour: Colour) -> Colours:
    """Give signals of a colour space of those of sRGB; its white becomes the reference white of HDR."""
    if _is_like_srgb(colour):
        return colours
    light = _apply_matrix(_srgb_to_light(colours), tables.SRGB_PRIMARIES, _primaries(colour))
    return _FROM_LIGHT.get(colour.transfer, _light_to_srgb)(light)


def _is_like_srgb(colour: Colour) -> bool:
    """Whether signals mean nearly the same; the curves of SDR video are shown by displays as sRGB's is."""
    known = tables.knows_primaries(colour.primaries) and colour.primaries != tables.SRGB_PRIMARIES
    return colour.transfer not in _FROM_LIGHT and not known


def _primaries(colour: Colour) -> int:
    return colour.primaries if tables.knows_primaries(colour.primaries) else tables.HDR_PRIMARIES


def _srgb_to_light(colours: Colours) -> Colours:
    return _each(colours, tables.srgb_to_light)


def _light_to_srgb(light: Colours) -> Colours:
    return _each(light, tables.light_to_srgb)


def _light_to_pq(light: Colours) -> Colours:
    return _each(light, tables.white_light_to_pq)


def _light_to_hlg(light: Colours) -> Colours:
    return _each(_multiplied(light, tables.hlg_inverse_gain), tables.scene_light_to_hlg)


#: ISO/IEC 23091-2 transfer of HDR → its signals of light of SDR
_FROM_LIGHT: Final[Mapping[int, Callable[[Colours], Colours]]] = {
    tables.PQ: _light_to_pq,
    tables.HLG: _light_to_hlg,
}


def _multiplied(light: Colours, gain: Callable[[], Sequence[int]]) -> Colours:
    """Multiply colours by what their luminance asks for: HLG's system gamma."""
    shares = (round(share * tables.ONE) for share in tables.luma_shares(tables.HDR_PRIMARIES))
    luminance = sum((share * part for share, part in zip(shares, light, strict=True)), np.int64(0))
    gains = _as_array(gain)[np.minimum(luminance // tables.ONE, tables.LIGHT_MAX)]
    red, green, blue = (np.minimum(part * gains // tables.ONE, tables.LIGHT_MAX) for part in light)
    return red, green, blue


def _apply_matrix(light: Colours, source: int, target: int) -> Colours:
    red, green, blue = (
        np.clip(
            (light[0] * row[0] + light[1] * row[1] + light[2] * row[2] + _HALF) // tables.ONE,
            0,
            tables.LIGHT_MAX,
        )
        for row in tables.rgb_matrix(source, target)
    )
    return red, green, blue


def _each(colours: Colours, table: Callable[[], Sequence[int]]) -> Colours:
    values = _as_array(table)
    return values[colours[0]], values[colours[1]], values[colours[2]]


@cache
def _as_array(table: Callable[[], Sequence[int]]) -> Array:
    return np.array(table(), dtype=np.int64)
