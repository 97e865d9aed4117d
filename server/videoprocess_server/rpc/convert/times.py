"""Times and durations."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

#: about 10,000 years, the most a Duration holds
_MOST_SECONDS = 315_576_000_000


def timestamp(time_us: int) -> Timestamp:
    """Return a wall time of microseconds since the Unix epoch."""
    made = Timestamp()
    made.FromMicroseconds(time_us)
    return made


def optional_timestamp(time_us: int | None) -> Timestamp | None:
    """Return a wall time, or None for none."""
    return None if time_us is None else timestamp(time_us)


def duration_of_us(length_us: int) -> Duration:
    """Return a length of microseconds."""
    made = Duration()
    made.FromMicroseconds(length_us)
    return made


def duration_of_seconds(seconds: float) -> Duration:
    """Return a length of seconds, to the microsecond."""
    return duration_of_us(round(min(max(seconds, 0.0), _MOST_SECONDS) * 1_000_000))
