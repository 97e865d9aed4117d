"""Numbers what a service and its workers do to their folders, and ends one of them at a chosen step."""

from __future__ import annotations

import functools
import io
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

#: of one step in the log: its number follows from where it stands, over all processes
RECORD_BYTES = 128
VARIABLE = "MORTAL"
SHARED = "/shared"
WORKERS_DIE = "worker"
SERVICE_DIES = "service"

#: functions of `os` that change files, and which of their arguments name one
_CALLS = {
    "pwrite": (0,),
    "ftruncate": (0,),
    "fsync": (0,),
    "fdatasync": (0,),
    "mkdir": (0,),
    "rmdir": (0,),
    "unlink": (0,),
    "rename": (0, 1),
    "replace": (0, 1),
    "link": (0, 1),
    "copy_file_range": (1,),
}
_IDS = re.compile(r"[0-9a-f]{32}")
# shutil asks at its import which functions take descriptors: it is imported before they are wrapped.
_ORIGINAL = {name: getattr(os, name) for name in (*_CALLS, "open")} if shutil else {}


@dataclass(frozen=True)
class Reins:
    """What the processes of one run have in common."""

    log: Path
    data_dir: Path
    #: a shared root; in the log it is called SHARED
    shared_dir: Path
    #: 1 is the first; 0 lets all live
    fatal_step: int
    #: who dies at a worker's step
    victim: str

    def as_text(self) -> str:
        return "\n".join(map(str, (self.log, self.data_dir, self.shared_dir, self.fatal_step, self.victim)))

    @classmethod
    def of_text(cls, text: str) -> Self:
        log, data_dir, shared_dir, fatal_step, victim = text.split("\n")
        return cls(Path(log), Path(data_dir), Path(shared_dir), int(fatal_step), victim)


class Steps:
    """Counts the steps of this process among those of all."""

    def __init__(self, reins: Reins, service_pid: int) -> None:
        self._reins = reins
        self._service_pid = service_pid
        self._role = "service" if service_pid == os.getpid() else "worker"
        #: each folder that counts, and what it is called in the log
        self._names = {str(reins.data_dir): "", str(reins.shared_dir): SHARED}
        self._lock = threading.Lock()
        self._fd = os.open(reins.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    @contextmanager
    def around(self, what: str) -> Iterator[None]:
        """Two steps: before a thing is done, and after."""
        self.step(f"before {what}")
        yield
        self.step(f"after {what}")

    def step(self, what: str) -> None:
        """One step; at the fatal one this does not return."""
        line = f"{self._role} {_IDS.sub('*', what)}".encode()[: RECORD_BYTES - 1]
        with self._lock:
            os.write(self._fd, line.ljust(RECORD_BYTES - 1) + b"\n")
            number = os.lseek(self._fd, 0, os.SEEK_CUR) // RECORD_BYTES
        if number == self._reins.fatal_step:
            self._die()

    def _die(self) -> None:
        if self._role == "service" or self._reins.victim == SERVICE_DIES:
            os.kill(self._service_pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def number_os_calls(self) -> None:
        """Have every call of `os` counted that changes the data directory, and every file that is made."""
        for name, positions in _CALLS.items():
            setattr(os, name, self._counted(name, positions))
        os.open = self._counted("open", (0,), lambda flags, *_: bool(flags & os.O_CREAT))
        io.open = self._counted("open", (0,), lambda mode="r", *_: mode[0] in "xwa", io.open)

    def _counted(
        self,
        name: str,
        positions: Sequence[int],
        counts: Callable[..., bool] = lambda *_: True,
        original: Callable[..., Any] | None = None,
    ) -> Callable[..., Any]:
        do = original or _ORIGINAL[name]

        @functools.wraps(do)
        def call(*arguments: Any, **more: Any) -> Any:
            paths = [_path(arguments[position], more.get("dir_fd")) for position in positions]
            told = [self._told(path) for path in paths]
            if told[0] is None or not counts(*arguments[1:]):
                return do(*arguments, **more)
            with self.around(
                " ".join([name, *(each or path for each, path in zip(told, paths, strict=True))])
            ):
                return do(*arguments, **more)

        return call

    def rename_to_new(self, do: Callable[[int, str, str], None]) -> Callable[[int, str, str], None]:
        """Have it counted as well, which is no function of `os`."""

        @functools.wraps(do)
        def call(folder_fd: int, old: str, new: str) -> None:
            with self.around(f"rename {self._told(_path(old, folder_fd))} {new}"):
                do(folder_fd, old, new)

        return call

    def _told(self, path: str) -> str | None:
        """How the log calls a path; None outside of what counts."""
        for folder, name in self._names.items():
            if f"{path}/".startswith(f"{folder}/"):
                return name + path.removeprefix(folder) or "/"
        return None


def _path(file: Any, dir_fd: int | None) -> str:
    """What a call's argument names: a descriptor, or a path."""
    if isinstance(file, int):
        return str(Path(f"/proc/self/fd/{file}").readlink())
    folder = Path(f"/proc/self/fd/{dir_fd}").readlink() if dir_fd is not None else Path.cwd()
    return os.path.normpath(os.path.join(folder, os.fsdecode(file)))  # noqa: PTH118  what the kernel does


def caller() -> str:
    """The use case on whose behalf this is called, for the log."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("videoprocess_server.engine.") and not module.endswith(".durable"):
            return f"{module.rpartition('.')[2]}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "start"


def read_log(log: Path) -> list[str]:
    """What each step was, in order; the first has number 1."""
    return [line.rstrip() for line in log.read_text(errors="replace").splitlines()]
