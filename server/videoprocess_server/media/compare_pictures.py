"""Compares what comes with the first frame of a result and of its source: how it is turned, its light, its projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from av.video.frame import VideoFrame

from videoprocess_server.media.differences import Difference
from videoprocess_server.media.hdr import (
    PictureMetadata,
    is_mapped,
    picture_metadata,
    side_data,
    static_metadata,
)
from videoprocess_server.media.orientation import matrix_of
from videoprocess_server.media.probe import first_frame
from videoprocess_server.media.source import open_source, video_stream
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.tasks import VerifyTask

#: what a frame has, and the loss that a report may explain a difference with
_KEPT: Final[Mapping[str, tuple[Callable[[VideoFrame], object], Loss]]] = {
    "light of HDR10": (static_metadata, Loss.HDR_METADATA),
    "projection": (lambda frame: side_data(frame, "SPHERICAL"), Loss.PICTURE_MARKS),
    "stereo layout": (lambda frame: side_data(frame, "STEREO3D"), Loss.PICTURE_MARKS),
    "colour profile": (lambda frame: side_data(frame, "ICC_PROFILE"), Loss.PICTURE_MARKS),
}
#: of what does not tell of light
_LOSS_OF: Final = {PictureMetadata.TIME_CODE: Loss.TIME_CODE}


def picture_differences(source_fd: int, result_fd: int, task: VerifyTask, track: int) -> Iterator[Difference]:
    """Give what the first frame of the result has otherwise than the source's.

    Args:
        source_fd: what sound and metadata came from.
        result_fd: what was made.
        task: the plan.
        track: index of the picture in the result.

    Raises:
        MediaFault: NO_DECODABLE_FRAME.
    """
    index = task.media.video.index
    rendition = task.plan.renditions[task.rendition_index]
    before, after = _first(source_fd, index), _first(result_fd, track)
    planned = rendition.display_matrix
    if matrix_of(after) != planned:
        text = f"the display matrix is {matrix_of(after)}, not {planned}"
        yield Difference(what=None, track_index=index, text=text)
    mapped = is_mapped(task.media.video.colour, rendition.encoder.colour)
    if mapped and tells_of_hdr(after):
        yield Difference(what=None, track_index=index, text="it has metadata of HDR, and is SDR")
    for name, (tell, loss) in _KEPT.items():
        if mapped and loss is Loss.HDR_METADATA:
            continue
        if tell(before) and tell(before) != tell(after):
            yield Difference(what=loss, track_index=index, text=f"the {name} is not its source's")
    kept = picture_metadata(after)
    for kind in picture_metadata(before):
        if kind not in kept and not (mapped and loss_of(kind) is Loss.HDR_METADATA):
            yield Difference(
                what=loss_of(kind),
                track_index=index,
                text=f"its {kind.value} metadata is gone",
            )


def loss_of(kind: PictureMetadata) -> Loss:
    """What it is called where metadata of single pictures is not kept."""
    return _LOSS_OF.get(kind, Loss.HDR_METADATA)


def tells_of_hdr(frame: VideoFrame) -> bool:
    """Tell whether a frame has metadata of light that SDR has not."""
    kinds = picture_metadata(frame)
    return bool(static_metadata(frame)) or any(loss_of(kind) is Loss.HDR_METADATA for kind in kinds)


def marks_of(frame: VideoFrame) -> tuple[str, ...]:
    """Names of what comes with a frame and is neither light nor turning."""
    return tuple(
        name for name, (tell, loss) in _KEPT.items() if loss is Loss.PICTURE_MARKS and tell(frame) is not None
    )


def _first(fd: int, index: int) -> VideoFrame:
    with open_source(fd) as container:
        return first_frame(container, video_stream(container, index))
