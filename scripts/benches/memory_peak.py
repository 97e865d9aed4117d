"""The most memory that a process and its children hold together, looked at now and then.

Counted is the proportional set size, so that what they share counts once; where the kernel does not tell it to this user, the
resident set size.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

LOOK_SECONDS = 0.5
_PSS = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


def held_bytes(pid: int) -> int:
    """Return what one process holds now.

    Raises:
        psutil.NoSuchProcess: It is gone.
    """
    try:
        told = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    except PermissionError:
        told = None
    return int(told[1]) * 1024 if told else int(psutil.Process(pid).memory_info().rss)


def held_by_all(pid: int) -> int:
    """Return what a process and all its children hold now; those that end meanwhile count as nothing."""
    total = held_bytes(pid)
    for child in psutil.Process(pid).children(recursive=True):
        try:
            total += held_bytes(child.pid)
        except psutil.NoSuchProcess:
            continue
    return total


class MemoryPeak:
    """Watches from a thread of its own; a context manager.

    Args:
        pid: The process that is watched, with its children.
        look_seconds: Between two looks.
    """

    def __init__(self, pid: int, look_seconds: float = LOOK_SECONDS) -> None:
        self._pid = pid
        self._look_seconds = look_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-peak")
        #: the most that was seen
        self.peak_bytes = 0
        #: the most that the process itself held, without its children
        self.own_peak_bytes = 0

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._look_seconds):
            try:
                self._look()
            except psutil.NoSuchProcess:
                return

    def _look(self) -> None:
        self.own_peak_bytes = max(self.own_peak_bytes, held_bytes(self._pid))
        self.peak_bytes = max(self.peak_bytes, held_by_all(self._pid))
