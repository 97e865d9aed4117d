"""What a file declares, checked against the limits before FFmpeg opens it: only heads are read, nothing is built from them.

FFmpeg makes tables from a file's index before it tells anything about it, and a few bytes can declare billions of packets.
What is not found here, such as an index within media, is bounded by what the kernel lets a worker take.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.model.tasks import MediaLimits


@dataclass
class Declared:
    """Adds up what a file declares, and refuses it once that is too much."""

    limits: MediaLimits
    tracks: int = 0
    packets: int = 0
    index_bytes: int = 0
    metadata_bytes: int = 0
    attachment_bytes: int = 0
    #: boxes or elements whose heads were read; a real file has a few hundred
    heads: int = field(default=0)

    def add(
        self,
        *,
        tracks: int = 0,
        packets: int = 0,
        index_bytes: int = 0,
        metadata_bytes: int = 0,
        attachment_bytes: int = 0,
    ) -> None:
        """Count more.

        Raises:
            MediaFault: OVER_LIMITS.
        """
        limits = self.limits
        self.tracks += tracks
        self.packets += packets
        self.index_bytes += index_bytes
        self.metadata_bytes += metadata_bytes
        self.attachment_bytes += attachment_bytes
        for count, most, of_what in (
            (self.tracks, limits.max_tracks, "tracks"),
            (self.packets, limits.max_packets, "packets"),
            (self.index_bytes, limits.max_index_bytes, "bytes of index"),
            (self.metadata_bytes, limits.max_metadata_bytes, "bytes of metadata"),
            (self.attachment_bytes, limits.max_attachment_bytes, "bytes of attachments"),
        ):
            if count > most:
                raise MediaFault(
                    "OVER_LIMITS", f"The file declares {count} {of_what} or more; at most {most} are taken."
                )

    def picture(self, width: int, height: int) -> None:
        """Note the size of a track's picture.

        Raises:
            MediaFault: OVER_LIMITS.
        """
        if width * height > self.limits.max_pixels:
            raise MediaFault(
                "OVER_LIMITS",
                f"A picture of {width}x{height} has more than {self.limits.max_pixels} pixels.",
            )

    def head(self) -> None:
        """Count a head that was read.

        Raises:
            MediaFault: OVER_LIMITS.
        """
        self.heads += 1
        if self.heads > _MOST_HEADS:
            raise MediaFault("OVER_LIMITS", f"The file's index has more than {_MOST_HEADS} parts.")


#: heads that are read; each takes a few microseconds
_MOST_HEADS = 100_000


def read(fd: int, offset: int, size: int) -> bytes:
    """Return what is there of some bytes; fewer at the file's end."""
    try:
        return os.pread(fd, size, offset)
    except (OSError, OverflowError):  # an offset beyond what files can have
        return b""
