"""What a new file has beside the source: the picture that replaces a track's, and tracks of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.samples import Flags, Ticks
from videoprocess_server.model.losses import Loss


@dataclass(frozen=True, kw_only=True)
class NewPicture:
    """The media that a track of the source gets instead of its own; arrays in decode order."""

    #: the source's track
    track_id: int
    #: ticks in a second
    timescale: int
    #: a whole box
    sample_entry: bytes
    #: as a player shows them, after any edit list
    pts: Ticks
    #: strictly ascending, never after pts; may begin below 0
    dts: Ticks
    #: bytes of each sample
    size: Ticks
    sync: Flags
    #: where the last frame's display ends
    shown_until: int
    #: coded pixels
    width: int
    height: int
    sample_aspect_ratio: Fraction | None = None
    #: nine numbers, None keeps the source's
    matrix: tuple[int, ...] | None = None
    #: gives the samples' bytes in order, in whatever pieces
    read: Callable[[], Iterator[bytes | bytearray | memoryview]]

    def check(self) -> None:
        """Compare the numbers with each other.

        Raises:
            MediaFault: they cannot be of one picture.
        """
        counts = {len(self.pts), len(self.dts), len(self.size), len(self.sync)}
        if counts == {0} or len(counts) != 1 or self.timescale < 1:
            raise MediaFault("JOIN_FAILED", "The new picture has no frames, or tables of different lengths.")
        if np.any(np.diff(self.dts) <= 0) or np.any(self.dts > self.pts):
            raise MediaFault(
                "JOIN_FAILED", "The new picture's decode times go back, or lie after its presentation times."
            )
        if self.shown_until <= int(self.pts.max()):
            raise MediaFault("JOIN_FAILED", "The new picture ends before its last frame is shown.")


@dataclass(frozen=True, kw_only=True)
class NewTrack:
    """A track of our own, such as timed metadata: a few small samples."""

    #: four characters
    handler: str
    name: str
    #: ticks in a second
    timescale: int
    #: a whole box
    sample_entry: bytes
    #: when each sample begins, ascending
    times: Ticks
    durations: Ticks
    payloads: Sequence[bytes]
    #: kind of reference and track id
    reference: tuple[bytes, int] | None = None
    #: three letters
    language: str = "und"


@dataclass(frozen=True, kw_only=True)
class Left:
    """Something of the source that a new file has not, or not exactly."""

    what: Loss
    #: None of the whole file
    track_id: int | None
    count: int
    reason: str
