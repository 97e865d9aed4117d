"""Keeps the allocator from handing the memory of every message back to the kernel, only to ask for it again."""

from __future__ import annotations

#: gRPC's largest message
_LARGEST_BLOCK_BYTES = 4 << 20


def keep_freed_memory() -> None:
    """Have blocks of messages taken from memory that was freed before.

    glibc maps blocks above a threshold anew each time, and gives more than twice the threshold of free memory back: a fault for
    each page of each message, which costs as much as its SHA-256. It raises the threshold by itself to the largest block that
    was freed (mallopt(3), M_MMAP_THRESHOLD). Another allocator does as it likes.
    """
    bytearray(_LARGEST_BLOCK_BYTES)
