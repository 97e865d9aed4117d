"""Walks through sequence parameter sets of H.264 and H.265 to what they tell of the picture's use (VUI).

Pure functions over a stranger's bytes: what they count is bounded, and every read ends with the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from videoprocess_server.media.bit_reader import BitReader

#: of what a track's configuration holds, read at most
_MOST_UNITS: Final = 64
_MOST_SET_BYTES: Final = 4096

_START_CODE: Final = b"\x00\x00\x01"
#: avcC and hvcC: their version
_VERSION: Final = 1
#: avcC: where the number of its sets stands
_AVCC_SETS_AT: Final = 5
_AVCC_COUNT_MASK: Final = 0x1F
#: hvcC: where the number of its arrays stands
_HVCC_ARRAYS_AT: Final = 22
#: nal_unit_type
_H264_SET: Final = 7
_H265_SET: Final = 33
_H264_HEADER_BYTES: Final = 1
_H265_HEADER_BYTES: Final = 2

#: profile_idc of H.264 with which chroma formats, depths and scaling lists are told (7.3.2.1.1)
_H264_HIGH: Final = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_FULL_CHROMA: Final = 3
#: scaling lists of H.264: those of 4x4, all of them, and those of 4:4:4
_H264_SMALL_LISTS, _H264_LISTS, _H264_FULL_LISTS = 6, 8, 12
_POC_OFFSETS: Final = 1
_MOST_POC_OFFSETS: Final = 255

#: of H.265
_MOST_SUB_LAYERS: Final = 8
_PROFILE_BITS, _LEVEL_BITS = 88, 8
_MOST_SHORT_TERM_SETS: Final = 64
_MOST_LONG_TERM: Final = 32
_MOST_PICTURES: Final = 16
_LIST_SIZES: Final = 4
_LISTS_OF_A_SIZE: Final = 6
_MOST_COEFFICIENTS: Final = 64
_MOST_POC_BITS: Final = 12


def usability_of_h264(configuration: bytes) -> Iterator[BitReader]:
    """Give, of each set of an avcC or with start codes that has it, the bits of its VUI after the shape of pixels.

    Raises:
        EOFError, ValueError: a set is not what it should be.
    """
    for unit in _units(configuration, _avcc_sets):
        if len(unit) > _H264_HEADER_BYTES and unit[0] & 31 == _H264_SET:
            yield from _behind_shape(unit[_H264_HEADER_BYTES:], _skip_h264)


def usability_of_h265(configuration: bytes) -> Iterator[BitReader]:
    """Give the same of H.265, of an hvcC or with start codes; of the base layer only.

    Raises:
        EOFError, ValueError: a set is not what it should be.
    """
    for unit in _units(configuration, _hvcc_sets):
        # A second eye's view has sets of its own, of another layer.
        is_base_layer = len(unit) > _H265_HEADER_BYTES and not unit[0] & 1 and not unit[1] >> 3
        if is_base_layer and unit[0] >> 1 & 63 == _H265_SET:
            yield from _behind_shape(unit[_H265_HEADER_BYTES:], _skip_h265)


def _units(configuration: bytes, packed: Callable[[bytes], Iterator[bytes]]) -> Iterator[bytes]:
    is_packed = configuration[:1] == bytes([_VERSION])
    return islice(packed(configuration) if is_packed else _annex_b(configuration), _MOST_UNITS)


def _annex_b(configuration: bytes) -> Iterator[bytes]:
    yield from configuration.split(_START_CODE)[1:]


def _avcc_sets(configuration: bytes) -> Iterator[bytes]:
    at = _AVCC_SETS_AT + 1
    for _ in range(configuration[_AVCC_SETS_AT] & _AVCC_COUNT_MASK if len(configuration) >= at else 0):
        unit, at = _sized(configuration, at)
        yield unit


def _hvcc_sets(configuration: bytes) -> Iterator[bytes]:
    at = _HVCC_ARRAYS_AT + 1
    for _ in range(configuration[_HVCC_ARRAYS_AT] if len(configuration) >= at else 0):
        count = int.from_bytes(configuration[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            if at >= len(configuration):
                return
            unit, at = _sized(configuration, at)
            yield unit


def _sized(configuration: bytes, at: int) -> tuple[bytes, int]:
    """Give the unit behind 16 bits of its size, and where the next one is."""
    end = at + 2 + int.from_bytes(configuration[at : at + 2], "big")
    return configuration[at + 2 : end], end


def _behind_shape(parameters: bytes, skip: Callable[[BitReader], None]) -> Iterator[BitReader]:
    """Give what comes after the shape of pixels; nothing of a set without a VUI."""
    extended_shape = 255
    # without the bytes that keep start codes out
    bits = BitReader(parameters[:_MOST_SET_BYTES].replace(b"\x00\x00\x03", b"\x00\x00"))
    skip(bits)
    if not bits.flag():
        return
    if bits.flag() and bits.number(8) == extended_shape:
        bits.number(32)
    yield bits


def _skip_h264(bits: BitReader) -> None:
    """Skip what comes before vui_parameters_present_flag (ITU-T H.264, 7.3.2.1.1)."""
    profile = bits.number(8)
    bits.number(16)
    bits.unsigned()
    if profile in _H264_HIGH:
        _skip_h264_high(bits)
    bits.unsigned()
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()
    elif kind == _POC_OFFSETS:
        bits.flag()
        for _ in range(2):
            bits.signed()
        for _ in range(bits.unsigned(_MOST_POC_OFFSETS)):
            bits.signed()
    bits.unsigned()
    bits.flag()
    for _ in range(2):
        bits.unsigned()
    if not bits.flag():
        bits.flag()
    bits.flag()
    _skip_window(bits)


def _skip_h264_high(bits: BitReader) -> None:
    chroma = bits.unsigned(_FULL_CHROMA)
    if chroma == _FULL_CHROMA:
        bits.flag()
    for _ in range(2):
        bits.unsigned()
    bits.flag()
    if not bits.flag():
        return
    for number in range(_H264_FULL_LISTS if chroma == _FULL_CHROMA else _H264_LISTS):
        if bits.flag():
            _skip_h264_list(bits, 16 if number < _H264_SMALL_LISTS else 64)


def _skip_h264_list(bits: BitReader, size: int) -> None:
    """Skip a scaling list, which ends early where the next scale is 0 (7.3.2.1.1.1)."""
    scale = 8
    for _ in range(size):
        scale = (scale + bits.signed()) % 256
        if not scale:
            return


def _skip_window(bits: BitReader) -> None:
    """Skip what is cut off at the four sides."""
    if bits.flag():
        for _ in range(4):
            bits.unsigned()


def _skip_h265(bits: BitReader) -> None:
    """Skip what comes before vui_parameters_present_flag (ITU-T H.265, 7.3.2.2.1)."""
    bits.number(4)
    last_sub_layer = bits.number(3)
    bits.flag()
    _skip_profiles(bits, last_sub_layer)
    bits.unsigned()
    if bits.unsigned(_FULL_CHROMA) == _FULL_CHROMA:
        bits.flag()
    for _ in range(2):
        bits.unsigned()
    _skip_window(bits)
    for _ in range(2):
        bits.unsigned()
    poc_bits = bits.unsigned(_MOST_POC_BITS) + 4
    for _ in range(last_sub_layer + 1 if bits.flag() else 1):
        for _ in range(3):
            bits.unsigned()
    for _ in range(6):
        bits.unsigned()
    if bits.flag() and bits.flag():
        _skip_h265_lists(bits)
    bits.number(2)
    if bits.flag():
        bits.number(8)
        for _ in range(2):
            bits.unsigned()
        bits.flag()
    _skip_short_term_sets(bits)
    if bits.flag():
        for _ in range(bits.unsigned(_MOST_LONG_TERM)):
            bits.number(poc_bits + 1)
    bits.number(2)


def _skip_profiles(bits: BitReader, last_sub_layer: int) -> None:
    """Skip profile_tier_level (7.3.3)."""
    bits.number(_PROFILE_BITS + _LEVEL_BITS)
    told = [(bits.flag(), bits.flag()) for _ in range(last_sub_layer)]
    if told:
        bits.number(2 * (_MOST_SUB_LAYERS - last_sub_layer))
    for profile, level in told:
        bits.number(profile * _PROFILE_BITS + level * _LEVEL_BITS)


def _skip_h265_lists(bits: BitReader) -> None:
    """Skip scaling_list_data (7.3.4)."""
    for size in range(_LIST_SIZES):
        for _ in range(0, _LISTS_OF_A_SIZE, 3 if size == _LIST_SIZES - 1 else 1):
            if not bits.flag():
                bits.unsigned()
                continue
            has_own_dc = size > 1
            for _ in range(has_own_dc + min(_MOST_COEFFICIENTS, 1 << (4 + 2 * size))):
                bits.signed()


def _skip_short_term_sets(bits: BitReader) -> None:
    """Skip the reference picture sets, of which one may be told by its difference from the one before (7.3.7)."""
    pictures = 0
    for number in range(bits.unsigned(_MOST_SHORT_TERM_SETS)):
        if number and bits.flag():
            bits.flag()
            bits.unsigned()
            # A picture is in the set if it is used by the current one or, else, if the next flag says so.
            pictures = sum(bits.flag() or bits.flag() for _ in range(pictures + 1))
        else:
            pictures = bits.unsigned(_MOST_PICTURES) + bits.unsigned(_MOST_PICTURES)
            for _ in range(pictures):
                bits.unsigned()
                bits.flag()
