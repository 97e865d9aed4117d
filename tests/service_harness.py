"""The installed server as a real process, and its stubs: what the wire tests talk to."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import psutil
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from videoprocess.v1 import (
    file_transfer_pb2 as transfer,
)
from videoprocess.v1 import (
    file_transfer_pb2_grpc,
    hdi_enums_pb2,
    types_pb2,
    video_catalog_pb2_grpc,
    video_process_callback_pb2_grpc,
    video_process_service_pb2_grpc,
    video_process_session_pb2_grpc,
)
from videoprocess.v1 import (
    video_catalog_pb2 as catalog,
)
from videoprocess.v1 import (
    video_process_callback_pb2 as callback,
)
from videoprocess.v1 import (
    video_process_service_pb2 as service,
)
from videoprocess.v1 import (
    video_process_session_pb2 as session,
)

START_SECONDS = 240.0
SERVER = (sys.executable, "-m", "videoprocess_server.cli")
#: ten times what anything here should take: a bound for correctness, no goal
PATIENCE_SECONDS = 240.0
USER = 100


class Server:
    """A `videoprocess-server serve` of its own data directory; may be killed and started again."""

    def __init__(self, data_dir: Path, *flags: str, program: Sequence[str] = SERVER) -> None:
        self.data_dir = data_dir
        self.program = tuple(program)
        self.flags = flags
        self.address = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._address_file = data_dir.parent / f"{data_dir.name}.address"
        self.log_path = data_dir.parent / f"{data_dir.name}.log"

    def start(self) -> Server:
        self._address_file.unlink(missing_ok=True)
        command = [*self.program, "serve", "--data-dir", str(self.data_dir)]
        command += [
            "--listen",
            "127.0.0.1:0",
            "--address-file",
            str(self._address_file),
            "--log-format",
            "json",
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen([*command, *self.flags], stderr=log, stdout=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._address_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start: {self.log_path.read_text()}")
            time.sleep(0.01)
        self.address = self._address_file.read_text().strip()
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it was started, and not killed or stopped since."""
        return self._process is not None

    def kill(self) -> list[psutil.Process]:
        """kill -9; returns the workers it had."""
        workers = psutil.Process(self.pid).children(recursive=True)
        self._end(signal.SIGKILL)
        return workers

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal and do not wait for what comes of it."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        return process.wait(PATIENCE_SECONDS)

    def _end(self, number: signal.Signals) -> int:
        self.signal(number)
        return self.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._end(signal.SIGKILL)


