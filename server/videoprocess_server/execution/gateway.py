"""The service's side of its gateway process to a Ray cluster: keeps one alive, and gets lines to workers from it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import structlog

from videoprocess_server.execution.gateway_protocol import Answer, Call, GatewayOptions, Node, Sign

#: to connect to the cluster
_JOIN_SECONDS = 60.0
#: a head that is there takes a connection within milliseconds
_REACH_SECONDS = 3.0
#: a gateway that gives no sign of life for longer is killed
_SILENCE_SECONDS = 30.0
#: to end all workers on all nodes
_CLOSE_SECONDS = 15.0
#: of a call, unless it says otherwise: a bit more than the gateway's own
_CALL_SECONDS = 70.0
_SIGN_BYTES = 1 << 20
#: what the gateway may know of the service's environment, besides Ray's own variables
_INHERITED = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "HOME")

_log = structlog.get_logger(__name__)
_SIGN_DECODER = msgspec.msgpack.Decoder(Sign)
_ANSWER_DECODER = msgspec.msgpack.Decoder(Answer)


class GatewayError(OSError):
    """There is no way to the cluster; the text is one line that says why."""


class CallFailedError(Exception):
    """A call was answered by an error. `errno` is that of an OSError, or 0."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class Line:
    """Calls about one worker, one at a time, from any thread. The worker ends with the line."""

    def __init__(self, control: socket.socket) -> None:
        self._connection = Connection(control.detach())
        self._lock = threading.Lock()
        self._number = 0

    def post(self, what: str, *arguments: object) -> int:
        """Send a call and return its number for `answer`.

        Raises:
            EOFError: the line is closed.
        """
        with self._lock:
            return self._send(what, arguments)

    def call(self, what: str, *arguments: object, seconds: float = _CALL_SECONDS) -> Any:  # noqa: ANN401 - of the call
        """Send a call and return what it is answered.

        Raises:
            EOFError: the line is closed.
            TimeoutError: it is not answered in time.
            CallFailedError: it is answered by an error.
        """
        with self._lock:
            return self._receive(self._send(what, arguments), seconds)

    def answer(self, number: int, seconds: float = _CALL_SECONDS) -> Any:  # noqa: ANN401 - of the call
        """Return what a posted call is answered, before any other is made; see `call`."""
        with self._lock:
            return self._receive(number, seconds)

    def cut(self) -> None:
        """Let whoever waits at either end find the other gone."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give it back; nobody calls any more."""
        with self._lock:
            self._connection.close()

    def _send(self, what: str, arguments: tuple[object, ...]) -> int:
        self._number += 1
        try:
            self._connection.send_bytes(msgspec.msgpack.encode(Call(self._number, what, list(arguments))))
        except OSError as error:
            raise EOFError from error
        return self._number

    def _receive(self, number: int, seconds: float) -> Any:  # noqa: ANN401 - of the call
        try:
            while self._connection.poll(seconds):
                answer = _ANSWER_DECODER.decode(self._connection.recv_bytes())
                if answer.number != number:
                    continue  # of a call that was not waited for
                if answer.error:
                    raise CallFailedError(answer.error, answer.errno)
                return answer.value
        except OSError as error:
            raise EOFError from error
        raise TimeoutError


