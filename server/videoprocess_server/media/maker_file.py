"""The maker track as a file of its own, where there is no video to hold it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from videoprocess_server.media.iso.new_movie import write_movie
from videoprocess_server.media.maker import Run, maker_track, runs_of_segments
from videoprocess_server.media.own_files import settle
from videoprocess_server.media.plan import read_timeline
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.timeline import Timeline
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.tasks import MakerResult, MakerTask, TaskMessage, WrittenFile


def write_maker(task: MakerTask, fd: int, emit: Callable[[TaskMessage], None]) -> MakerResult:
    """Write the file; the same bytes whenever it is called.

    Args:
        task: the plan and where to write.
        fd: the source, opened for reading.
        emit: is told about twice a second how far it is.

    Raises:
        MediaFault: SOURCE_CHANGED where the source has other frames than the plan.
        FileExistsError: the output path exists.
    """
    started = time.process_time()
    plan, pulse, path = task.plan, Pulse(emit), Path(task.output_path)
    timeline = read_timeline(plan, task.media.video, fd, pulse)
    times = np.fromiter((shown.pts for shown in timeline.results()), dtype=np.int64)
    track = maker_track(plan, times, _runs(plan, timeline), None)
    with path.open("xb") as file:
        write_movie(file, [track], beat=lambda size: pulse.beat(size=size))
    size, digest = settle(path, pulse)
    return MakerResult(
        file=WrittenFile(size_bytes=size, sha256=digest), cpu_seconds=time.process_time() - started
    )


def _runs(plan: Plan, timeline: Timeline) -> list[Run]:
    """Tell the frames by segments where a video has them, else by whether they are enhanced."""
    if plan.is_moving:
        return runs_of_segments(plan)
    begin = plan.first_pts if plan.enhance_from_pts is None else plan.enhance_from_pts
    before, after = bytearray(), bytearray()
    for shown in timeline.results():
        (before if shown.source_pts < begin else after).append(shown.interpolated)
    runs = (Run(len(before), False, None, bytes(before)), Run(len(after), True, None, bytes(after)))
    return [run for run in runs if run.frame_count]
