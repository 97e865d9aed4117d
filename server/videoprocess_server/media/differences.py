"""What a result has otherwise than its source, and whether the report says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from videoprocess_server.model.losses import Loss
from videoprocess_server.model.plan import NotKept


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something of the source that the result has otherwise, or not at all."""

    #: the kind of loss that may explain it; None where nothing may
    what: Loss | None
    #: of the source; None where it concerns the file
    track_index: int | None
    text: str


def unnamed(found: Iterable[Difference], named: Iterable[NotKept]) -> Iterator[Difference]:
    """Give the differences that no entry of a report names."""
    told = {(lost.what, lost.track_index) for lost in named}
    for difference in found:
        if (difference.what, difference.track_index) not in told:
            yield difference
