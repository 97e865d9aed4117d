"""The byte format of camera metadata: everything the reference writes is read, nothing else gets through."""

from __future__ import annotations

import struct
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.model.camera_metadata import (
    MAX_BYTES,
    MAX_TAGS,
    MAX_VALUES,
    Item,
    ItemType,
    SettingError,
    Value,
    encode,
    parse,
)

#: the contract's example, from the reference's own encoder
EXAMPLE = bytes.fromhex(
    "020000000a00000068000000"
    "000000000600001001000000020000001e0000001e000000"
    "01000000010005100300000001000000"
    "00000040"
)
EXAMPLE_ITEMS = (
    Item(index=0, tag=0x10000006, type=ItemType.INT32, values=(30, 30)),
    Item(index=1, tag=0x10050001, type=ItemType.FLOAT, values=(2.0,)),
)

U32 = st.integers(0, 2**32 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
VALUES: dict[ItemType, st.SearchStrategy[Any]] = {
    ItemType.BYTE: st.integers(0, 255),
    ItemType.INT32: INT32,
    ItemType.UINT32: U32,
    ItemType.FLOAT: st.floats(width=32, allow_nan=False),
    ItemType.INT64: st.integers(-(2**63), 2**63 - 1),
    ItemType.DOUBLE: st.floats(allow_nan=False),
    ItemType.RATIONAL: st.tuples(INT32, INT32),
}


@st.composite
def items(draw: st.DrawFn) -> Item:
    item_type = draw(st.sampled_from(ItemType))
    values: list[Value] = draw(st.lists(VALUES[item_type], max_size=8))
    return Item(index=draw(U32), tag=draw(U32), type=item_type, values=tuple(values))


def refusal(data: bytes) -> SettingError:
    with pytest.raises(SettingError) as caught:
        parse(data)
    return caught.value


def is_read_or_malformed(data: bytes) -> bool:
    try:
        parse(data)
    except SettingError as error:
        return error.kind == "malformed"
    return True


def header(tag_count: int, item_capacity: int | None = None) -> bytes:
    return struct.pack("<3I", tag_count, tag_count if item_capacity is None else item_capacity, 0)


def byte_item(count: int, values: bytes, item_type: int = ItemType.BYTE) -> bytes:
    return struct.pack("<4I", 0, 0x10000019, item_type, count) + values


def test_the_contracts_example_is_read() -> None:
    assert parse(EXAMPLE) == EXAMPLE_ITEMS


def test_the_contracts_example_is_written_as_the_reference_writes_it() -> None:
    assert encode(EXAMPLE_ITEMS, item_capacity=10, data_capacity=0x68) == EXAMPLE


def test_no_bytes_are_no_items() -> None:
    assert parse(b"") == ()


def test_a_header_alone_is_no_items() -> None:
    assert parse(encode(())) == ()


def test_default_capacities_are_just_enough_for_the_reference() -> None:
    """Values of up to 4 bytes lie in the item, larger ones in the data area, by 8 bytes."""
    data = encode(
        [
            Item(index=0, tag=1, type=ItemType.BYTE, values=(1, 2, 3, 4)),
            Item(index=1, tag=2, type=ItemType.BYTE, values=(1, 2, 3, 4, 5)),
            Item(index=2, tag=3, type=ItemType.RATIONAL, values=((1, 2), (3, 4))),
        ]
    )
    assert struct.unpack_from("<3I", data) == (3, 3, 8 + 16)


@given(st.lists(items(), max_size=12).map(tuple))
def test_what_is_written_is_read_back(written: tuple[Item, ...]) -> None:
    assert parse(encode(written)) == written


@given(st.lists(items(), max_size=6).map(tuple), U32, U32)
def test_what_is_read_is_written_back(written: tuple[Item, ...], spare: int, data_capacity: int) -> None:
    item_capacity = min(len(written) + spare, 2**32 - 1)
    data = encode(written, item_capacity=item_capacity, data_capacity=data_capacity)
    assert encode(parse(data), item_capacity=item_capacity, data_capacity=data_capacity) == data


@pytest.mark.parametrize("length", range(1, len(EXAMPLE)))
def test_the_example_cut_anywhere_is_malformed(length: int) -> None:
    error = refusal(EXAMPLE[:length])
    assert (error.kind, error.field) == ("malformed", "mode_setting")


@given(st.lists(items(), max_size=5), st.data())
def test_metadata_cut_anywhere_is_malformed(written: list[Item], data: st.DataObject) -> None:
    whole = encode(written)
    length = data.draw(st.integers(1, len(whole) - 1))
    assert refusal(whole[:length]).kind == "malformed"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    assert is_read_or_malformed(data)


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255))
def test_the_example_with_any_byte_changed_is_read_or_malformed(position: int, value: int) -> None:
    changed = bytearray(EXAMPLE)
    changed[position] = value
    assert is_read_or_malformed(bytes(changed))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        pytest.param(EXAMPLE + b"\0", "follow", id="a byte after the last item"),
        pytest.param(header(0) + byte_item(1, b"\1"), "follow", id="an item that is not counted"),
        pytest.param(header(MAX_TAGS + 1), "limit", id="too many tags"),
        pytest.param(header(2**32 - 1), "limit", id="most tags a u32 can say"),
        pytest.param(header(2, item_capacity=1) + byte_item(0, b"") * 2, "capacity", id="over its capacity"),
        pytest.param(
            header(1) + byte_item(MAX_VALUES + 1, bytes(MAX_VALUES + 1)), "limit", id="too many values"
        ),
        pytest.param(header(1) + byte_item(2**32 - 1, b"\1"), "limit", id="most values a u32 can say"),
        pytest.param(header(1) + byte_item(2, b"\1"), "ends within", id="a value short"),
        pytest.param(header(1) + byte_item(1, b"\1" * 4, item_type=7), "unknown type", id="an unknown type"),
        pytest.param(
            header(1) + byte_item(0, b"", item_type=2**32 - 1), "unknown type", id="unknown type, no value"
        ),
    ],
)
def test_what_the_reference_cannot_have_written_is_malformed(data: bytes, word: str) -> None:
    error = refusal(data)
    assert (error.kind, error.field) == ("malformed", "mode_setting")
    assert word in error.message


