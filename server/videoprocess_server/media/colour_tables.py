"""Transfer curves and matrices of colour spaces as tables of integers.

Pixels that are computed from them are the same on every machine, which floating point arithmetic is not: a power may differ
in its last bit from one processor to the next. The curves themselves are computed once, with doubles, and rounded to so
few bits that such a difference does not show; a test holds their digest.

    signal   what is coded, of one of red, green and blue: 0 to SIGNAL_MAX
    light    linear light: 0 to LIGHT_MAX

After ITU-R BT.2100-2 (PQ, HLG), BT.2408-7 (white of graphics: 203 cd/m2) and IEC 61966-2-1 (sRGB). How HDR becomes SDR is in
tone_mapping/table.py.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from math import exp, log
from typing import Final

SIGNAL_MAX: Final = (1 << 14) - 1
LIGHT_MAX: Final = (1 << 16) - 1
#: one, of the entries of `rgb_matrix` and of `hlg_inverse_gain`
ONE: Final = 1 << 14

#: ISO/IEC 23091-2 primaries of HDR that does not tell its own: BT.2020
HDR_PRIMARIES: Final = 9
#: ISO/IEC 23091-2 transfers
PQ: Final = 16
HLG: Final = 18
#: cd/m2 of the white of a page in an HDR video, which SDR shows as its white
REFERENCE_WHITE: Final = 203.0
#: cd/m2 of the brightest light that is told apart: a display's that HLG is defined for, and what most PQ is made for
PEAK: Final = 1000.0
#: of an HLG display of that peak
SYSTEM_GAMMA: Final = 1.2

#: ISO/IEC 23091-2 primaries → red, green, blue and white as x and y; what is not here is as good as BT.709's
_D65: Final = ("0.3127", "0.3290")
_PRIMARIES: Final = {
    1: (("0.640", "0.330"), ("0.300", "0.600"), ("0.150", "0.060"), _D65),
    9: (("0.708", "0.292"), ("0.170", "0.797"), ("0.131", "0.046"), _D65),
    12: (("0.680", "0.320"), ("0.265", "0.690"), ("0.150", "0.060"), _D65),
}
#: those of sRGB
SRGB_PRIMARIES: Final = 1
#: ISO/IEC 23091-2 matrix → shares of red and blue in luma; the rest is green's
_LUMA: Final = {
    1: ("0.2126", "0.0722"),
    4: ("0.30", "0.11"),
    5: ("0.299", "0.114"),
    6: ("0.299", "0.114"),
    7: ("0.212", "0.087"),
    9: ("0.2627", "0.0593"),
    10: ("0.2627", "0.0593"),
}


def knows_primaries(primaries: int) -> bool:
    """Whether colours of these primaries are converted."""
    return primaries in _PRIMARIES


def luma_shares(matrix: int) -> tuple[Fraction, Fraction, Fraction]:
    """Give what red, green and blue contribute to luma; BT.709's where the matrix is not known."""
    red, blue = (Fraction(share) for share in _LUMA.get(matrix, _LUMA[1]))
    return red, 1 - red - blue, blue


@cache
def srgb_to_light() -> tuple[int, ...]:
    """Signal → light."""
    return _table(SIGNAL_MAX, LIGHT_MAX, _srgb_eotf)


@cache
def light_to_srgb() -> tuple[int, ...]:
    """Light → signal."""
    return _table(LIGHT_MAX, SIGNAL_MAX, _srgb_inverse_eotf)


@cache
def white_light_to_pq() -> tuple[int, ...]:
    """Light, of which the most is the reference white → PQ's signal."""
    return _table(LIGHT_MAX, SIGNAL_MAX, lambda light: _pq_inverse_eotf(light * REFERENCE_WHITE))


@cache
def scene_light_to_hlg() -> tuple[int, ...]:
    """Light of the scene → HLG's signal."""
    return _table(LIGHT_MAX, SIGNAL_MAX, _hlg_oetf)


@cache
def hlg_inverse_gain() -> tuple[int, ...]:
    """Luminance of light, of which the most is the reference white → what makes light of the scene of it."""
    share = REFERENCE_WHITE / PEAK

    def gain(light: float) -> float:
        shown = max(light, 1 / LIGHT_MAX) * share
        return float(share * shown ** ((1 - SYSTEM_GAMMA) / SYSTEM_GAMMA))

    return _table(LIGHT_MAX, ONE, gain)


@cache
def rgb_matrix(source: int, target: int) -> tuple[tuple[int, int, int], ...]:
    """Give the matrix from light of one set of primaries to that of another, in units of 1 / ONE."""
    to_xyz, from_xyz = _to_xyz(source), _inverse(_to_xyz(target))
    product = [
        [sum((from_xyz[row][k] * to_xyz[k][column] for k in range(3)), Fraction(0)) for column in range(3)]
        for row in range(3)
    ]
    rows = []
    for row in product:
        first, second = round(row[0] * ONE), round(row[1] * ONE)
        # White stays white.
        rows.append((first, second, ONE - first - second))
    return tuple(rows)


def _table(last: int, most: int, curve: Callable[[float], float]) -> tuple[int, ...]:
    return tuple(round(curve(index / last) * most) for index in range(last + 1))


def _srgb_eotf(signal: float) -> float:
    return signal / 12.92 if signal <= 0.04045 else float(((signal + 0.055) / 1.055) ** 2.4)


def _srgb_inverse_eotf(light: float) -> float:
    return light * 12.92 if light <= 0.0031308 else float(1.055 * light ** (1 / 2.4) - 0.055)


_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_PQ_PEAK = 10_000.0


def pq_eotf(signal: float) -> float:
    """PQ's signal, 0 to 1 → cd/m2."""
    root = signal ** (1 / _PQ_M2)
    return float(_PQ_PEAK * (max(root - _PQ_C1, 0.0) / (_PQ_C2 - _PQ_C3 * root)) ** (1 / _PQ_M1))


def _pq_inverse_eotf(luminance: float) -> float:
    power = (luminance / _PQ_PEAK) ** _PQ_M1
    return float(((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2)


_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073


def hlg_inverse_oetf(signal: float) -> float:
    """HLG's signal, 0 to 1 → light of the scene, 0 to 1."""
    return signal * signal / 3 if signal <= 0.5 else (exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12


def _hlg_oetf(light: float) -> float:
    return float((3 * light) ** 0.5) if light <= 1 / 12 else _HLG_A * log(12 * light - _HLG_B) + _HLG_C


def _to_xyz(primaries: int) -> list[list[Fraction]]:
    *colours, white = (
        [Fraction(x), Fraction(y), 1 - Fraction(x) - Fraction(y)]
        for x, y in _PRIMARIES.get(primaries, _PRIMARIES[SRGB_PRIMARIES])
    )
    columns = [[colours[column][row] for column in range(3)] for row in range(3)]
    aim = [part / white[1] for part in white]
    inverse = _inverse(columns)
    weights = [sum((inverse[row][k] * aim[k] for k in range(3)), Fraction(0)) for row in range(3)]
    return [[columns[row][column] * weights[column] for column in range(3)] for row in range(3)]


def _inverse(m: list[list[Fraction]]) -> list[list[Fraction]]:
    def minor(row: int, column: int) -> Fraction:
        (a, b), (c, d) = ([m[i][j] for j in range(3) if j != column] for i in range(3) if i != row)
        return a * d - b * c

    determinant = sum((m[0][k] * minor(0, k) * (-1) ** k for k in range(3)), Fraction(0))
    return [[minor(j, i) * (-1) ** (i + j) / determinant for j in range(3)] for i in range(3)]
