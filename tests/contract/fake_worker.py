"""A worker whose tasks are scripts: the output paths of an EncodeTask are steps, and its result tells what they saw."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from videoprocess_server.execution import worker
from videoprocess_server.execution.executor import TaskFailedError
from videoprocess_server.execution.handlers import Emit, Handlers
from videoprocess_server.model.tasks import (
    AnalyzeTask,
    EncodeResult,
    EncodeTask,
    ProbeTask,
    Progress,
    SegmentDone,
    TaskResult,
)

PROC_SELF = Path("/proc/self")
#: what "fact:heap" uses
HEAP_MEBIBYTES = 128


def segment_done(index: int, path: str) -> SegmentDone:
    return SegmentDone(
        index=index,
        path=path,
        size_bytes=1,
        sha256="ab",
        frame_count=1,
        input_sha256="cd",
        parameter_sets_sha256="ef",
    )


def run_script(task: EncodeTask, fd: int, emit: Emit) -> TaskResult:
    seen: list[SegmentDone] = []
    for step in task.output_paths:
        word, _, argument = step.partition(":")
        told = _STEPS[word](argument, fd, emit)
        if told is not None:
            seen.append(segment_done(len(seen), told))
    return EncodeResult(segments=tuple(seen), cpu_seconds=0.5)


def _sleep(seconds: str, _fd: int, emit: Emit) -> None:
    """Sleep, and get on by a frame every 10 ms."""
    end = time.monotonic() + float(seconds)
    frames = 0
    while time.monotonic() < end:
        frames += 1
        emit(Progress(frames=frames, bytes=0))
        time.sleep(0.01)


def _wait_for_file(path: str, _fd: int, emit: Emit) -> None:
    """Wait until a file is there, and get on by a frame every 10 ms."""
    frames = 0
    while not os.path.exists(path):  # noqa: PTH110
        frames += 1
        emit(Progress(frames=frames, bytes=0))
        time.sleep(0.01)


def _chatter(seconds: str, _fd: int, emit: Emit) -> None:
    """Tell every 10 ms that nothing got on."""
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        emit(Progress(frames=7, bytes=7))
        time.sleep(0.01)


def _count(number: str, _fd: int, emit: Emit) -> str:
    """Use the processor until a number is reached, and tell a sum that depends on every step."""
    total = 0
    for step in range(int(number)):
        if step % 10_000 == 0:
            emit(Progress(frames=step // 10_000, bytes=0))
        total = (total * 31 + step) % 1_000_003
    return str(total)


def _silence(seconds: str, _fd: int, _emit: Emit) -> None:
    time.sleep(float(seconds))


def _announce(_argument: str, _fd: int, emit: Emit) -> None:
    """Tell which process this is."""
    emit(segment_done(0, str(os.getpid())))


def _large(size: str, _fd: int, _emit: Emit) -> str:
    return "x" * int(size)


def _be_deaf(_argument: str, _fd: int, _emit: Emit) -> None:
    """Ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _emit_many(count: str, _fd: int, emit: Emit) -> None:
    for index in range(int(count)):
        emit(segment_done(index, "") if index % 10 == 9 else Progress(frames=index, bytes=7))


def _signal_self(name: str, _fd: int, _emit: Emit) -> None:
    signal.raise_signal(signal.Signals[name])


def _touch(path: str, _fd: int, _emit: Emit) -> str:
    """Make a file, and tell what came of it."""
    try:
        with open(path, "xb"):  # noqa: PTH123
            return "written"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _spin(seconds: str, _fd: int, _emit: Emit) -> None:
    """Use the processor and tell nothing."""
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        pass


def _take(size: str, _fd: int, _emit: Emit) -> str:
    return str(len(bytearray(int(size))))


def _exit(code: str, _fd: int, _emit: Emit) -> None:
    os._exit(int(code))


def _fail(reason: str, _fd: int, _emit: Emit) -> None:
    raise TaskFailedError(reason, "foreseen")


def _stumble(what: str, _fd: int, _emit: Emit) -> None:
    raise LookupError(what)


def _read(size: str, fd: int, _emit: Emit) -> str:
    return os.pread(fd, int(size), 0).decode()


def _describe(what: str, fd: int, _emit: Emit) -> str:
    return str(_FACTS[what](fd))


def _close_channel(_argument: str, fd: int, _emit: Emit) -> None:
    """Close every descriptor that could be the channel, and live on."""
    os.closerange(3, 256)
    time.sleep(60)


def _shout(text: str, _fd: int, _emit: Emit) -> None:
    """Write bytes that are no message into the channel."""
    os.write(int(sys.argv[1]), bytes.fromhex(text))
    time.sleep(60)


def _used_heap(_fd: int) -> int:
    """Use memory as an encoder does, in blocks that are not Python's own; bytes of the process when it is free again."""
    blocks = [b"\xff" * (1 << 20) for _ in range(HEAP_MEBIBYTES)]
    blocks.clear()
    return int(PROC_SELF.joinpath("statm").read_text().split()[1]) * resource.getpagesize()


_FACTS: dict[str, Callable[[int], object]] = {
    "pid": lambda _fd: os.getpid(),
    "fd": lambda fd: fd,
    "descriptors": lambda _fd: len(list(PROC_SELF.joinpath("fd").iterdir())),
    "session": lambda _fd: os.getsid(0) == os.getpid(),
    "niceness": lambda _fd: os.getpriority(os.PRIO_PROCESS, 0),
    "autogroup": lambda _fd: PROC_SELF.joinpath("autogroup").read_text().split()[-1],
    "environment": lambda _fd: " ".join(sorted(os.environ)),
    "threads": lambda _fd: os.environ["OPENBLAS_NUM_THREADS"] + os.environ["OMP_NUM_THREADS"],
    "core": lambda _fd: resource.getrlimit(resource.RLIMIT_CORE)[0],
    "stdin": lambda _fd: PROC_SELF.joinpath("fd/0").readlink(),
    "oom": lambda _fd: PROC_SELF.joinpath("oom_score_adj").read_text().strip(),
    "privileges": lambda _fd: "NoNewPrivs:\t1" in PROC_SELF.joinpath("status").read_text(),
    "sigterm": lambda _fd: signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
    "blocked": lambda _fd: len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "thread_count": lambda _fd: threading.active_count(),
    "heap": _used_heap,
}

_STEPS: dict[str, Callable[[str, int, Emit], str | None]] = {
    "sleep": _sleep,
    "until": _wait_for_file,
    "silence": _silence,
    "chatter": _chatter,
    "count": _count,
    "announce": _announce,
    "large": _large,
    "deaf": _be_deaf,
    "emit": _emit_many,
    "signal": _signal_self,
    "exit": _exit,
    "touch": _touch,
    "spin": _spin,
    "take": _take,
    "fail": _fail,
    "stumble": _stumble,
    "read": _read,
    "fact": _describe,
    "close_channel": _close_channel,
    "shout": _shout,
}


def stumble(_task: ProbeTask, _fd: int, _emit: Emit) -> TaskResult:
    raise LookupError("secret internals")


def answer_wrongly(_task: AnalyzeTask, _fd: int, _emit: Emit) -> TaskResult:
    return EncodeResult(segments=(), cpu_seconds=0)


HANDLERS: Handlers = {EncodeTask: run_script, ProbeTask: stumble, AnalyzeTask: answer_wrongly}


if __name__ == "__main__":
    worker.serve(worker.enter(sys.argv), HANDLERS)
