"""A worker as its parent sees it: spawned, spoken with, killed, reaped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

from videoprocess_server.execution.channel import Channel

#: what a worker may know of the service's environment: how to find its libraries, and no secrets
_INHERITED = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
)

#: results must not depend on the number of cores; SVT-AV1 writes to stderr unless told to report errors only
_SET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "SVT_LOG": "1"}

#: a worker whose channel ended is given this long to end by itself, so that its exit code is its own
_LAST_BREATH_SECONDS = 0.5


class WorkerProcess:
    """One worker and this end of its channel.

    Args:
        process: the spawned process.
        channel: this end.
    """

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self.channel = channel
        self.exit_code: int | None = None
        self._process = process
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def kill(self) -> None:
        """Send SIGKILL, from any thread; nothing happens once it is reaped."""
        with self._lock:
            if self.exit_code is None:
                os.kill(self.pid, signal.SIGKILL)

    def end(self, *, let_it_end: bool = False) -> int:
        """Kill it, wait until it is gone, give everything back and return its exit code.

        Args:
            let_it_end: it is ending by itself: wait a little before it is killed.
        """
        if self.exit_code is not None:
            return self.exit_code
        if let_it_end:
            self._wait_a_little()
        self.kill()
        # Reaping frees the pid, so `kill` must not fall between the reaping and the knowledge of it.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self.exit_code = self._process.wait()
        self.channel.close()
        return self.exit_code

    def _wait_a_little(self) -> None:
        deadline = time.monotonic() + _LAST_BREATH_SECONDS
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return
            time.sleep(0.002)


def spawn(module: str, niceness: int) -> WorkerProcess:
    """Start a worker program; the calling thread must live as long as the worker.

    The kernel's parent-death signal, which the worker asks for, comes when the *thread* that spawned it ends. There is
    no preexec_fn, so that Python uses vfork and the fork handlers of gRPC's threads never run.

    Args:
        module: a program that begins with `worker.enter(sys.argv)`.
        niceness: added to the service's own.

    Raises:
        OSError: no process could be made.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        arguments = [str(theirs.fileno()), str(os.getpid()), str(niceness)]
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=_environment(),
            )
        except BaseException:
            ours.close()
            raise
    return WorkerProcess(process, Channel(ours))


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | _SET
