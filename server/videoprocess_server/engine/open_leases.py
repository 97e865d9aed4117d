"""The runs of segments that workers have, from a job's side."""

from __future__ import annotations

from dataclasses import dataclass

from videoprocess_server.model.plan import SegmentPlan


@dataclass(frozen=True)
class Lease:
    """A run of segments that one worker has."""

    token: str
    run: tuple[SegmentPlan, ...]


@dataclass
class OpenLease:
    """A lease that is being worked on. It is over when its worker has ended and all that it made is kept."""

    lease: Lease
    #: monotonic seconds of its last segment's end
    since: float
    #: its worker is another job's from here on
    given_up: bool = False
    #: made segments that are not durable yet
    keeping: int = 0
    #: its worker has ended
    ended: bool = False
