"""Compares a result with its source before it is published. What differs is named in its report, or it is refused."""

from __future__ import annotations

from collections.abc import Iterator

from videoprocess_server.media.compare_iso import iso_differences
from videoprocess_server.media.compare_muxed import muxed_differences
from videoprocess_server.media.compare_pictures import picture_differences
from videoprocess_server.media.containers import is_iso
from videoprocess_server.media.differences import Difference, unnamed
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.losses import LACKED_BY_PROXIES
from videoprocess_server.model.tasks import VerifyTask


def unnamed_differences(
    source_fd: int, result_fd: int, task: VerifyTask, pulse: Pulse
) -> Iterator[Difference]:
    """Give what the result has otherwise than its source and neither the plan's nor the join's list names.

    Args:
        source_fd: what sound and metadata came from.
        result_fd: what was made.
        task: the plan, and what the join says it did.
        pulse: told of what is read.

    Raises:
        MediaFault: one of them cannot be read to its end.
    """
    named = (*task.plan.not_kept, *task.join.not_kept)
    compare = iso_differences if is_iso(task.media) else muxed_differences
    yield from unnamed(compare(source_fd, result_fd, task, pulse), named)
    kept = [report.index for report in task.join.tracks if report.kept]
    place = kept.index(task.media.video.index)
    pictures = picture_differences(source_fd, result_fd, task, place)
    if task.plan.renditions[task.rendition_index].intent is StreamIntent.PREVIEW:
        pictures = (each for each in pictures if each.what not in LACKED_BY_PROXIES)
    yield from unnamed(pictures, named)