def test_the_limits_themselves_are_allowed() -> None:
    assert len(parse(header(MAX_TAGS) + byte_item(0, b"") * MAX_TAGS)) == MAX_TAGS
    (item,) = parse(header(1) + byte_item(MAX_VALUES, bytes(MAX_VALUES)))
    assert len(item.values) == MAX_VALUES


def test_over_256_kib_is_too_large_whatever_the_bytes_are() -> None:
    assert refusal(bytes(MAX_BYTES)).kind == "malformed"
    error = refusal(bytes(MAX_BYTES + 1))
    assert (error.kind, error.field) == ("too_large", "mode_setting")


def test_a_tag_that_comes_twice_is_read_twice() -> None:
    twice = (EXAMPLE_ITEMS[0], EXAMPLE_ITEMS[0])
    assert parse(encode(twice)) == twice


def test_a_nan_is_read_as_it_is() -> None:
    (item,) = parse(encode([Item(index=0, tag=1, type=ItemType.DOUBLE, values=(float("nan"),))]))
    assert str(item.values[0]) == "nan"


def test_a_declared_count_allocates_nothing_before_the_bytes_are_there() -> None:
    data = header(1) + byte_item(MAX_VALUES, b"", item_type=ItemType.RATIONAL)
    refusal(data)  # what is allocated once only is there now
    tracemalloc.start()
    refusal(data)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < MAX_VALUES  # 384 kB are declared


def largest_metadata() -> bytes:
    """Nearly 256 KiB in the form that costs most: single bytes."""
    return encode(
        [
            Item(index=i, tag=i, type=ItemType.BYTE, values=tuple(b % 256 for b in range(43_000)))
            for i in range(6)
        ]
    )


def test_memory_is_in_proportion_to_the_length() -> None:
    data = largest_metadata()
    tracemalloc.start()
    parse(data)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 40 * len(data)


def test_time_is_in_proportion_to_the_length() -> None:
    """A quadratic reader needs minutes for this; the bound leaves a slow machine a hundred times what it takes."""
    started = time.perf_counter()
    parse(largest_metadata())
    parse(header(MAX_TAGS) + byte_item(200, bytes(200)) * MAX_TAGS)
    assert time.perf_counter() - started < 2


def test_an_error_tells_field_and_message() -> None:
    error = SettingError("invalid", "zoom_ratio", "0.5 is not within 1.0 to 100.0")
    assert str(error) == "zoom_ratio: 0.5 is not within 1.0 to 100.0"
    assert isinstance(error, ValueError)
