"""How tests of executors submit scripts and watch what becomes of them."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from contract.sample_tasks import script
from videoprocess_server.execution.executor import (
    Executor,
    Slot,
    TaskHandle,
)
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.model.tasks import (
    EncodeResult,
    TaskMessage,
)

FAKE_WORKER = "contract.fake_worker"
#: until it is cancelled
LONG = "sleep:3600"
#: bounds what hangs, on a machine that has much else to do
PATIENCE_SECONDS = 120.0


#: of the running test
submitted: list[TaskHandle] = []


@contextmanager
def workers_find_the_tests() -> Iterator[None]:
    """Let workers import fake_worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        yield


def cancel_what_is_left() -> None:
    for handle in submitted:
        handle.cancel()
    submitted.clear()


@contextmanager
def new_pool(
    worker_count: int, *, worker_module: str = FAKE_WORKER, **more: Any
) -> Iterator[ProcessPoolExecutor]:
    executor = ProcessPoolExecutor(worker_count, worker_module=worker_module, **more)
    executor.start()
    try:
        yield executor
    finally:
        executor.close()


def submit(
    executor: Executor,
    *steps: str,
    slot: Slot = Slot.GENERAL,
    source_fd: int | None = None,
    stall_seconds: float = 30,
    niceness: int = 0,
    on_message: Callable[[TaskMessage], None] | None = None,
) -> TaskHandle:
    handle = executor.submit(
        script(*steps),
        slot=slot,
        source_fd=source_fd,
        stall_seconds=stall_seconds,
        niceness=niceness,
        on_message=on_message,
    )
    submitted.append(handle)
    return handle


def facts(handle: TaskHandle) -> list[str]:
    result = handle.result()
    assert isinstance(result, EncodeResult)
    return [segment.path for segment in result.segments]


class Messages(list[TaskMessage]):
    """Collects messages and tells when the first one is there."""

    def __init__(self) -> None:
        super().__init__()
        self._first = threading.Event()

    def receive(self, message: TaskMessage) -> None:
        self.append(message)
        self._first.set()

    def wait(self) -> None:
        assert self._first.wait(PATIENCE_SECONDS)

    def count_when_quiet(self) -> int:
        """How many there are once none is on its way any more."""
        count = -1
        while count != len(self):
            count = len(self)
            time.sleep(0.3)
        return count


def running(
    executor: Executor, *steps: str, on_message: Callable[[TaskMessage], None] | None = None, **more: Any
) -> TaskHandle:
    """Submit a task and wait until it runs."""
    messages = Messages()

    def receive(message: TaskMessage) -> None:
        if on_message is not None:
            on_message(message)
        messages.receive(message)

    handle = submit(executor, *steps, on_message=receive, **more)
    messages.wait()
    return handle


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def open_sources() -> int:
    """How many descriptors of `a_source` are open: their files have no name any more."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            target = str(link.readlink())
            found += target.startswith(tempfile.gettempdir()) and target.endswith("(deleted)")
    return found


def a_source(text: str = "hello") -> int:
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        return os.dup(file.fileno())


def pings(executor: Executor) -> bool:
    try:
        executor.ping()
    except RuntimeError:
        return False
    return True


#: servers that a process of tests keeps for as long as it lives
_SERVERS = {"postgres", "versitygw"}


def children() -> list[psutil.Process]:
    """Processes of the executors of this process of tests."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if child.name() not in _SERVERS:
                found.append(child)
    return found
