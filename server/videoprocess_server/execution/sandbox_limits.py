"""Limits of resources: what the kernel lets a worker take (man 2 getrlimit).

The number of processes is not among them: the kernel counts those of a user, the service's and others' included. A
worker starts none, which seccomp sees to.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from videoprocess_server.model.media_info import MediaInfo, VideoTrackInfo
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.tasks import (
    AnalyzeTask,
    DescribeTask,
    DigestTask,
    EncodeTask,
    JoinTask,
    MakerTask,
    MotionTask,
    PathTask,
    PlanTask,
    ProbeTask,
    StillsTask,
    StripTask,
    Task,
    VerifyTask,
    WatermarkTask,
)
from videoprocess_server.model.worker_costs import estimate_worker_bytes

_MEBIBYTE: Final = 1 << 20
_GIBIBYTE: Final = 1 << 30

#: of the worker itself, its libraries and the stacks of its threads
_BASE_BYTES: Final = 512 * _MEBIBYTE
#: of a source's index in memory, once FFmpeg's and once our own: a day at 60 frames a second
_INDEX_BYTES: Final = 2 * _GIBIBYTE
#: what is allocated to what is used, at most: freed memory is not always given back, and estimates are of what is resident
_ALLOCATED_TO_USED: Final = 2
#: of a decoder that has been opened and given one frame: frames of up to 8 bytes a pixel, and as many as may wait
_PROBE_BYTES_PER_PIXEL: Final = 8 * 17
#: of what decodes pictures one after the other: the same, and as much again to compare
_DECODING_BYTES_PER_PIXEL: Final = 2 * _PROBE_BYTES_PER_PIXEL
#: neighbours that the denoiser looks at on each side, at most
_MOST_NEIGHBOURS: Final = 8
_MOST_BITS: Final = 12

_OPEN_FILES: Final = 256
#: of any one file that is written: as often as large as the source, or this
_FILE_TIMES_SOURCE: Final = 8
_FILE_BYTES: Final = 64 * _GIBIBYTE

_SIZE: Final = re.compile(r"(\d+)x(\d+)")
#: of the process, for all of its life: no core files, no locked memory, few descriptors
_FIXED: Final = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_MEMLOCK, 0),
    (resource.RLIMIT_NOFILE, _OPEN_FILES),
)

Renew = Callable[[], None]


def limit_process(memory_bytes: int) -> None:
    """Set what holds for all tasks.

    Args:
        memory_bytes: of private memory; 0 for no bound.
    """
    for kind, most in (*_FIXED, *([(resource.RLIMIT_DATA, memory_bytes)] if memory_bytes else [])):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)  # noqa: PLW2901
        resource.setrlimit(kind, (most, most))


@contextmanager
def limited(task: Task, fd: int | None, cpu_seconds: int) -> Iterator[Renew]:
    """Bound what this process takes while it does a task.

    Args:
        task: decides about memory, by the pictures it has in hand.
        fd: the source; None where the task has none.
        cpu_seconds: of processor time without progress; 0 for no bound.

    Yields:
        what to call when the task has got on.
    """

    def renew() -> None:
        if cpu_seconds:
            used = resource.getrusage(resource.RUSAGE_SELF)
            _set_soft(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds)

    _set_soft(resource.RLIMIT_DATA, memory_bytes(task))
    _set_soft(resource.RLIMIT_FSIZE, max(_FILE_BYTES, _FILE_TIMES_SOURCE * _size(fd)))
    renew()
    try:
        yield renew
    finally:
        for kind in (resource.RLIMIT_DATA, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
            _set_soft(kind, resource.RLIM_INFINITY)


def memory_bytes(task: Task) -> int:
    """Return the private memory that a task may have, whatever its source makes of it."""
    return _BASE_BYTES + _OF_TASK[type(task)](task)


def _set_soft(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        most = hard if most == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, hard))


def _size(fd: int | None) -> int:
    return 0 if fd is None else os.fstat(fd).st_size


def expected_bytes(task: Task) -> int:
    """Return the memory that a job's tasks are expected to hold, by the size of its pictures.

    It is much the same for all of them, so that what is reserved for one serves the next.
    """
    if isinstance(task, AnalyzeTask):
        pixels = task.video.width * task.video.height
        return estimate_worker_bytes(pixels, _MOST_BITS, neighbours=_MOST_NEIGHBOURS)
    if isinstance(task, EncodeTask | MotionTask | VerifyTask):
        return _expected(task.plan)
    return _BASE_BYTES


def _making(plan: Plan) -> int:
    """What segments take, by the memory model: twice, and without asking what exactly is made."""
    return _INDEX_BYTES + _ALLOCATED_TO_USED * _expected(plan)


def _expected(plan: Plan) -> int:
    sizes = sorted(rendition.encoder.width * rendition.encoder.height for rendition in plan.renditions)
    pixels = max([_source_pixels(plan), *sizes[-1:]])
    return estimate_worker_bytes(
        pixels,
        _MOST_BITS,
        further_pixels=sizes[:-1],
        has_watermark=plan.filters.overlay is not None,
        interpolates=plan.interpolation is not None,
        neighbours=_MOST_NEIGHBOURS if plan.filters.pre_roll_frames else 0,
        stabilises=plan.stabilisation is not None,
    )


def _source_pixels(plan: Plan) -> int:
    found = _SIZE.match(plan.filters.source_picture)
    return int(found[1]) * int(found[2]) if found else 0


def _decoding(video: VideoTrackInfo) -> int:
    return _INDEX_BYTES + _DECODING_BYTES_PER_PIXEL * video.width * video.height


def _comparing(task: JoinTask | VerifyTask | MakerTask) -> int:
    media: MediaInfo = task.media
    return max(_making(task.plan), _decoding(media.video))


#: task → bytes beyond the base; every kind has its row
_OF_TASK: Final[Mapping[type[Task], Callable[[Any], int]]] = {
    DescribeTask: lambda _task: 0,
    WatermarkTask: lambda _task: _BASE_BYTES,
    ProbeTask: lambda task: _GIBIBYTE + _PROBE_BYTES_PER_PIXEL * task.limits.max_pixels,
    AnalyzeTask: lambda task: _decoding(task.video),
    PlanTask: lambda task: _decoding(task.media.video),
    EncodeTask: lambda task: _making(task.plan),
    MotionTask: lambda task: _making(task.plan),
    PathTask: lambda _task: _INDEX_BYTES,
    DigestTask: lambda _task: _INDEX_BYTES,
    JoinTask: _comparing,
    StillsTask: lambda task: _making(task.plan),
    MakerTask: _comparing,
    StripTask: lambda task: max(_making(task.plan), _decoding(task.video)),
    VerifyTask: _comparing,
}
