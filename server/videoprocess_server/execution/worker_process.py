"""A worker as its parent sees it: spawned, spoken with, killed, reaped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from videoprocess_server.execution import heap
from videoprocess_server.execution.cgroup import oom_kill_count
from videoprocess_server.execution.channel import Channel
from videoprocess_server.execution.niceness import HIGHEST, SessionWeight, set_niceness
from videoprocess_server.execution.sandbox import Confinement
from videoprocess_server.execution.task_run import TaskRun

_log = structlog.get_logger(__name__)

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
_SET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "SVT_LOG": "1", **heap.ENVIRONMENT}

#: a worker that was told to end, or whose channel ended, is given this long before it is killed
_LAST_BREATH_SECONDS = 0.5

#: a stopped process stands still within microseconds, unless it is waiting for a disk
_LONGEST_STOP_SECONDS = 2.0

_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
#: of /proc/PID/stat, counted from what follows the program's name: time of its own, and of the kernel for it
_USER_TICKS, _SYSTEM_TICKS = 11, 12


class WorkerProcess:
    """One worker and this end of its channel. Its thread reads the channel and calls `end`; the rest is for any thread.

    Args:
        process: the spawned process.
        channel: this end.
        oom_kills: how many processes of the control group were killed for want of memory; None where nothing tells.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        channel: Channel,
        oom_kills: Callable[[], int | None] = oom_kill_count,
    ) -> None:
        self.channel = channel
        self.oom_kill_count = oom_kills
        self.exit_code: int | None = None
        #: whether SIGKILL was sent from here
        self.killed = False
        self.failure = ""
        self.found_no_room = False
        self._process = process
        self._session = SessionWeight(process.pid)
        self._niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self._own_niceness = self._niceness
        self._frozen = False
        self._last_cpu_seconds = 0.0
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def kill(self) -> None:
        """Send SIGKILL; nothing happens once it is reaped."""
        with self._lock:
            self._send(signal.SIGKILL)

    def stop(self) -> None:
        """Begin to end: SIGTERM ends native code at once, but none that stands still. `end` does the rest."""
        with self._lock:
            self._send(signal.SIGKILL if self._frozen else signal.SIGTERM)
            self.channel.shut_down()

    def freeze(self) -> bool:
        """Stop all its threads; return when they stand still. False if it is gone already."""
        with self._lock:
            self._send(signal.SIGSTOP)
            self._frozen = True
        deadline = time.monotonic() + _LONGEST_STOP_SECONDS
        pause = 0.0001
        while (standing := self._stands_still()) is None:
            if time.monotonic() > deadline:
                _log.warning("worker_stops_slowly", pid=self.pid)
                return True
            time.sleep(pause)
            pause = min(2 * pause, 0.005)
        return standing

    def thaw(self) -> None:
        """Let its threads go on."""
        with self._lock:
            self._send(signal.SIGCONT)
            self._frozen = False

    def is_far_from(self, run: TaskRun) -> bool:  # noqa: ARG002 - any task
        """Return False: all workers of a machine open the same files."""
        return False

    def suits(self, run: TaskRun) -> bool:
        """Make it as nice as a task wants; False if that takes a privilege. For a worker without a task."""
        return self.set_niceness(run.niceness)

    def rest(self) -> None:
        """Go on: it may have been frozen when its answer was on the way already."""
        self.thaw()

    def fetch(self, run: TaskRun) -> None:
        """Nothing to do: it opens the service's own files."""

    def set_niceness(self, niceness: int) -> bool:
        """Add to the service's niceness; False if that takes a privilege. For a worker without a task."""
        wanted = min(self._own_niceness + niceness, HIGHEST)
        if wanted != self._niceness:
            try:
                set_niceness(self.pid, wanted, self._session)
            except PermissionError:
                return False
            self._niceness = wanted
        return True

    def resident_bytes(self) -> int:
        """Return the memory it holds, shared libraries included; 0 once it is gone."""
        with self._lock:
            if self.exit_code is not None:
                return 0
            try:
                return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES
            except OSError:
                return 0

    def cpu_seconds(self) -> float:
        """Return the processor time it has used, all threads together; what it had used once it is gone."""
        with self._lock:
            if self.exit_code is None:
                self._last_cpu_seconds = _cpu_seconds_of(self.pid) or self._last_cpu_seconds
            return self._last_cpu_seconds

    def end(self, *, let_it_end: bool = False) -> int:
        """Kill it, wait until it is gone, give everything back and return its exit code.

        Args:
            let_it_end: it is ending already: wait a little before it is killed.
        """
        if self.exit_code is not None:
            return self.exit_code
        if let_it_end:
            self._wait_a_little()
        if not self._has_ended():
            self.kill()
        # Reaping frees the pid, so `kill` must not fall between the reaping and the knowledge of it.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.cpu_seconds()  # the kernel forgets it with the process
        with self._lock:
            self.exit_code = self._process.wait()
            self.channel.close()
            self._session.close()
        return self.exit_code

    def _send(self, signal_number: signal.Signals) -> None:
        if self.exit_code is None:
            os.kill(self.pid, signal_number)
            self.killed = self.killed or signal_number is signal.SIGKILL

    def _stands_still(self) -> bool | None:
        """Whether all threads are stopped; None while some run, False where the process is gone."""
        with self._lock:
            if self.exit_code is not None:
                return False
            # The kernel tells of a stop when the last thread has stopped. Nothing is reaped here.
            found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG)
        return None if found is None else found.si_code == os.CLD_STOPPED

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def _wait_a_little(self) -> None:
        deadline = time.monotonic() + _LAST_BREATH_SECONDS
        while time.monotonic() < deadline and not self._has_ended():
            time.sleep(0.002)


def spawn(
    module: str, confinement: Confinement, oom_kills: Callable[[], int | None] = oom_kill_count
) -> WorkerProcess:
    """Start a worker program; the calling thread must live as long as the worker.

    The kernel's parent-death signal, which the worker asks for, comes when the *thread* that spawned it ends. There is
    no preexec_fn, so that Python uses vfork and the fork handlers of gRPC's threads never run.

    Args:
        module: a program that begins with `worker.enter(sys.argv)`.
        confinement: what is put around it before its first task.
        oom_kills: see WorkerProcess.

    Raises:
        OSError: no process could be made.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        arguments = [str(theirs.fileno()), str(os.getpid()), confinement.to_argument()]
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
    return WorkerProcess(process, Channel(ours), oom_kills)


def _cpu_seconds_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_PER_SECOND
    except (OSError, ValueError, IndexError):
        return 0.0


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | _SET
