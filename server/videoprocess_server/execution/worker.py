"""The worker program's frame: a process that dies with its parent, and a loop that does tasks."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeGuard

from videoprocess_server.execution.channel import Channel
from videoprocess_server.execution.codec import RESULT_OF, CodecError, Heartbeat, Message, Ready
from videoprocess_server.execution.handlers import Handlers, answer
from videoprocess_server.model.tasks import Task

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

#: the kernel takes a worker before it takes the service; the range is -1000 to 1000
_OOM_SCORE_ADJ = "500"

_HEARTBEAT_SECONDS = 1.0


def enter(arguments: Sequence[str]) -> Channel:
    """Become a worker; called before anything heavy is imported.

    Args:
        arguments: of the program, as `worker_process.spawn` gives them.

    Returns:
        the channel to the parent.
    """
    _program, channel_fd, parent_pid = arguments
    _die_with_parent(int(parent_pid))
    _reset_signals()
    _libc_prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE_ADJ)
    faulthandler.enable()
    os.set_inheritable(int(channel_fd), False)
    return Channel(socket.socket(fileno=int(channel_fd)))


def serve(channel: Channel, handlers: Handlers) -> None:
    """Do one task after the other until the parent is gone."""
    try:
        channel.send(Ready())
        while True:
            task, fd = _next_task(channel)
            try:
                with _heartbeats(channel):
                    reply = answer(handlers, task, -1 if fd is None else fd, channel.send)
            finally:
                if fd is not None:
                    os.close(fd)
            channel.send(reply)
    except EOFError:
        return


@contextlib.contextmanager
def _heartbeats(channel: Channel) -> Iterator[None]:
    """Tell the parent that this process runs, as long as it has a task; none comes after the answer."""
    over = threading.Event()

    def beat() -> None:
        with contextlib.suppress(EOFError):
            while not over.wait(_HEARTBEAT_SECONDS):
                channel.send(Heartbeat())

    heart = threading.Thread(target=beat, name="heart", daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()


def _next_task(channel: Channel) -> tuple[Task, int | None]:
    message, fd = channel.receive_with_descriptor()
    if not _is_task(message):
        raise CodecError(f"{type(message).__name__} is no task")
    return message, fd


def _is_task(message: Message) -> TypeGuard[Task]:
    return type(message) in RESULT_OF


def _die_with_parent(parent_pid: int) -> None:
    _libc_prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that ended before the line above sends no signal.
    if os.getppid() != parent_pid:
        raise SystemExit("the service is gone already")


def _reset_signals() -> None:
    """Let SIGTERM end the process at once, in native code too; what the parent ignored or blocked is inherited."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _libc_prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
