"""Writes H.264 of which each field of a frame is a packet (PAFF), as no encoder at hand does: all samples uncompressed (I_PCM)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from numpy.typing import NDArray

from frame_pictures import draw_frame, plane_values

WIDTH, HEIGHT = 128, 96
#: frames from key frame to key frame
GOP = 10
_BLOCK = 16
#: fields are 1/50 s apart
_FIELDS_A_SECOND = 50
_SPS, _PPS, _IDR, _SLICE = 0x67, 0x68, 0x65, 0x21


class _Bits:
    """A raw byte sequence payload, ITU-T H.264 7.2 and 9.1."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def u(self, count: int, value: int) -> _Bits:
        self._bits.append(f"{value:0{count}b}")
        return self

    def ue(self, *values: int) -> _Bits:
        for value in values:
            code = f"{value + 1:b}"
            self._bits.append("0" * (len(code) - 1) + code)
        return self

    def align(self) -> _Bits:
        text = "".join(self._bits)
        self._bits = [text + "0" * (-len(text) % 8)]
        return self

    def samples(self, data: bytes) -> _Bits:
        self._bits.append(f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}")
        return self

    def unit(self, head: int) -> bytes:
        text = "".join(self._bits) + "1"
        text += "0" * (-len(text) % 8)
        payload = int(text, 2).to_bytes(len(text) // 8, "big")
        return b"\0\0\0\1" + bytes([head]) + _without_start_codes(payload)


def make_field_pairs(path: Path, frames: int = 30) -> Path:
    """Writes a clip; every frame carries its number, and its two packets have times 1/50 s apart."""
    raw = path.with_suffix(".h264")
    fields = [_field(number, bottom) for number in range(frames) for bottom in (0, 1)]
    raw.write_bytes(_parameter_sets() + b"".join(fields))
    with av.open(str(raw)) as source, cast("OutputContainer", av.open(str(path), "w")) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for place, field in enumerate(fields):
            packet = Packet(_parameter_sets() + field if place == 0 else field)
            packet.stream, packet.time_base = stream, Fraction(1, _FIELDS_A_SECOND)
            packet.pts = packet.dts = place
            packet.duration = 1
            packet.is_keyframe = place % (2 * GOP) == 0
            out.mux(packet)
    return path


def _parameter_sets() -> bytes:
    sps = _Bits().u(8, 77).u(8, 0).u(8, 30).ue(0, 0, 0, 4, 1).u(1, 0)
    sps.ue(WIDTH // _BLOCK - 1, HEIGHT // _BLOCK // 2 - 1).u(5, 0b00100)
    pps = _Bits().ue(0, 0).u(2, 0).ue(0, 0, 0).u(3, 0).ue(0, 0, 0).u(3, 0b100)
    return sps.unit(_SPS) + pps.unit(_PPS)


def _field(number: int, bottom: int) -> bytes:
    place = number % GOP
    is_idr = place == 0 and not bottom
    slice_ = _Bits().ue(0, 7, 0).u(4, place % 16).u(1, 1).u(1, bottom)
    if is_idr:
        slice_.ue(number // GOP % 2)
    slice_.u(8, 2 * place + bottom).u(2 if is_idr else 1, 0).ue(0, 1)
    frame = draw_frame(number, WIDTH, HEIGHT)
    planes = [plane_values(frame, index).astype(np.uint8)[bottom::2] for index in range(3)]
    for row in range(HEIGHT // 2 // _BLOCK):
        for column in range(WIDTH // _BLOCK):
            slice_.ue(25).align()
            for index, plane in enumerate(planes):
                slice_.samples(_block(plane, row, column, _BLOCK if index == 0 else _BLOCK // 2))
    return slice_.unit(_IDR if is_idr else _SLICE)


def _block(plane: NDArray[np.uint8], row: int, column: int, side: int) -> bytes:
    return plane[row * side : (row + 1) * side, column * side : (column + 1) * side].tobytes()


def _without_start_codes(payload: bytes) -> bytes:
    """Emulation prevention, 7.4.1."""
    made, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            made.append(3)
            zeros = 0
        made.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(made)
