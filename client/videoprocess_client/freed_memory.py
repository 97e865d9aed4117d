"""Keeps the allocator from handing the memory of every message back to the kernel, only to ask for it again."""

from __future__ import annotations

# More than a message of a transfer.
_LARGEST_BLOCK_BYTES = 4 << 20


def keep_freed_memory() -> None:
    """Have blocks of messages taken from memory that was freed before; the server has the same, and tells why.

    glibc raises the size from which it maps blocks anew to the largest block that was freed (mallopt(3),
    M_MMAP_THRESHOLD). Another allocator does as it likes.
    """
    bytearray(_LARGEST_BLOCK_BYTES)
