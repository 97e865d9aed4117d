"""A worker on a node of the cluster, driven like one of this machine."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from videoprocess_server.execution.channel import MAX_MESSAGE_BYTES, Channel, Patience, endless
from videoprocess_server.execution.codec import RESULT_OF, CodecError, Message, Ready, encode
from videoprocess_server.execution.gateway import CallFailedError, Line
from videoprocess_server.execution.gateway_protocol import Forward, Order
from videoprocess_server.execution.sandbox_limits import expected_bytes
from videoprocess_server.execution.staging import Staged, Stager
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.model.tasks import SegmentDone, Task

#: Interrupt is answered within 500 ms: a worker whose node does not answer sooner is given up
_FREEZE_SECONDS = 0.4
_USAGE_SECONDS = 1.0
#: how long what was told of a worker's usage is good for
_USAGE_AGE_SECONDS = 0.5
#: why it did not start, once its channel has ended
_ANSWER_SECONDS = 2.0
#: the gateway's error where all is taken
_NO_ROOM = "NoRoomError"
_TOLD = (SegmentDone, *set(RESULT_OF.values()))


_log = structlog.get_logger(__name__)


class RemoteChannel:
    """This end of the talk: bytes go through the gateway unread. What a task reads is on its node when it is sent.

    Args:
        channel: to the gateway.
        started: called when the worker is ready.
    """

    def __init__(self, channel: Channel, started: Callable[[], None]) -> None:
        self._channel = channel
        self._started = started
        self.staged: Staged | None = None

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._channel.fileno()

    def send(
        self,
        message: Message,
        *,
        fd: int | None = None,  # noqa: ARG002  the node has it already
        patience: Patience = endless,
    ) -> None:
        """Send a message; of a task that was staged, what its node sees of it."""
        source = ""
        if self.staged is not None and type(message) in RESULT_OF:
            message, source = self.staged.task, self.staged.source
        body = encode(message)
        if len(body) > MAX_MESSAGE_BYTES:
            raise CodecError(f"a {type(message).__name__} of {len(body)} bytes is too large")
        self._channel.send_body(msgspec.msgpack.encode(Forward(body, source)), patience=patience)

    def receive(self, *, patience: Patience = endless) -> Message:
        """Wait for a message; a file that it tells of is there."""
        message = self._channel.receive(patience=patience)
        if isinstance(message, Ready):
            self._started()
        if self.staged is not None and isinstance(message, _TOLD):
            return self.staged.told(message)
        return message


class RemoteWorker:
    """Asked for, and started as soon as a node has room: its channel ends where it cannot be.

    Args:
        line: of its own.
        data: its messages' end.
        order: what is to be started.
        new_stager: makes the stager of its node.
        approve: called when it is ready, before it gets a task; CodecError if its node is not to be used.
    """

    def __init__(
        self,
        line: Line,
        data: socket.socket,
        order: Order,
        new_stager: Callable[[RemoteWorker], Stager],
        approve: Callable[[RemoteWorker], None],
    ) -> None:
        self.exit_code: int | None = None
        self.killed = False
        self.node = ""
        #: why it did not start; "" while nothing is known
        self.failure = ""
        self.found_no_room = False
        self._pid = 0
        self._line = line
        self._data = Channel(data)
        self._order = order
        self._approve = approve
        self._remote = RemoteChannel(self._data, self._note_start)
        self._stager = new_stager(self)
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._stopping = False
        self._niceness = 0
        self._usage: tuple[int, float, int | None] = (0, 0.0, None)
        self._usage_at = 0.0
        self._start = line.post("start", msgspec.to_builtins(order))

    @property
    def channel(self) -> RemoteChannel:
        """This end of its channel."""
        return self._remote

    @property
    def pid(self) -> int:
        """The process id on its node; 0 before it is started."""
        return self._pid

    def call(self, what: str, *arguments: object) -> Any:  # noqa: ANN401 - of the call
        """Ask its node.

        Raises:
            EOFError: the node is gone.
            CallFailedError: it answered by an OSError.
        """
        try:
            return self._line.call(what, *arguments)
        except TimeoutError as error:
            raise EOFError from error
        except CallFailedError as error:
            if error.errno:
                raise
            raise EOFError(str(error)) from error

    @property
    def stands(self) -> bool:
        """Whether it is frozen, or is to end."""
        return self._stopping or not self._goes_on.is_set()

    def go_on(self) -> None:
        """Return while it may work on, and as soon as it may.

        Raises:
            EOFError: it is to end.
        """
        self._goes_on.wait()
        if self._stopping:
            raise EOFError

    def is_far_from(self, run: TaskRun) -> bool:
        """Return whether another node has a task's source, and this worker's has not."""
        with contextlib.suppress(OSError):  # it may end and close it at this moment
            return run.source_fd is not None and self._stager.is_elsewhere(run.source_fd)
        return False

    def suits(self, run: TaskRun) -> bool:
        """Take a seat for a task and make it as nice as that wants; False if there is no room, or it takes a privilege."""
        try:
            if not self._line.call("sit", reservation_bytes(run.task, self._order.most_bytes)):
                return False
            if run.niceness != self._niceness and not self._line.call("tell", "set_niceness", run.niceness):
                return False
        except (EOFError, TimeoutError, CallFailedError):
            return False
        self._niceness = run.niceness
        return True

    def rest(self) -> None:
        """Give the seat back; go on if it was frozen."""
        self._remote.staged = None
        self._goes_on.set()
        with contextlib.suppress(EOFError):
            self._line.post("rest")

    def fetch(self, run: TaskRun) -> None:
        """Bring what a task reads to its node; see Stager for what is raised."""
        self._remote.staged = Staged(self._stager, run.task, run.source_fd)

    def kill(self) -> None:
        """End it and its line."""
        self.killed = True
        self._give_up()

    def stop(self) -> None:
        """Begin to end; `end` does the rest."""
        self._stopping = True
        self._goes_on.set()
        with contextlib.suppress(EOFError):
            self._line.post("tell", "stop")
        self._data.shut_down()

    def freeze(self) -> bool:
        """Stop all its threads and give its seat back; return when they stand still. False if it is gone, or lost by this."""
        self._goes_on.clear()
        try:
            return bool(self._line.call("freeze", seconds=_FREEZE_SECONDS))
        except (EOFError, TimeoutError, CallFailedError):
            self._give_up()
            return False

    def thaw(self) -> None:
        """Let its threads go on."""
        if not self._goes_on.is_set():
            with contextlib.suppress(EOFError):
                self._line.post("thaw")
            self._goes_on.set()

    def resident_bytes(self) -> int:
        """Return the memory it holds, on its node; 0 once it is gone."""
        return self._used()[0] if self.exit_code is None else 0

    def cpu_seconds(self) -> float:
        """Return the processor time it has used; what it had used once it is gone."""
        return self._used()[1]

    def oom_kill_count(self) -> int | None:
        """Return how many processes its node lost for want of memory; None where nothing tells."""
        return self._used(max_age_seconds=0.0)[2]

    def end(self, *, let_it_end: bool = False) -> int:
        """End it, wait until it is gone, give everything back and return its exit code: SIGKILL's where its node is gone."""
        if self.exit_code is not None:
            return self.exit_code
        is_wanted_no_more, self._stopping = self._stopping, True
        self._goes_on.set()
        code = -signal.SIGKILL.value
        try:
            if not self._pid:
                self._line.answer(self._start, 0.0 if is_wanted_no_more else _ANSWER_SECONDS)
            code, seconds, oom_kills = self._line.call("end", let_it_end)
            self._usage = (0, seconds, oom_kills)
        except CallFailedError as error:
            self.failure = str(error)
            self.found_no_room = self.failure.startswith(_NO_ROOM)
            if self.found_no_room:
                _log.info("ray_no_room", why=self.failure)
            elif self._pid:
                _log.warning("ray_worker_lost", node=self.node, why=self.failure)
        except (EOFError, TimeoutError):
            pass
        self.exit_code = code
        self._give_up()
        self._line.close()
        self._data.close()
        return code

    def _note_start(self) -> None:
        self.node, self._pid = self._line.answer(self._start)
        self._approve(self)

    def _used(self, max_age_seconds: float = _USAGE_AGE_SECONDS) -> tuple[int, float, int | None]:
        if self._pid and self.exit_code is None and time.monotonic() - self._usage_at >= max_age_seconds:
            with contextlib.suppress(EOFError, TimeoutError, CallFailedError):
                self._usage = tuple(self._line.call("usage", seconds=_USAGE_SECONDS))
            self._usage_at = time.monotonic()
        return self._usage

    def _give_up(self) -> None:
        """Let its thread find it gone; the gateway ends it."""
        self._stopping = True
        self._goes_on.set()
        self._data.shut_down()
        self._line.cut()


def reservation_bytes(task: Task, most_bytes: int) -> int:
    """Return what Ray reserves for a task, by the size of its pictures.

    Args:
        task: that works through pictures.
        most_bytes: of the largest node: what is expected to take more is tried there.
    """
    return min(most_bytes, expected_bytes(task))
