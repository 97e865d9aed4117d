"""Finds boxes in a file, so that a test can change single bytes of them."""

from __future__ import annotations


def body_of(data: bytes, *path: str) -> slice:
    """Where a box's body lies.

    Args:
        data: the file.
        path: from the outermost box inwards; "trak:2" is the third of its kind.
    """
    start, end = 0, len(data)
    for step in path:
        kind, _, number = step.partition(":")
        start, end = _nth(data, start, end, kind.encode(), int(number or 0))
    return slice(start, end)


def changed(data: bytes, at: int, new: bytes) -> bytes:
    """The file with other bytes in one place."""
    assert data[at : at + len(new)] != new
    return data[:at] + new + data[at + len(new) :]


def _nth(data: bytes, start: int, end: int, kind: bytes, number: int) -> tuple[int, int]:
    while start + 8 <= end:
        size, found, head = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        if found == kind:
            if not number:
                return start + head, start + size
            number -= 1
        start += size
    raise AssertionError(f"there is no {kind!r}")
