"""The gateway program: the only one that knows Ray. It is a process of its own, since Ray ends its driver when the cluster is gone.

The service gives it a pair of sockets for each worker: one that the worker's messages go over, unread, and one for calls.
A worker ends with its sockets, and all end with the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from videoprocess_server.execution.gateway_protocol import Answer, Call, Forward, GatewayOptions, Order, Sign
from videoprocess_server.execution.ray_cluster import Cluster, NoRoomError, Seat
from videoprocess_server.execution.sandbox_privileges import prctl

_PR_SET_PDEATHSIG = 1
_SIGN_SECONDS = 2.0
_LENGTH_BYTES = 4
#: of a call to a node: it may wait for a disk there, and for a worker that does not end
_CALL_SECONDS = 60.0
#: its node was free for the worker's last task, so for the next one it mostly is at once
_SIT_SECONDS = 3.0
#: a seat that is given back is anybody's a second later, so a worker keeps it as long for the task that follows
_KEEP_SECONDS = 1.0
#: a fresh worker keeps it so long, so that it gets ready for the task it was started for, and others start elsewhere
_FRESH_SECONDS = 3.0
#: of calls that block, at once: each worker has one
_THREADS = 256
#: how Ray's reasons begin → what to do
_REMEDIES: Final[Mapping[str, str]] = {
    "Version mismatch": "install the same Ray and Python on both",
    "Failed to connect": "see whether its head is well, and whether it wants a token (docs/ray.md)",
}


class Line:
    """One worker's two sockets, and the worker once it is started.

    Args:
        cluster: where.
        control: calls come over it.
        data: what goes to the worker and comes from it.
    """

    def __init__(self, cluster: Cluster, control: socket.socket, data: socket.socket) -> None:
        self._cluster = cluster
        self._control = control
        self._data = data
        self._host: Any = None
        self._number = 0
        self._node = ""
        self._seat: Seat | None = None
        self._is_frozen = False
        self._keeping: asyncio.TimerHandle | None = None
        self._pumps: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        """Answer calls until the service closes the line; then the worker ends."""
        reader, writer = await asyncio.open_connection(sock=self._control)
        try:
            while True:
                call = _CALL_DECODER.decode(await _read_body(reader))
                answer = msgspec.msgpack.encode(await self._answer(call))
                writer.write(len(answer).to_bytes(_LENGTH_BYTES, "big") + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            await self._close()
            writer.close()

    async def _answer(self, call: Call) -> Answer:
        try:
            method: Callable[..., Coroutine[Any, Any, Any]] = getattr(self, f"do_{call.what}")
            return Answer(call.number, await method(*call.arguments))
        except Exception as error:  # noqa: BLE001  whatever Ray raises is the worker's end, and told
            cause = getattr(error, "cause", None) or error
            number = cause.errno or 0 if isinstance(cause, OSError) else 0
            unsaid = "the node does not answer in time" if isinstance(cause, TimeoutError) else ""
            last_line = (str(cause).strip().splitlines() or [unsaid])[-1].strip()
            return Answer(call.number, None, f"{type(cause).__name__}: {last_line}", number)

    async def do_start(self, plain: Any) -> tuple[str, int]:  # noqa: ANN401 - what the service sent
        """Start the worker; return the id of its node and its process id."""
        order = msgspec.convert(plain, Order)
        try:
            self._seat, self._node = await self._cluster.find_seat(order)
            self._host = await self._cluster.host(self._node)
            confinement = self._cluster.bounded(order.confinement, self._node)
            self._number, pid = await self._cluster.ask(self._host.start.remote(order.module, confinement))
        except BaseException:
            self._data.close()
            raise
        self._data.setblocking(False)
        self._pumps = [asyncio.create_task(pump) for pump in (self._pump_down(), self._pump_up())]
        self._keep_seat(_FRESH_SECONDS)
        return self._node, pid

    async def do_facts(self) -> dict[str, str]:
        """Return what of the worker's node must be as the service's."""
        facts: dict[str, str] = await self._ask(self._host.facts.remote())
        return facts

    async def do_state(self) -> dict[str, Any]:
        """Return what of the worker's node should be in order."""
        state: dict[str, Any] = await self._ask(self._host.state.remote())
        return state

    async def do_tell(self, what: str, *arguments: Any) -> Any:  # noqa: ANN401 - of the method
        """Have a method of the WorkerProcess called."""
        return await self._ask(self._host.tell.remote(self._number, what, *arguments))

    async def do_sit(self, memory_bytes: int) -> bool:
        """Take a seat on the worker's node for a task; False if there is no room."""
        if self._cluster.is_too_small(self._node, memory_bytes):
            return False
        if self._keeping is not None:
            self._keeping.cancel()
        if self._seat is None or not self._seat.holds(memory_bytes):
            self._leave()
            self._seat = Seat(memory_bytes, self._node)
        try:
            await self._seat.wait(_SIT_SECONDS)
        except NoRoomError:
            self._leave()
            return False
        return True

    async def do_freeze(self) -> bool:
        """Stop the worker, and give its seat back."""
        self._is_frozen = True
        stands: bool = await self.do_tell("freeze")
        if self._seat is not None:
            self._seat.leave()
        return stands

    async def do_thaw(self) -> None:
        """Let the worker go on; its seat is asked for and not waited for: the service bounds how many run."""
        self._is_frozen = False
        await self.do_tell("thaw")
        if self._seat is not None:
            self._seat.ask()

    async def do_rest(self) -> None:
        """Note that the worker has no task any more; its seat is given back unless the next one follows at once."""
        if self._is_frozen:
            await self.do_thaw()
        self._keep_seat(_KEEP_SECONDS)

    def _keep_seat(self, seconds: float) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        self._keeping = asyncio.get_running_loop().call_later(seconds, self._leave)

    def _leave(self) -> None:
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.leave()

    async def do_usage(self) -> Any:  # noqa: ANN401 - of the method
        """Return what the worker uses."""
        return await self._ask(self._host.usage.remote(self._number))

    async def do_end(self, let_it_end: bool) -> Any:  # noqa: ANN401 - of the method
        """End the worker and return its exit code."""
        number, self._number = self._number, 0
        return await self._ask(self._host.end.remote(number, let_it_end))

    async def do_file(self, what: str, *arguments: Any) -> Any:  # noqa: ANN401 - of the method
        """Have a method of the node's files called."""
        return await self._ask(self._host.file.remote(what, *arguments))

    async def do_own_file(self, what: str, *arguments: Any) -> Any:  # noqa: ANN401 - of the method
        """The same, of a method that asks which worker it is for."""
        return await self.do_file(what, self._number, *arguments)

    async def _ask(self, reference: Any) -> Any:  # noqa: ANN401 - Ray's, and of the method
        return await asyncio.wait_for(self._cluster.ask(reference), _CALL_SECONDS)

    async def _pump_down(self) -> None:
        reader, _writer = await asyncio.open_connection(sock=self._data.dup())
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                forward = _FORWARD_DECODER.decode(await _read_body(reader))
                try:
                    await self._cluster.ask(
                        self._host.write.remote(self._number, forward.body, forward.source)
                    )
                except Exception:  # noqa: BLE001  the worker is gone
                    break
        self._shut()

    async def _pump_up(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(Exception):  # whatever Ray raises is the worker's end
            while (data := await self._cluster.ask(self._host.read.remote(self._number))) != b"":
                await loop.sock_sendall(self._data, data or b"")
        self._shut()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._data.shutdown(socket.SHUT_RDWR)

    async def _close(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        if self._number and self._host is not None:
            with contextlib.suppress(Exception):
                await self.do_end(False)
        self._leave()
        self._data.close()


async def _read_body(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    return await reader.readexactly(size)


async def _serve(service: socket.socket, cluster: Cluster) -> None:
    """Take lines until the service closes its end; tell it every few seconds how the cluster is."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS))
    lines: set[asyncio.Task[None]] = set()
    over = loop.create_future()

    def take() -> None:
        try:
            packet, fds, _flags, _address = socket.recv_fds(service, 16, 2, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        if not packet:
            loop.remove_reader(service)
            over.set_result(None)
            return
        control, data = (socket.socket(fileno=fd) for fd in fds)
        line = asyncio.create_task(Line(cluster, control, data).serve())
        lines.add(line)
        line.add_done_callback(lines.discard)

    service.setblocking(False)
    loop.add_reader(service, take)
    signs = asyncio.create_task(_tell_signs(service, cluster))
    await asyncio.wait((over, signs), return_when=asyncio.FIRST_COMPLETED)
    for line in lines:
        line.cancel()
    await asyncio.gather(*lines, return_exceptions=True)
    await cluster.close()


async def _tell_signs(service: socket.socket, cluster: Cluster) -> None:
    """Ends when the cluster is not the one any more that this process is part of."""
    while True:
        sign = await cluster.look()
        _tell(service, sign)
        if not sign.nodes and not sign.error:
            return
        await asyncio.sleep(_SIGN_SECONDS)


def _tell(service: socket.socket, sign: Sign) -> None:
    with contextlib.suppress(OSError):  # the service is gone, or reads slowly: another comes
        service.send(msgspec.msgpack.encode(sign))


def main() -> None:
    """Be the gateway."""
    _program, service_fd, parent_pid, plain = sys.argv
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent_pid):
        raise SystemExit("the service is gone already")
    os.set_inheritable(int(service_fd), False)
    service = socket.socket(fileno=int(service_fd))
    try:
        cluster = Cluster.join(msgspec.json.decode(plain, type=GatewayOptions))
    except Exception as error:  # noqa: BLE001  whatever Ray raises is told
        _tell(service, Sign([], _why_not(error)))
        return
    asyncio.run(_serve(service, cluster))


def _why_not(error: Exception) -> str:
    """Return in a line why the cluster cannot be joined."""
    text = " ".join(str(error).split()) or type(error).__name__
    remedies = [remedy for beginning, remedy in _REMEDIES.items() if text.startswith(beginning)]
    return ": ".join((text, *remedies))


_CALL_DECODER = msgspec.msgpack.Decoder(Call)
_FORWARD_DECODER = msgspec.msgpack.Decoder(Forward)

if __name__ == "__main__":
    main()
