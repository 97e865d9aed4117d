"""What a join says of its work."""

from __future__ import annotations

from dataclasses import dataclass

from videoprocess_server.model.plan import NotKept
from videoprocess_server.model.tasks import TrackReport


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of the source's tracks, in their order, and what is not in the result."""

    tracks: tuple[TrackReport, ...]
    not_kept: tuple[NotKept, ...]
