"""What runs on a node: starts worker processes there, passes bytes to and from them, keeps files. It knows nothing of Ray."""

from __future__ import annotations

import asyncio
import itertools
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from videoprocess_server.execution import worker_process
from videoprocess_server.execution.channel import within
from videoprocess_server.execution.node_files import NodeFiles
from videoprocess_server.execution.sandbox import Confinement
from videoprocess_server.execution.worker_process import WorkerProcess

#: of what workers say, passed on at once
_READ_BYTES = 1 << 20
#: between two readings of the same worker: one call for all that it said meanwhile
_GATHERING_SECONDS = 0.03
#: to one worker, at a stretch: then whoever reads has to show that it still wants to
_LISTEN_SECONDS = 30.0
#: a worker that nobody reads from for longer has no service any more
_UNOWNED_SECONDS = 300.0
#: a worker that does not take its task for longer is ended by the service
_WRITE_SECONDS = 600.0
#: of calls that wait for a disk or a worker, at once
_THREADS = 128


@dataclass
class _Hosted:
    process: WorkerProcess
    read_at: float = field(default_factory=time.monotonic)
    #: done when there is something to read
    heard: asyncio.Future[None] | None = None


class NodeHost:
    """Serves one gateway. All methods but `facts` and `state` are of one worker or of the node's files.

    Workers die with it: they are spawned by the thread of its event loop, which lives as long as the process.

    Args:
        folder: on the node, for files; "" for the system's folder of temporary ones.
        limit_bytes: of copies of what tasks read.
    """

    def __init__(self, folder: str, limit_bytes: int) -> None:
        parent = Path(folder or tempfile.gettempdir(), f"videoprocess-{os.getuid()}")
        self._files = NodeFiles(parent, limit_bytes)
        self._workers: dict[int, _Hosted] = {}
        self._numbers = itertools.count(1)
        self._threads = ThreadPoolExecutor(_THREADS, "node-host")
        self._watching: asyncio.Task[None] | None = None

    async def facts(self) -> dict[str, str]:
        """Return what must be the same as the service's own."""
        return {"videoprocess": version("videoprocess"), "python": platform.python_version()}

    async def state(self) -> dict[str, Any]:
        """Return the node's name, its clock in microseconds since 1970, and how much nicer workers are than Ray itself."""
        own, rays = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, os.getppid()))
        return {"name": platform.node(), "now_us": time.time_ns() // 1000, "niceness": own - rays}

    async def start(self, module: str, confinement: str) -> tuple[int, int]:
        """Start a worker that may write to its own folders, too; return its number and process id."""
        self._watching = self._watching or asyncio.create_task(self._end_unowned())
        number = next(self._numbers)
        given = Confinement.from_argument(confinement)
        around = replace(given, writable=(*given.writable, *self._files.writable(number)))
        process = worker_process.spawn(module, around)
        self._workers[number] = _Hosted(process)
        return number, process.pid

    async def write(self, number: int, body: bytes, source: str) -> None:
        """Send a message to a worker, and the open source where it has one."""
        await self._in_thread(_send, self._workers[number].process, body, source)

    async def read(self, number: int) -> bytes | None:
        """Wait for what a worker says and return it; b"" once it has ended, None if it says nothing for long."""
        worker = self._workers[number]
        worker.read_at, since = time.monotonic(), time.monotonic() - worker.read_at
        if since < _GATHERING_SECONDS:
            await asyncio.sleep(_GATHERING_SECONDS - since)
        loop = asyncio.get_running_loop()
        heard = worker.heard = loop.create_future()
        loop.add_reader(worker.process.channel.fileno(), _hear, heard)
        await asyncio.wait((heard,), timeout=_LISTEN_SECONDS)
        if number not in self._workers:
            return b""
        loop.remove_reader(worker.process.channel.fileno())
        if not heard.done():
            return None
        return worker.process.channel.receive_what_is_there(_READ_BYTES)

    async def tell(self, number: int, what: str, *arguments: Any) -> Any:  # noqa: ANN401 - of the method
        """Have a method of a WorkerProcess called."""
        method: Callable[..., Any] = getattr(self._workers[number].process, what)
        return await self._in_thread(method, *arguments)

    async def usage(self, number: int) -> tuple[int, float, int | None]:
        """Return the memory a worker holds, its processor time, and how many workers ran out of memory on this node."""
        process = self._workers[number].process
        return process.resident_bytes(), process.cpu_seconds(), process.oom_kill_count()

    async def end(self, number: int, let_it_end: bool) -> tuple[int, float, int | None]:
        """End a worker; return its exit code and the rest of `usage`."""
        worker = self._workers.pop(number)
        process = worker.process
        asyncio.get_running_loop().remove_reader(process.channel.fileno())
        if worker.heard is not None:
            _hear(worker.heard)
        code: int = await self._in_thread(lambda: process.end(let_it_end=let_it_end))
        await self._in_thread(self._files.forget, number)
        return code, process.cpu_seconds(), process.oom_kill_count()

    async def file(self, what: str, *arguments: Any) -> Any:  # noqa: ANN401 - of the method
        """Have a method of NodeFiles called."""
        method: Callable[..., Any] = getattr(self._files, what)
        return await self._in_thread(method, *arguments)

    async def close(self) -> None:
        """End all workers and remove all files."""
        for number in list(self._workers):
            await self.end(number, let_it_end=False)
        await self._in_thread(self._files.close)

    async def _end_unowned(self) -> None:
        while True:
            await asyncio.sleep(_UNOWNED_SECONDS / 10)
            for number, worker in list(self._workers.items()):
                if time.monotonic() - worker.read_at > _UNOWNED_SECONDS:
                    await self.end(number, let_it_end=False)

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - of the call
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def _send(process: WorkerProcess, body: bytes, source: str) -> None:
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC) if source else None
    try:
        process.channel.send_body(body, fd=fd, patience=within(_WRITE_SECONDS))
    finally:
        if fd is not None:
            os.close(fd)


def _hear(heard: asyncio.Future[None]) -> None:
    if not heard.done():
        heard.set_result(None)
