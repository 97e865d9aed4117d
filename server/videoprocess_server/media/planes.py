"""A frame's planes as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray


def read_plane(frame: VideoFrame, index: int) -> NDArray[Any]:
    """Give the samples of a plane of one component, without the padding of its lines; the frame's own memory."""
    plane = frame.planes[index]
    lines: NDArray[Any] = np.frombuffer(memoryview(plane), dtype=_kind(frame, index))
    return lines.reshape(plane.height, -1)[:, : plane.width]


def write_plane(frame: VideoFrame, index: int, values: NDArray[Any]) -> None:
    """Put samples into a plane of one component; nobody else may hold the frame's memory."""
    plane = frame.planes[index]
    kind = _kind(frame, index)
    lines = np.zeros((plane.height, plane.line_size // kind.itemsize), dtype=kind)
    lines[:, : plane.width] = values
    plane.update(lines.tobytes())


def write_part(frame: VideoFrame, index: int, top: int, left: int, values: NDArray[Any]) -> None:
    """Put samples into a part of a plane of one component; nobody else may hold the frame's memory."""
    plane = frame.planes[index]
    lines = np.frombuffer(memoryview(plane), dtype=_kind(frame, index)).reshape(plane.height, -1).copy()
    lines[top : top + values.shape[0], left : left + values.shape[1]] = values
    plane.update(lines.tobytes())


def _kind(frame: VideoFrame, index: int) -> np.dtype[Any]:
    return np.dtype(np.uint8 if frame.format.components[index].bits == 8 else "<u2")
