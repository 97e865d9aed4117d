"""How much of the processors a worker gets beside others."""

from __future__ import annotations

import contextlib
import os
import time

HIGHEST = 19

#: the kernel takes ten changes a second of all unprivileged processes together
_AUTOGROUP_TRIES = 6
_AUTOGROUP_PAUSE_SECONDS = 0.05


class SessionWeight:
    """What the kernel weighs a process's session by, where it schedules by session (autogroup).

    It is opened when the process is young: that of one that is not dumpable is root's.

    Args:
        pid: a process of a session of its own.
    """

    def __init__(self, pid: int) -> None:
        self._fd = -1
        with contextlib.suppress(OSError):  # no autogroups, or gone already
            self._fd = os.open(f"/proc/{pid}/autogroup", os.O_RDWR | os.O_CLOEXEC)

    def set(self, niceness: int) -> None:
        """Weigh it as one of this niceness; nothing happens where the kernel takes no change."""
        for _ in range(_AUTOGROUP_TRIES if self._fd >= 0 else 0):
            try:
                os.write(self._fd, str(niceness).encode())
            except BlockingIOError:
                time.sleep(_AUTOGROUP_PAUSE_SECONDS)
            except OSError:
                return
            else:
                return

    def close(self) -> None:
        """Give it back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def set_niceness(pid: int, niceness: int, session: SessionWeight) -> None:
    """Give a process of a session of its own this niceness; threads that it starts from now on inherit it.

    Where the kernel schedules by session (autogroup), niceness weighs only within the session; there the session is given
    the same. (Measured: two busy sessions, nice 0 and 19, got 1:1; with their autogroups so, 30:1.)

    Raises:
        PermissionError: lowering it takes a privilege.
    """
    os.setpriority(os.PRIO_PROCESS, pid, niceness)
    session.set(niceness)
