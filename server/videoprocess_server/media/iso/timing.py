"""Times in ticks of the movie, whose scale is made finer where a start or an end lies between two ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from videoprocess_server.media.iso.edit_list import EMPTY, Edit, rescaled, shown_ticks

_MOST_TICKS_PER_SECOND: Final = 0x7FFF_FFFF


def finer_scale(timescale: int, seconds: Iterable[Fraction]) -> tuple[int, int]:
    """By how much a movie's time scale is to be multiplied so that times are exact in it.

    Args:
        timescale: ticks of the movie in a second.
        seconds: the times.

    Returns:
        The factor, and how many of the times stay between two ticks because no scale of 31 bits has them all.
    """
    factor, rounded = 1, 0
    for time in seconds:
        wanted = math.lcm(factor, (time * timescale).denominator)
        if timescale * wanted <= _MOST_TICKS_PER_SECOND:
            factor = wanted
        else:
            rounded += 1
    return factor, rounded


def to_ticks(seconds: Fraction, timescale: int) -> int:
    """The nearest tick."""
    return rescaled(seconds.numerator, timescale, seconds.denominator)


class ShownTimes:
    """When a picture is shown, told as the source tells it where that means the same."""

    def __init__(
        self, edits: tuple[Edit, ...], movie_timescale: int, times: tuple[int, int, int], timescale: int
    ) -> None:
        """Compare with the source's edit list.

        Args:
            edits: the source's.
            movie_timescale: the ticks of their durations.
            times: when the first frame is shown, the last one, and when that one's display ends, in ticks of the
                picture.
            timescale: those ticks in a second.
        """
        start, last, end = times
        first = next((k for k, edit in enumerate(edits) if not edit.is_empty), len(edits))
        leading, shown = edits[:first], edits[first:]
        lead = shown_ticks(leading)
        self._movie_timescale = movie_timescale
        self._start, self._length = Fraction(start, timescale), Fraction(end - start, timescale)
        self._leading = leading if rescaled(lead, timescale, movie_timescale) == start else None
        same_length = (
            len(shown) == 1
            and shown[0].rate == 1
            and self._means_length(shown[0].duration)
            and rescaled(shown[0].duration, timescale, movie_timescale) > last - start
        )
        self._shown = shown[0].duration if same_length else None

    def _means_length(self, duration: int) -> bool:
        """Whether a duration is the length, as near as the source could tell it."""
        return abs(Fraction(duration, self._movie_timescale) - self._length) < Fraction(
            1, self._movie_timescale
        )

    def inexact(self) -> list[Fraction]:
        """Seconds that must be ticks of the movie."""
        start = [] if self._leading is not None or self._start <= 0 else [self._start]
        return start + ([] if self._shown is not None else [self._length])

    def edits(self, media_time: int, scale: int) -> tuple[Edit, ...]:
        """The edit list.

        Args:
            media_time: of the first frame that is shown, in the media.
            scale: ticks of the movie for one of the source's.
        """
        timescale = self._movie_timescale * scale
        if self._leading is not None:
            lead = [Edit(edit.duration * scale, EMPTY, edit.rate) for edit in self._leading]
        else:
            lead = [Edit(to_ticks(self._start, timescale), EMPTY)] if self._start > 0 else []
        length = to_ticks(self._length, timescale) if self._shown is None else self._shown * scale
        return (*lead, Edit(length, media_time))
