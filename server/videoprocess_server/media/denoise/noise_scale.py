"""Code values on a scale on which noise is equally strong everywhere.

Noise of a sensor grows with light: its variance is a constant and a share of the signal (A. Foi, M. Trimeche, V. Katkovnik,
K. Egiazarian, "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data", 2008). A square root
makes it even (F. J. Anscombe, "The transformation of Poisson, binomial and negative-binomial data", 1948).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: what the noise's standard deviation becomes
UNIT: Final = 32
#: a smaller deviation would not fit into 16 bits
LEAST_SIGMA: Final = 0.6
#: variances that differ by less, per code value, are one
_FLAT: Final = 1e-6


class NoiseScale:
    """The scale of one plane, there and back.

    Args:
        dark: standard deviation of the noise at code value 0, in code values of 255.
        bright: at 255.
        bits: of a sample.
    """

    def __init__(self, dark: float, bright: float, bits: int) -> None:
        dark, bright = max(dark, LEAST_SIGMA), max(bright, LEAST_SIGMA)
        self._step = 2.0 ** (bits - 8)
        self._most = 2**bits - 1
        self._base = dark * dark
        self._slope = (bright * bright - dark * dark) / 255
        codes = [code / self._step for code in range(self._most + 1)]
        self._table = np.array([round(UNIT * self._scaled(code)) for code in codes], np.int16)

    def _scaled(self, code: float) -> float:
        if abs(self._slope) < _FLAT:
            return code / math.sqrt(self._base)
        return 2 / self._slope * (math.sqrt(self._base + self._slope * code) - math.sqrt(self._base))

    def apply(self, codes: NDArray[Any]) -> NDArray[np.int16]:
        """Scale code values."""
        scaled: NDArray[np.int16] = np.take(self._table, codes)
        return scaled

    def invert(self, scaled: NDArray[np.float32]) -> NDArray[Any]:
        """Return the code values that are nearest; changes what it is given.

        Taking means on the scale reads too low by what the square root bends; that is added again.
        """
        if abs(self._slope) < _FLAT:
            scaled *= np.float32(math.sqrt(self._base) / UNIT * self._step)
        else:
            scaled *= np.float32(self._slope / 2 / UNIT)
            scaled += np.float32(math.sqrt(self._base))
            scaled *= scaled
            scaled -= np.float32(self._base - self._slope * self._slope / 4)
            scaled *= np.float32(self._step / self._slope)
        np.rint(scaled, out=scaled)
        np.clip(scaled, 0, self._most, out=scaled)
        return scaled.astype(np.uint8 if self._most == 255 else np.uint16)
