"""When a gate is closed: thresholds that do not flap, and hours of the day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time

_MINUTES_PER_HOUR = 60
_MINUTES_PER_DAY = 24 * _MINUTES_PER_HOUR
_PERIOD = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})", re.ASCII)


class Threshold:
    """Closes at one value and opens at another, so that a value that hovers does not open and close by turns.

    Args:
        close_at: closes at this or beyond: above where it is the higher of the two, else below.
        open_at: opens at this or beyond, on the other side.

    Raises:
        ValueError: the two are the same.
    """

    def __init__(self, *, close_at: float, open_at: float) -> None:
        if close_at == open_at:
            raise ValueError(f"a threshold that closes and opens at {close_at} would flap")
        self._close_at = close_at
        self._open_at = open_at
        self._sign = 1 if close_at >= open_at else -1
        self._closed = False

    def closed_at(self, value: float) -> bool:
        """Return whether it is closed now that the value is this."""
        bound = self._open_at if self._closed else self._close_at
        beyond = self._sign * (value - bound)
        self._closed = beyond > 0 if self._closed else beyond >= 0
        return self._closed


@dataclass(frozen=True)
class QuietPeriod:
    """Minutes of the day, the end excluded; one that ends before it starts goes on past midnight."""

    start_minute: int
    end_minute: int

    @classmethod
    def parse(cls, text: str) -> QuietPeriod:
        """Read HH:MM-HH:MM, as in 22:00-07:00; 24:00 is the end of the day.

        Raises:
            ValueError: it is not such a period, or is empty.
        """
        match = _PERIOD.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not HH:MM-HH:MM")
        start_hour, start_minute, end_hour, end_minute = (int(part) for part in match.groups())
        start = start_hour * _MINUTES_PER_HOUR + start_minute
        end = end_hour * _MINUTES_PER_HOUR + end_minute
        minutes_exist = max(start_minute, end_minute) < _MINUTES_PER_HOUR
        if not minutes_exist or start >= _MINUTES_PER_DAY or end > _MINUTES_PER_DAY:
            raise ValueError(f"{text!r}: there is no such time of day")
        if start == end:
            raise ValueError(f"{text!r} is empty: the whole day is 00:00-24:00")
        return cls(start, end)

    def contains(self, moment: time) -> bool:
        """Return whether it is quiet then."""
        minute = moment.hour * _MINUTES_PER_HOUR + moment.minute
        if self.start_minute < self.end_minute:
            return self.start_minute <= minute < self.end_minute
        return minute >= self.start_minute or minute < self.end_minute

    def __str__(self) -> str:
        return "-".join(
            f"{minute // _MINUTES_PER_HOUR:02}:{minute % _MINUTES_PER_HOUR:02}"
            for minute in (self.start_minute, self.end_minute)
        )
