"""How a player turns the picture: the display matrix, carried over whole."""

from __future__ import annotations

import struct
from typing import Final

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.probe import first_frame

#: a display matrix of ISO/IEC 14496-12: nine numbers, the last column in 2.30, the others in 16.16
_MATRIX: Final = struct.Struct("=9i")
_ONE: Final = 1 << 16
#: where the matrix moves the turned picture
_MOVES: Final = (6, 7)
IDENTITY: Final = (_ONE, 0, 0, 0, _ONE, 0, 0, 0, 1 << 30)


def read_matrix(container: InputContainer, stream: VideoStream) -> tuple[int, ...] | None:
    """The display matrix of a track, None where the picture is shown as it is coded.

    Args:
        container: freshly opened; it is read up to the first frame that decodes.
        stream: the track.

    Raises:
        MediaFault: NO_DECODABLE_FRAME.
    """
    return matrix_of(first_frame(container, stream))


def matrix_of(frame: VideoFrame) -> tuple[int, ...] | None:
    """The display matrix that comes with a frame, None where it is shown as it is coded."""
    matrix = _side_data(frame)
    return None if matrix == IDENTITY else matrix


def fit_matrix(matrix: tuple[int, ...], old: tuple[int, int], new: tuple[int, int]) -> tuple[int, ...]:
    """The matrix for a picture of another size: what moved it by an old side moves it by the new one.

    Args:
        matrix: of the source.
        old: coded width and height of the source.
        new: of the result.
    """
    sides = dict(zip((side * _ONE for side in old), (side * _ONE for side in new), strict=True))
    return tuple(sides.get(value, value) if place in _MOVES else value for place, value in enumerate(matrix))


def _side_data(frame: VideoFrame) -> tuple[int, ...] | None:
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18 cannot list a frame's side data if it does not know one kind of it; it still tells right angles.
        return _turned(frame)
    return None if data is None else _MATRIX.unpack(bytes(data))  # type: ignore[call-overload]


def _turned(frame: VideoFrame) -> tuple[int, ...] | None:
    width, height = frame.width * _ONE, frame.height * _ONE
    return {
        -90: (0, _ONE, 0, -_ONE, 0, 0, height, 0, 1 << 30),
        90: (0, -_ONE, 0, _ONE, 0, 0, 0, width, 1 << 30),
        180: (-_ONE, 0, 0, 0, -_ONE, 0, width, height, 1 << 30),
        -180: (-_ONE, 0, 0, 0, -_ONE, 0, width, height, 1 << 30),
    }.get(frame.rotation)
