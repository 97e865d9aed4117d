"""How a player turns the picture: the display matrix, carried over whole unless another orientation is asked for."""

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
#: what turn and mirror
_LINEAR: Final = (0, 1, 3, 4)
#: degrees clockwise → what turns so
_TURNS: Final = {
    0: (_ONE, 0, 0, _ONE),
    90: (0, _ONE, -_ONE, 0),
    180: (-_ONE, 0, 0, -_ONE),
    270: (0, -_ONE, _ONE, 0),
}
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


def turned_matrix(
    source: tuple[int, ...] | None, degrees: int | None, size: tuple[int, int], *, moves: bool
) -> tuple[int, ...] | None:
    """The display matrix of an orientation that is asked for, None where that is the picture as it is coded.

    It takes the place of the source's matrix, which is kept only where it shows the very same. So a mirror in it goes, too.

    Args:
        source: the source's matrix.
        degrees: clockwise, 0, 90, 180 or 270; None: as the source is turned.
        size: coded width and height.
        moves: whether the container's matrices move what they turned back to the origin.
    """
    if degrees is None or _linear(source or IDENTITY) == _TURNS[degrees]:
        return source
    width, height = (side * _ONE for side in size)
    shifts = {0: (0, 0), 90: (height, 0), 180: (width, height), 270: (0, width)}
    a, b, c, d = _TURNS[degrees]
    x, y = shifts[degrees] if moves else (0, 0)
    made = (a, b, 0, c, d, 0, x, y, IDENTITY[-1])
    return None if made == IDENTITY else made


def before_movie_matrix(wanted: tuple[int, ...], movie: tuple[int, ...]) -> tuple[int, ...] | None:
    """The matrix of a track that shows it as wanted, given that players apply the movie's to what the track's has made.

    Returns:
        None where the movie's does not turn by right angles.
    """
    a, b, c, d = (value // _ONE for value in _linear(movie))
    whole = tuple(value * _ONE for value in (a, b, c, d)) == _linear(movie)
    if not whole or abs(a * d - b * c) != 1 or a * a + b * b != 1:
        return None
    columns = [(wanted[0], wanted[1]), (wanted[3], wanted[4]), (wanted[6] - movie[6], wanted[7] - movie[7])]
    # the inverse of a turn by right angles, mirrored or not, is its transpose
    rows = [(x * a + y * b, x * c + y * d) for x, y in columns]
    return (*rows[0], 0, *rows[1], 0, *rows[2], IDENTITY[-1])


def lies_on_side(matrix: tuple[int, ...] | None) -> bool:
    """Whether a picture of that matrix is shown on its side: its lines as columns."""
    a, b, c, d = _linear(matrix or IDENTITY)
    return a == d == 0 and b != 0 and c != 0


def _linear(matrix: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(matrix[place] for place in _LINEAR)


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
