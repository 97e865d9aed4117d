"""SIGTERM and a new start under clients: they come back by themselves and go on where they stood."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from media_factory import make_clip, shrink_clip
from service_harness import PATIENCE_SECONDS, USER, Api, Server, address_to_keep, connect, refusal_of
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1.report_pb2 import Artifact
from videoprocess_client import Client, RetryPolicy, shared, stream

pytestmark = pytest.mark.slow

FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "2")
GRACE_SECONDS = 2.0
#: what a stop may take on top of its grace, on a machine that is busy
MARGIN_SECONDS = 8.0
SECONDS_TO_SAY_SO = 3.0
#: finished segments of what is enhanced when the service is asked to stop
SEGMENTS_AT_A_STOP = (2, 8)
PATIENT = RetryPolicy(patience_seconds=PATIENCE_SECONDS, first_contact_seconds=PATIENCE_SECONDS)
UPLOAD_BYTES = 48 << 20
#: so that several restarts fall into it
SECONDS_OF_A_READ = 0.35
#: a client that reads so slowly is not through when the service comes back
SECONDS_OF_A_MESSAGE = 0.5
#: of the clip whose sound makes its result large
PICTURES, SECONDS_OF_A_PICTURE = 30, 6


class SlowFile(io.BytesIO):
    """A file on a slow disk."""

    name = "slow.bin"

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(SECONDS_OF_A_READ)
        return super().read(size)


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    root = tmp_path_factory.mktemp("root")
    shrink_clip(clips / "dog_720p30_10s.mp4", root / "dog.mp4", width=640, height=360, gop=15)
    times = range(0, PICTURES * SECONDS_OF_A_PICTURE * 30, SECONDS_OF_A_PICTURE * 30)
    make_clip(
        root / "long.mov", pts=times, time_base=Fraction(1, 30), width=128, height=96, audio="pcm_s16le"
    )
    return root


@pytest.fixture(name="server")
def _server(tmp_path: Path, root: Path) -> Iterator[Server]:
    flags = (*FLAGS, "--shared-root", f"media={root}", "--listen", address_to_keep())
    with Server(tmp_path / "data", *flags, "--shutdown-grace-seconds", str(GRACE_SECONDS)) as server:
        yield server


def _stop_in_time(server: Server) -> float:
    begin = time.monotonic()
    assert 0 == server.stop()
    took = time.monotonic() - begin
    assert took < GRACE_SECONDS + MARGIN_SECONDS
    return took


async def _made(client: Client, path: Path, video_id: str) -> Artifact:
    """What the service makes of a file, undisturbed."""
    async with client.session() as session:
        await session.prepare(video_id, shared("media", path.name))
        await session.create_streams([stream(1)])
        await session.commit_streams()
        artifact = (await (await session.process(video_id)).wait()).video_artifact
    assert artifact is not None
    return artifact


# -- clients of all kinds


@dataclass
class SlowDownload:
    """A download by a client that is slow, in a thread of its own: nobody else waits for it."""

    target: str
    artifact_id: str
    path: Path
    #: bytes there after each message
    progress: list[int] = field(default_factory=list)

    async def run(self) -> None:
        await asyncio.to_thread(lambda: asyncio.run(self._fetch()))

    async def _fetch(self) -> None:
        def on_progress(done: int, _total: int) -> None:
            self.progress.append(done)
            time.sleep(SECONDS_OF_A_MESSAGE)

        async with Client(self.target, user_id=USER, retry=PATIENT) as client:
            await client.download(self.artifact_id, self.path, on_progress=on_progress)


@asynccontextmanager
async def _hearing(client: Client) -> AsyncIterator[list[int]]:
    """Numbers of the events that a subscriber hears, who stays."""
    heard: list[int] = []

    async def hear() -> None:
        async with aclosing(client.subscribe(0)) as events:
            async for event in events:
                heard.extend([event.sequence] if event.sequence else [])

    task = asyncio.create_task(hear())
    try:
        yield heard
    finally:
        assert not task.done(), "the subscription ended"
        task.cancel()


async def _enhance(server: Server, source: Path, output: Path, state: Path) -> tuple[int, str]:
    """The command, as a user types it; its exit code and what it said."""
    command = Path(sys.executable).with_name("videoprocess")
    arguments = ("enhance", str(source), "-o", str(output), "--target", server.address, "--user", str(USER))
    process = await asyncio.create_subprocess_exec(
        command,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "XDG_STATE_HOME": str(state)},
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _has_segments(client: Client, prefix: str, count: int) -> bool:
    """Whether so many segments of a video of this name are finished."""
    return any([video.progress.segments_done >= count async for video in client.list_videos(prefix=prefix)])


async def test_clients_come_back_and_go_on_where_they_stood(
    tmp_path: Path, root: Path, server: Server
) -> None:
    data = os.urandom(UPLOAD_BYTES)
    sent = [0]
    async with Client(server.address, user_id=USER, retry=PATIENT) as client:
        expected = await _made(client, root / "dog.mp4", "undisturbed")
        large = await _made(client, root / "long.mov", "large")
        limits = (await client.capabilities()).limits
        download = SlowDownload(server.address, large.artifact_id, tmp_path / "large.mov")
        output = tmp_path / "enhanced.mp4"
        async with _hearing(client) as heard:
            uploading = asyncio.create_task(
                client.upload(SlowFile(data), on_progress=lambda done, _: sent.append(done))
            )
            downloading = asyncio.create_task(download.run())
            enhancing = asyncio.create_task(_enhance(server, root / "dog.mp4", output, tmp_path))
            cuts = []
            for count in SEGMENTS_AT_A_STOP:
                await _until(partial(_has_segments, client, "dog-", count))
                assert not uploading.done()
                assert not enhancing.done()
                cuts.append((sent[-1], download.progress[-1] if download.progress else 0))
                await asyncio.to_thread(_stop_in_time, server)
                await asyncio.to_thread(server.start)
            async with asyncio.timeout(PATIENCE_SECONDS):
                upload, _, (code, said) = await asyncio.gather(uploading, downloading, enhancing)
            await _heard_to_the_end(client, heard)
    again = upload.sent_bytes - UPLOAD_BYTES
    print(f"stopped with {cuts} bytes sent and fetched; {again} bytes were sent again")
    assert (0, expected.sha256) == (code, _sha256(output)), said
    assert large.sha256 == _sha256(download.path)
    assert 0 < cuts[0][1] < large.size_bytes
    assert download.progress == sorted(set(download.progress)), "it began anew"
    assert hashlib.sha256(data).hexdigest() == upload.sha256
    assert again <= len(cuts) * limits.upload_commit_bytes


async def _heard_to_the_end(client: Client, heard: list[int]) -> None:
    """Each number once and in order, up to that of a job that ends now."""
    marker = await (await client.open_session()).process("unknown")
    newest = marker.event_sequence + 1

    async def is_heard() -> bool:
        return newest in heard

    await _until(is_heard)
    assert heard == list(range(1, newest + 1))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- what a stop says, in which order


async def test_a_stop_says_so_first_then_refuses_then_ends_and_its_work_goes_on(
    server: Server, root: Path
) -> None:
    """In the middle of encoding, with an upload open that the service gives its grace."""
    async with Client(server.address, user_id=USER, retry=PATIENT) as client, connect(server) as api:
        expected = await _made(client, root / "dog.mp4", "undisturbed")
        accepted = await _accepted(api, "v")
        await _until(partial(_has_segments, client, "v", 2))
        upload = api.transfer.Upload()
        await upload.write(transfer.UploadRequest(header=transfer.UploadHeader(user_id=USER)))
        async with grpc.aio.insecure_channel(server.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert health_pb2.HealthCheckResponse.SERVING == (await watch.read()).status
            begin = time.monotonic()
            server.signal(signal.SIGTERM)
            async with asyncio.timeout(SECONDS_TO_SAY_SO):
                assert health_pb2.HealthCheckResponse.NOT_SERVING == (await watch.read()).status
            await _assert_refused(api, accepted.job.session_id)
            watch.cancel()
        assert 0 == await asyncio.to_thread(server.wait)
        took = time.monotonic() - begin
        upload.cancel()
    assert took < GRACE_SECONDS + MARGIN_SECONDS
    print(f"stopped {took:.2f} s after SIGTERM")
    server.start()
    async with connect(server) as api:
        done = (await api.terminal(accepted)).on_process_done
    assert expected.sha256 == done.report.artifacts[0].sha256
    assert done.report.reused_segment_count >= 2


async def _accepted(api: Api, video_id: str) -> Any:
    session_id = await api.open_session()
    await api.prepare_path(session_id, video_id, "dog.mp4")
    await api.commit_video(session_id)
    return await api.process(session_id, video_id)


async def _assert_refused(api: Api, session_id: str) -> None:
    """UNAVAILABLE; CAMERA_BUSY where it is still the service itself that answers."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api.process(session_id, "another")
    assert grpc.StatusCode.UNAVAILABLE is refused.value.code()
    if rpc_status.from_call(refused.value) is not None:
        assert (-1, "DRAINING") == (
            refusal_of(refused.value).cam_ret_code,
            refusal_of(refused.value).reason,
        )
