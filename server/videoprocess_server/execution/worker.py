"""The worker program's frame: a process that dies with its parent, and a loop that does tasks."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from videoprocess_server.execution import heap
from videoprocess_server.execution.channel import Channel
from videoprocess_server.execution.codec import RESULT_OF, CodecError, Failed, Heartbeat, Message, Ready
from videoprocess_server.execution.handlers import Handlers, answer
from videoprocess_server.execution.sandbox import Confinement, confine
from videoprocess_server.execution.sandbox_limits import Renew, limited
from videoprocess_server.execution.sandbox_privileges import prctl, set_no_new_privileges
from videoprocess_server.execution.worker_spans import SpanBook, Traced
from videoprocess_server.model.tasks import Task, TaskMessage
from videoprocess_server.model.trace_context import TraceContext, parse_traceparent

_PR_SET_PDEATHSIG = 1

#: the kernel takes a worker before it takes the service; the range is -1000 to 1000
_OOM_SCORE_ADJ = "500"

_HEARTBEAT_SECONDS = 1.0

#: without a task after which memory is given back; between two segments of a job it is milliseconds
_IDLE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Post:
    """A worker's: whom it serves, and what it may do."""

    channel: Channel
    confinement: Confinement


def enter(arguments: Sequence[str]) -> Post:
    """Become a worker; called before anything heavy is imported.

    Args:
        arguments: of the program, as `worker_process.spawn` gives them.

    Returns:
        for `serve`.
    """
    _program, channel_fd, parent_pid, confinement = arguments
    _die_with_parent(int(parent_pid))
    _reset_signals()
    set_no_new_privileges()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE_ADJ)
    faulthandler.enable()
    os.set_inheritable(int(channel_fd), False)
    return Post(
        channel=Channel(socket.socket(fileno=int(channel_fd))),
        confinement=Confinement.from_argument(confinement),
    )


def serve(post: Post, handlers: Handlers) -> None:
    """Be confined, then do one task after the other until the parent is gone. Whatever is there by now may stay in use."""
    channel, cpu_seconds = post.channel, post.confinement.cpu_seconds
    layers = confine(post.confinement)
    try:
        channel.send(Ready(layers=layers))
        while True:
            task, fd, trace = _next_task(channel)
            book = SpanBook(trace, task) if trace is not None else None
            try:
                with _heartbeats(channel), limited(task, fd, cpu_seconds) as renew:

                    def emit(
                        message: TaskMessage, renew: Renew = renew, book: SpanBook | None = book
                    ) -> None:
                        renew()
                        channel.send(message)
                        if book is not None:
                            book.told(message)

                    reply = answer(handlers, task, -1 if fd is None else fd, emit)
            finally:
                if fd is not None:
                    os.close(fd)
            if book is not None:
                channel.send(book.close(reply.reason if isinstance(reply, Failed) else ""))
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


def _next_task(channel: Channel) -> tuple[Task, int | None, TraceContext | None]:
    """Return the next task, its source, and where its spans belong; None where nobody keeps them."""
    if not channel.comes_within(_IDLE_SECONDS):
        heap.give_back()
    message, fd = channel.receive_with_descriptor()
    trace = None
    if isinstance(message, Traced):
        trace = parse_traceparent(message.traceparent)
        message, fd = channel.receive_with_descriptor()
    if not _is_task(message):
        raise CodecError(f"{type(message).__name__} is no task")
    return message, fd, trace


def _is_task(message: Message) -> TypeGuard[Task]:
    return type(message) in RESULT_OF


def _die_with_parent(parent_pid: int) -> None:
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that ended before the line above sends no signal.
    if os.getppid() != parent_pid:
        raise SystemExit("the service is gone already")


def _reset_signals() -> None:
    """Let SIGTERM end the process at once, in native code too; what the parent ignored or blocked is inherited."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