class Api:
    """All stubs on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.service = video_process_service_pb2_grpc.VideoProcessServiceStub(channel)
        self.session = video_process_session_pb2_grpc.VideoProcessSessionServiceStub(channel)
        self.callback = video_process_callback_pb2_grpc.VideoProcessCallbackServiceStub(channel)
        self.transfer = file_transfer_pb2_grpc.FileTransferServiceStub(channel)
        self.catalog = video_catalog_pb2_grpc.VideoCatalogServiceStub(channel)

    async def open_session(self, user_id: int = USER) -> str:
        request = service.CreateVideoProcessSessionRequest(user_id=user_id)
        return (await self.service.CreateVideoProcessSession(request)).session_id

    async def prepare_path(self, session_id: str, video_id: str, path: str, root: str = "media") -> Any:
        file = types_pb2.FileDescriptor(shared_path=types_pb2.SharedPath(root=root, path=path))
        return await self.session.Prepare(
            session.PrepareRequest(session_id=session_id, video_id=video_id, fds=[file])
        )

    async def commit_video(
        self, session_id: str, *, setting: bytes = b"", stream_id: int = 1, **stream: Any
    ) -> None:
        info = types_pb2.StreamInfo(stream_id=stream_id, intent=hdi_enums_pb2.STREAM_INTENT_VIDEO, **stream)
        request = session.CreateStreamsRequest(
            session_id=session_id, stream_infos=[types_pb2.StreamInfoV11(v1_0=info)]
        )
        await self.session.CreateStreams(request)
        await self.session.CommitStreams(
            session.CommitStreamsRequest(session_id=session_id, serialized=setting)
        )

    async def process(self, session_id: str, video_id: str, timestamp_us: int = 0, **more: Any) -> Any:
        return await self.session.ProcessVideo(
            session.ProcessVideoRequest(
                session_id=session_id, video_id=video_id, timestamp_us=timestamp_us, **more
            )
        )

    async def events(
        self, user_id: int = USER, after_sequence: int | None = None, session_id: str = ""
    ) -> AsyncIterator[callback.CallbackEvent]:
        request = callback.SubscribeRequest(
            user_id=user_id, after_sequence=after_sequence, session_id=session_id
        )
        async for response in self.callback.Subscribe(request):
            yield response.event

    async def terminal(self, accepted: Any, user_id: int = USER) -> callback.CallbackEvent:
        """Waits for the terminal event of a ProcessVideo's answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for event in self.events(user_id, accepted.event_sequence):
                if event.job_id == accepted.job_id and event.sequence:
                    return event
        raise AssertionError("the subscription ended without the job's terminal event")

    async def upload(self, data: bytes, **header: Any) -> transfer.UploadResponse:
        head = transfer.UploadHeader(**{"user_id": USER, **header})
        messages = [
            transfer.UploadRequest(header=head),
            *(
                transfer.UploadRequest(offset=begin, data=data[begin : begin + (1 << 20)])
                for begin in range(0, len(data), 1 << 20)
            ),
            transfer.UploadRequest(
                offset=len(data),
                finish=transfer.UploadFinish(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()),
            ),
        ]
        return await self.transfer.Upload(_each(messages))

    async def download(self, artifact_id: str, user_id: int = USER, offset: int = 0, limit: int = 0) -> bytes:
        request = transfer.DownloadRequest(
            user_id=user_id, artifact_id=artifact_id, offset=offset, limit=limit
        )
        return b"".join([message.data async for message in self.transfer.Download(request)])

    async def video(self, video_id: str, user_id: int = USER) -> Any:
        return (
            await self.catalog.GetVideo(catalog.GetVideoRequest(user_id=user_id, video_id=video_id))
        ).video


def address_to_keep() -> str:
    """An address for `--listen` that is free, and stays so while a service that has it is restarted.

    It lies below the ports that the kernel picks for others.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return f"127.0.0.1:{port}"


async def assert_each_ends_once(api: Api, answers: Iterable[Any]) -> None:
    """The user's jobs so far, in the order of their ends: each has one terminal event, and numbers have no gap.

    A job of an unknown video ends after them all.
    """
    last = await api.process(await api.open_session(), "unknown")
    seen = []
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(api.events(after_sequence=0)) as events:
        async for event in events:
            if event.sequence:
                seen.append((event.sequence, event.job_id))
            if event.job_id == last.job_id:
                break
    assert seen == list(enumerate((answer.job_id for answer in (*answers, last)), start=1))


async def _each(messages: Iterable[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message


@asynccontextmanager
async def connect(server: Server) -> AsyncIterator[Api]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Api(channel)


@dataclass(frozen=True)
class Refusal:
    """A gRPC error with its details."""

    status: grpc.StatusCode
    reason: str
    cam_ret_code: int
    message: str
    violations: dict[str, str] = field(default_factory=dict)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Reads what every error of the service carries."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None, f"no details: {error}"
    info, violations = error_details_pb2.ErrorInfo(), {}
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations = {violation.field: violation.description for violation in bad.field_violations}
    assert info.domain == "videoprocess"
    return Refusal(error.code(), info.reason, int(info.metadata["cam_ret_code"]), error.details(), violations)


async def refused(call: Any) -> Refusal:
    """Awaits a call that must be refused."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError(f"the call was not refused: {answer}")
