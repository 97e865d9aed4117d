"""Where a track's samples lie and when they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ticks = NDArray[np.int64]
Flags = NDArray[np.bool_]
#: samples of one track: 24 h at 240 fps are 21 million
MOST_SAMPLES: Final = 1 << 25


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Of one track, in decode order; times in ticks of the track's media, edit lists not applied."""

    #: in the file, in bytes
    offset: Ticks
    size: Ticks
    #: decode times, from 0 or from where the first fragment says
    dts: Ticks
    #: presentation times
    pts: Ticks
    duration: Ticks
    sync: Flags
    #: number of the sample entry, from 1
    description: Ticks

    def __len__(self) -> int:
        return len(self.size)


def constant(value: int, count: int) -> Ticks:
    """An array of one number that takes no memory."""
    return np.broadcast_to(np.int64(value), (count,))
