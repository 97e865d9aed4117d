"""The most memory that a process and its children hold together, looked at now and then.

Counted is the proportional set size, so that what they share counts once; where the kernel does not tell it to this user, the
resident set size. The kernel walks over all pages to tell the former (6 ms for 250 MB), so it is asked only when the latter is
larger than ever before, and every tenth time: who watches must not take the processors' time from what is watched.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

LOOK_SECONDS = 0.5
_LOOKS_BETWEEN = 10
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
    return int(told[1]) * 1024 if told else _resident_bytes(pid)


def held_by_all(pid: int) -> int:
    """Return what a process and all its children hold now; those that end meanwhile count as nothing."""
    return held_bytes(pid) + _of_children(pid, held_bytes)


def _resident_by_all(pid: int) -> int:
    return _resident_bytes(pid) + _of_children(pid, _resident_bytes)


def _resident_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def _of_children(pid: int, of: Callable[[int], int]) -> int:
    total = 0
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += of(child.pid)
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
        self._own, self._all = _Peak(), _Peak()

    @property
    def peak_bytes(self) -> int:
        """The most that was seen."""
        return self._all.held_bytes

    @property
    def own_peak_bytes(self) -> int:
        """The most that the process itself held, without its children."""
        return self._own.held_bytes

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
        self._own.look(_resident_bytes(self._pid), lambda: held_bytes(self._pid))
        self._all.look(_resident_by_all(self._pid), lambda: held_by_all(self._pid))


class _Peak:
    """The most that was held when more was resident than ever before."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self._resident_bytes = 0
        self._looks = itertools.count()

    def look(self, resident_bytes: int, held_bytes: Callable[[], int]) -> None:
        is_due = next(self._looks) % _LOOKS_BETWEEN == 0
        if is_due or resident_bytes > self._resident_bytes:
            self._resident_bytes = max(self._resident_bytes, resident_bytes)
            self.held_bytes = max(self.held_bytes, held_bytes())
