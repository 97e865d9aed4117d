"""A worker's heap: the memory of one segment's encoder is the next one's, and goes back to the system when nothing is to do.

By itself glibc gives it back after every segment, and the kernel clears all of it again for the next: 2 to 3 % of the CPU time
of H.264 (measured at 720p and 2160p). Other C libraries do not know these names.
"""

from __future__ import annotations

import ctypes
from typing import Final

#: man 3 mallopt; of a worker's environment. Encoders fragment it with larger blocks.
ENVIRONMENT: Final = {"MALLOC_MMAP_THRESHOLD_": str(2 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}


def give_back() -> None:
    """Give what is free back to the system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
