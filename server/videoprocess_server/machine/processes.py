"""The service's processes, as the system tells of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psutil


def process_tree(pid: int) -> Sequence[Mapping[str, Any]]:
    """Return a process and all that it started, each with its state, threads, files, memory and times; empty where it is gone."""
    try:
        parent = psutil.Process(pid)
        tree = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []
    found = []
    for process in tree:
        with suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            found.append(
                {
                    "pid": process.pid,
                    "parent": process.ppid(),
                    "state": process.status(),
                    "threads": process.num_threads(),
                    "files": process.num_fds(),
                    "resident_bytes": process.memory_info().rss,
                    "cpu_seconds": round(times.user + times.system, 2),
                    "niceness": process.nice(),
                    "started": process.create_time(),
                }
            )
    return found
