"""Makes one file of the segments: their pictures, and everything else the source has."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from videoprocess_server.media import join_iso, join_muxer
from videoprocess_server.media.containers import is_iso
from videoprocess_server.media.own_files import settle
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.segment_files import read_pictures
from videoprocess_server.model.tasks import JoinResult, JoinTask, TaskMessage


def join(task: JoinTask, fd: int, emit: Callable[[TaskMessage], None]) -> JoinResult:
    """Writes the result beside everything else the source has; the same bytes whenever it is called.

    Args:
        task: the plan, its segments' files and where to write.
        fd: the source, opened for reading.
        emit: is told about twice a second how far it is.

    Returns:
        What was written and what was not; file and directory are on the disk.

    Raises:
        MediaFault: JOIN_FAILED, the segments are not those of the plan, or the source cannot be read to its end.
        FileExistsError: the output path exists.
    """
    started = time.process_time()
    path = Path(task.output_path)
    with path.open("xb"):
        pass
    pulse = Pulse(emit)
    pictures = read_pictures(task.plan, task.plan.renditions[task.rendition_index], task.segment_paths, pulse)
    write = join_iso.write if is_iso(task.media) else join_muxer.write
    account = write(task, fd, pictures, pulse)
    size, digest = settle(path, pulse)
    return JoinResult(
        size_bytes=size,
        sha256=digest,
        tracks=account.tracks,
        not_kept=account.not_kept,
        cpu_seconds=time.process_time() - started,
    )
