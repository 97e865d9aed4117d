"""OpenHarmony's packed colour space: primaries | transfer << 8 | matrix << 16 | range << 21; 0 is unknown in each."""

from __future__ import annotations

from videoprocess_server.model.media_info import Colour

# Keys are ISO/IEC 23091-2 numbers, values are OpenHarmony's.
_PRIMARIES = {1: 1, 5: 2, 6: 3, 7: 3, 9: 4, 12: 6}
_TRANSFERS = {1: 1, 6: 1, 14: 1, 15: 1, 13: 2, 8: 3, 16: 4, 18: 5}
_MATRICES = {1: 1, 5: 2, 6: 3, 9: 4}
# Keys are FFmpeg's: 1 limited, 2 full.
_RANGES = {1: 2, 2: 1}

_TRANSFER_SHIFT = 8
_MATRIX_SHIFT = 16
_RANGE_SHIFT = 21
_MASKS = (0xFF, 0xFF << _TRANSFER_SHIFT, 0x1F << _MATRIX_SHIFT, 0x7FF << _RANGE_SHIFT)


def pack_dataspace(colour: Colour) -> int:
    """Pack a colour description; what has no OpenHarmony number stays 0."""
    return (
        _PRIMARIES.get(colour.primaries, 0)
        | _TRANSFERS.get(colour.transfer, 0) << _TRANSFER_SHIFT
        | _MATRICES.get(colour.matrix, 0) << _MATRIX_SHIFT
        | _RANGES.get(colour.range, 0) << _RANGE_SHIFT
    )


def dataspaces_agree(one: int, other: int) -> bool:
    """Whether two packed colour spaces are the same in every part that both know."""
    return all(one & mask == other & mask or not one & mask or not other & mask for mask in _MASKS)
