"""Groups of samples (sbgp, sgpd) of a movie and all its fragments, as one."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import U32, Box, Part, broken, build_full, children, parse, unpack

_GROUP: Final = struct.Struct(">II")
_COUNT: Final = struct.Struct(">I")
#: numbers above it are of the fragment's own descriptions
_LOCAL: Final = 0x10000

#: of one track; real ones have one or two
_MOST_KINDS: Final = 8

_Key = tuple[bytes, bytes]


def merge_groups(
    stbl: Box | None, fragments: Sequence[tuple[int, int, bytes]], own_count: int, count: int
) -> tuple[list[Part], set[str]]:
    """The boxes for one sample table.

    Args:
        stbl: of the movie itself.
        fragments: their boxes, with the number of the first sample among those of fragments, and how many they have.
        own_count: samples of the movie itself.
        count: of all samples.

    Returns:
        The boxes, and the kinds of groups that cannot be told as one.
    """
    groupings: dict[_Key, NDArray[Any]] = {}
    own_descriptions = {_kind(box): box for box in children(stbl, b"sgpd")}
    local_descriptions: dict[bytes, set[bytes]] = {}
    placed = [(0, own_count, box) for box in children(stbl, b"sbgp")]
    for first, covered, data in fragments:
        box = parse(data)
        if box.kind == b"sgpd":
            local_descriptions.setdefault(_kind(box), set()).add(data)
        else:
            placed.append((own_count + first, covered, box))
    for first, covered, box in placed:
        key = (_kind(box), _parameter(box))
        if key not in groupings and len(groupings) == _MOST_KINDS:
            raise broken("sbgp", "is one of too many kinds of groups")
        numbers = groupings.setdefault(key, np.zeros(count, dtype=np.uint32))
        told = _numbers(box, covered)
        numbers[first : first + len(told)] = told
    parts: list[Part] = []
    lost: set[str] = set()
    described = dict(own_descriptions)
    for (kind, parameter), numbers in groupings.items():
        local = local_descriptions.get(kind, set())
        is_local = numbers > _LOCAL
        if is_local.any():
            if len(local) != 1 or np.any(~is_local & (numbers > 0)):
                lost.add(kind.decode("latin-1"))
                continue
            described[kind] = parse(next(iter(local)))
        parts += _build(kind, parameter, np.where(is_local, numbers - _LOCAL, numbers))
    boxes: list[Part] = [box.data for kind, box in described.items() if kind.decode("latin-1") not in lost]
    return boxes + parts, lost


def _kind(box: Box) -> bytes:
    unpack(_GROUP, box, 0)
    return bytes(box.body[_COUNT.size : _GROUP.size])


def _parameter(box: Box) -> bytes:
    return bytes(box.body[_GROUP.size : _GROUP.size + 4]) if box.body[0] else b""


def _numbers(box: Box, most: int) -> NDArray[Any]:
    at = _GROUP.size + len(_parameter(box))
    (count,) = unpack(_COUNT, box, at)
    table = box.body[at + _COUNT.size :]
    if count * 8 > len(table):
        raise broken("sbgp", f"says it has {count} entries and has {len(table)} bytes")
    rows = np.frombuffer(table, dtype=">u4", count=count * 2).reshape(count, 2).astype(np.int64)
    if int(rows[:, 0].sum()) > most:
        raise MediaFault("JOIN_FAILED", "The file's sbgp box speaks of more samples than there are.")
    return np.repeat(rows[:, 1], rows[:, 0]).astype(np.uint32)


def _build(kind: bytes, parameter: bytes, numbers: NDArray[Any]) -> list[Part]:
    changed = np.ones(len(numbers), dtype=np.bool_)
    changed[1:] = numbers[1:] != numbers[:-1]
    first = np.flatnonzero(changed)
    rows = np.column_stack((np.diff(np.append(first, len(numbers))), numbers[first]))
    return build_full(
        b"sbgp",
        kind,
        parameter,
        U32.pack(len(rows)),
        rows.astype(">u4").tobytes(),
        version=int(bool(parameter)),
    )