class Gateway:
    """Starts the gateway program when a line is wanted and there is none.

    Args:
        options: of the program.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._sign = Sign([], "not connected yet")
        self._closed = False
        # The kernel ends a child with the thread that spawned it, so one thread does, and outlives all.
        self._wanted = threading.Event()
        self._tried = threading.Condition(self._lock)
        self._keeper: threading.Thread | None = None

    @property
    def sign(self) -> Sign:
        """What was last heard of the cluster."""
        return self._sign

    def check(self) -> None:
        """Return if the cluster answers.

        Raises:
            GatewayError: it does not.
        """
        if self._sign.error or not self._sign.nodes:
            raise GatewayError(f"the Ray cluster at {self._options.address} is away: {self._sign.error}")

    @property
    def nodes(self) -> list[Node]:
        """The nodes that are alive, as last heard."""
        return self._sign.nodes

    def has_lost(self, node: str, seconds: float) -> bool:
        """Return whether a node is not alive any more, after so long at the latest."""
        with self._tried:
            return self._tried.wait_for(lambda: node not in {one.id for one in self._sign.nodes}, seconds)

    def line(self) -> tuple[Line, socket.socket]:
        """Return a line to a worker that is not started yet, and the socket of its messages.

        Raises:
            GatewayError: there is no gateway, and none could be started.
        """
        with self._tried:
            if self._closed:
                raise GatewayError("the gateway to Ray is closed")
            end = self._socket or self._start()
            ours = [socket.socketpair() for _ in range(2)]
            try:
                socket.send_fds(end, [b"line"], [theirs.fileno() for _, theirs in ours])
            except OSError as error:
                for mine, _ in ours:
                    mine.close()
                raise GatewayError(f"the gateway to Ray has ended: {error.strerror}") from error
            finally:
                for _, theirs in ours:
                    theirs.close()
        return Line(ours[0][0]), ours[1][0]

    def refuse(self) -> None:
        """Give out no line from here on; who waits for one is told so."""
        with self._tried:
            self._closed = True
            self._wanted.set()
            if self._socket is None and self._process is not None:
                self._process.kill()  # it may try to join for a minute
            self._tried.notify_all()

    def close(self) -> None:
        """End all workers on all nodes, and the gateway."""
        self.refuse()
        with self._tried, contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_WR)
        if self._keeper is not None:
            self._keeper.join()

    def _start(self) -> socket.socket:
        """Have the keeper start one, and wait until it has joined the cluster."""
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="ray-gateway", daemon=True)
            self._keeper.start()
        check_reachable(self._options.address)
        self._sign = Sign([])
        self._wanted.set()
        self._tried.wait_for(
            lambda: self._closed or self._socket is not None or self._sign.error, _JOIN_SECONDS
        )
        if self._socket is None:
            raise GatewayError(
                f"no connection to the Ray cluster at {self._options.address}: {self._sign.error}"
            )
        return self._socket

    def _keep(self) -> None:
        while self._wanted.wait() and not self._closed:
            self._wanted.clear()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours:
                with theirs:
                    process = self._process = self._spawned(theirs)
                self._attend(ours)
                with self._tried:
                    self._socket = None
                    if not self._sign.error:
                        self._sign = Sign([], "the gateway has ended")
                    self._tried.notify_all()
                    self._process = None
            if process is not None:
                _end(process)

    def _spawned(self, theirs: socket.socket) -> subprocess.Popen[bytes] | None:
        try:
            return _spawn(theirs, self._options)
        except OSError as error:
            self._sign = Sign([], f"the gateway does not start: {error.strerror}")
            return None

    def _attend(self, ours: socket.socket) -> None:
        """Hear its signs of life until there are none."""
        patience = _JOIN_SECONDS
        while True:
            ours.settimeout(_CLOSE_SECONDS if self._closed else patience)
            try:
                packet = ours.recv(_SIGN_BYTES)
            except OSError:
                packet = b""
            if not packet:
                return
            sign = _SIGN_DECODER.decode(packet)
            if sign.error and self._socket is not None and not self._sign.error:
                _log.warning("ray_cluster_away", address=self._options.address, why=sign.error)
            with self._tried:
                self._sign = sign
                if sign.nodes and not self._closed:
                    self._socket = ours
                self._tried.notify_all()
            patience = _SILENCE_SECONDS


def check_reachable(address: str) -> None:
    """Return if somebody listens at the address of a head, HOST:PORT; Ray itself tries for minutes. "auto" is Ray's to find.

    Raises:
        GatewayError: nobody does.
    """
    host, separator, port = address.rpartition(":")
    if not separator:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        raise GatewayError(
            f"no Ray cluster at {address} ({error}): start its head, or name another by --ray-address"
        ) from error


def _spawn(theirs: socket.socket, options: GatewayOptions) -> subprocess.Popen[bytes]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    rays_own = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    arguments = [str(theirs.fileno()), str(os.getpid()), msgspec.json.encode(options).decode()]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "videoprocess_server.execution.ray_gateway", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # Ray tells what it has to tell in its own logs
        stderr=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
        env={"RAY_USAGE_STATS_ENABLED": "0", **inherited, **rays_own},
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait until it is gone; it is killed when that takes long."""
    try:
        process.wait(_CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
