"""A full disk, folders that cannot be written to, a locked database, a clock that jumps: a clear status, and no work is lost."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import av
import grpc
import pytest

from engine.engine_under_test import Engine, running_engine
from engine.scripted_executor import Gate, ScriptedExecutor
from joining import join_again, joined
from media_factory import make_clip, shrink_clip
from media_tasks import encode
from post_mortem import DATABASE
from service_harness import PATIENCE_SECONDS, SERVER, USER, Api, Refusal, Server, connect, refused
from videoprocess.v1 import job_pb2 as job
from videoprocess.v1 import video_pb2 as video
from videoprocess_client import Busy, Client, ResourceExhausted, RetryPolicy
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import AnalyzeTask

pytestmark = pytest.mark.slow

FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "2")
CLIP = "dog.mp4"
CANNOT_START = 3
DISK_BYTES = 24 << 20
#: what work may be held up by that has no space or place
BLOCKED = {
    job.BLOCK_REASON_SPACE_LIMIT,
    job.BLOCK_REASON_STORE_UNREACHABLE,
    job.BLOCK_REASON_RETRY_BACKOFF,
}
#: until it is told what holds the work up
NOTICED_SECONDS = 60.0
#: how long what is wrong stays so after that
TROUBLE_SECONDS = 3.0
#: until a caller is answered, whatever is wrong: twice the store's patience with a lock, and a little more
ANSWER_SECONDS = 12.0
READ_SECONDS = 3.0
OUR_FAULT = {
    (grpc.StatusCode.UNAVAILABLE, -1),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, -2),
}
YEAR_SECONDS = 365 * 86_400.0
#: a session is closed after 30
MINUTES_NOT_IDLE = 29


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    root = tmp_path_factory.mktemp("root")
    shrink_clip(clips / "dog_720p30_10s.mp4", root / CLIP, width=384, height=216, gop=15)
    return root


def _flags(root: Path) -> tuple[str, ...]:
    return (*FLAGS, "--shared-root", f"media={root}")


async def _accepted(api: Api, video_id: str) -> Any:
    session_id = await api.open_session()
    await api.prepare_path(session_id, video_id, CLIP)
    await api.commit_video(session_id)
    return await api.process(session_id, video_id)


async def _sha256(api: Api, accepted: Any) -> str:
    done = (await api.terminal(accepted)).on_process_done
    return done.report.artifacts[0].sha256


async def _until(condition: Callable[[], Awaitable[bool]], seconds: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@dataclass
class Trouble:
    """A job that something comes over in the middle of its segments."""

    api: Api
    #: SHA-256 of what an undisturbed job made of the same
    expected: str
    accepted: Any

    async def is_blocked(self) -> bool:
        """Whether the video, or the status, tells what holds the work up; the job must not have ended."""
        now = await self.api.video("v")
        assert now.state in {video.VIDEO_STATE_QUEUED, video.VIDEO_STATE_RUNNING}, now
        return now.blocked_by in BLOCKED or await self._status() in BLOCKED

    async def _status(self) -> int:
        """What a subscriber is told first: why nothing runs."""
        async with aclosing(self.api.events()) as events:
            async for event in events:
                return event.on_status_changed.reason
        raise AssertionError("no status was told")

    async def assert_it_waits(self) -> None:
        """It comes to tell so, and keeps on waiting and telling."""
        await _until(self.is_blocked, NOTICED_SECONDS)
        await asyncio.sleep(TROUBLE_SECONDS)
        assert await self.is_blocked()

    async def assert_it_goes_on(self) -> None:
        """To the same bytes and one terminal event, by itself."""
        assert self.expected == await _sha256(self.api, self.accepted)
        marker = await self.api.process(await self.api.open_session(), "unknown")
        seen = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for event in self.api.events(after_sequence=0):
                if event.sequence:
                    seen.append(event.job_id)
                if event.job_id == marker.job_id:
                    break
        assert 1 == seen.count(self.accepted.job_id)


@asynccontextmanager
async def _in_the_middle(server: Server) -> AsyncIterator[Trouble]:
    async with connect(server) as api:
        expected = await _sha256(api, await _accepted(api, "undisturbed"))
        accepted = await _accepted(api, "v")

        async def encoding() -> bool:
            return (await api.video("v")).progress.segments_done >= 2

        await _until(encoding)
        yield Trouble(api, expected, accepted)


# -- a full disk


def _with_mounts(script: str, data_dir: Path) -> tuple[str, ...]:
    """A program that runs the service where `script` has mounted something; it goes with the service."""
    data_dir.mkdir(exist_ok=True)
    command = ("unshare", "--mount", "--map-root-user", "sh", "-c")
    program = (*command, f'{script} && exec "$@"', str(data_dir))
    tried = subprocess.run([*program, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no mounts of our own here: {tried.stderr.strip()}")
    return (*program, *SERVER)


class Filler:
    """Takes whatever space there is, until it is let go."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "filler"
        self._released = threading.Event()
        self._is_full = threading.Event()
        self._thread = threading.Thread(target=self._fill)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_full.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._thread.join()
        self._path.unlink()

    def _fill(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            while not self._released.is_set():
                try:
                    file.write(bytes(1 << 16))
                except OSError:
                    self._is_full.set()
                    self._released.wait(0.005)


async def test_a_full_disk_holds_work_up_and_nothing_else(tmp_path: Path, root: Path) -> None:
    data_dir = tmp_path / "data"
    program = _with_mounts(f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$0"', data_dir)
    with Server(data_dir, *_flags(root), program=program) as server:
        async with _in_the_middle(server) as trouble:
            disk = Path(f"/proc/{server.pid}/root{data_dir}")
            with Filler(disk):
                await _assert_no_upload(server, DISK_BYTES)
                another = await _answered(_accepted(trouble.api, "another"))
                if isinstance(another, Refusal):
                    assert (another.status, another.cam_ret_code) in OUR_FAULT
                await trouble.assert_it_waits()
            await trouble.assert_it_goes_on()
            assert trouble.expected == await _sha256(trouble.api, await _accepted(trouble.api, "another"))
        assert 0 == server.stop()


async def _assert_no_upload(server: Server, size_bytes: int) -> None:
    """CAMERA_BUSY, or INSUFFICIENT_RESOURCES."""
    impatient = RetryPolicy(patience_seconds=1.0)
    async with Client(server.address, user_id=USER, retry=impatient) as client:
        with pytest.raises((Busy, ResourceExhausted)):
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.upload(io.BytesIO(bytes(size_bytes)))


async def _answered(call: Awaitable[Any]) -> Any:
    """What the call answers, or its refusal, in time."""
    begin = time.monotonic()
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        answer = await refused(_raised(error))
    assert time.monotonic() - begin < ANSWER_SECONDS
    return answer


async def _raised(error: Exception) -> None:
    raise error


@pytest.fixture(name="full_disk")
def _full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has FFmpeg and joins write to a device that is always full, from its call on."""
    real_av, real_path = av.open, Path.open

    def open_av(file: Any, mode: str | None = None, **more: Any) -> Any:
        return real_av("/dev/full" if mode == "w" else file, mode, **more)

    def open_path(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        return real_path(Path("/dev/full") if mode == "wb" else path, mode, *more, **named)

    def fill() -> None:
        monkeypatch.setattr(av, "open", open_av)
        monkeypatch.setattr(Path, "open", open_path)

    return fill


@pytest.mark.parametrize("name", [CLIP, "clip.mkv"])
def test_a_full_disk_is_no_fault_of_encoder_and_join(
    name: str, tmp_path: Path, root: Path, full_disk: Callable[[], None]
) -> None:
    """What they answer is the disk's number, which is waited out, and no fault of the media, which ends the job."""
    source = root / name
    if not source.exists():
        make_clip(source, frames=30, width=128, height=96, audio="pcm_s16le")
    done = joined(source, tmp_path)
    full_disk()
    with pytest.raises(OSError) as of_encoder:  # noqa: PT011 - the number is checked
        encode(done.source, done.plan, done.plan.segments[:1], tmp_path / "again")
    with pytest.raises(OSError) as of_join:  # noqa: PT011
        join_again(
            done.source, done.media, done.plan, done.segment_paths, tmp_path / f"again{done.path.suffix}"
        )
    assert errno.ENOSPC == of_encoder.value.errno == of_join.value.errno


# -- folders that cannot be written to


def test_a_read_only_data_directory_is_told_in_one_line(tmp_path: Path) -> None:
    """One that a service has used before."""
    data_dir = tmp_path / "data"
    with Server(data_dir) as server:
        assert 0 == server.stop()
    read_only = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"'
    program = _with_mounts(read_only, data_dir)
    command = (*program, "serve", "--data-dir", str(data_dir), "--listen", "127.0.0.1:0")
    ended = subprocess.run([*command, "--log-format", "json"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == CANNOT_START, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("videoprocess-server: ")]
    assert str(data_dir) in line
    assert "Read-only file system" in line
    assert "Traceback" not in ended.stderr


def _obeying_permissions() -> tuple[str, ...]:
    """The service's program, without root's right to write everywhere."""
    if os.geteuid() != 0:
        return SERVER
    if shutil.which("setpriv") is None:
        pytest.skip("runs as root, and there is no setpriv")
    rights = "-dac_override,-dac_read_search"
    return ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *SERVER)


@contextmanager
def _write_protected(data_dir: Path) -> Iterator[None]:
    """All folders of blobs, and those in them."""
    folders = [data_dir / kind.value for kind in BlobKind]
    folders += [path for folder in folders for path in folder.iterdir() if path.is_dir()]
    for folder in folders:
        folder.chmod(0o500)
    try:
        yield
    finally:
        for folder in folders:
            with suppress(FileNotFoundError):
                folder.chmod(0o700)


async def test_folders_that_cannot_be_written_to_hold_work_up_and_nothing_else(
    tmp_path: Path, root: Path
) -> None:
    with Server(tmp_path / "data", *_flags(root), program=_obeying_permissions()) as server:
        async with _in_the_middle(server) as trouble:
            with _write_protected(server.data_dir):
                await _assert_no_upload(server, 4)
                await trouble.assert_it_waits()
            await trouble.assert_it_goes_on()
        assert 0 == server.stop()


# -- a locked database


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    """As another program does that writes to it, or backs it up."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=PATIENCE_SECONDS)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


async def test_a_locked_database_holds_work_up_and_nothing_else(tmp_path: Path, root: Path) -> None:
    with Server(tmp_path / "data", *_flags(root)) as server:
        async with _in_the_middle(server) as trouble:
            api = trouble.api
            session_id = await api.open_session()
            await api.prepare_path(session_id, "another", CLIP)
            await api.commit_video(session_id)
            with _locked(server.data_dir / DATABASE):
                writing = asyncio.create_task(_answered(api.process(session_id, "another")))
                while not writing.done():
                    begin = time.monotonic()
                    assert (await api.video("another")).state == video.VIDEO_STATE_PENDING
                    assert time.monotonic() - begin < READ_SECONDS
                    await asyncio.sleep(0.1)
                refusal = await writing
                assert isinstance(refusal, Refusal)
                assert (refusal.status, refusal.cam_ret_code, refusal.reason) == (
                    grpc.StatusCode.UNAVAILABLE,
                    -1,
                    "STORE_UNAVAILABLE",
                )
            await trouble.assert_it_goes_on()
            assert (await api.video("another")).state == video.VIDEO_STATE_PENDING
            assert trouble.expected == await _sha256(api, await api.process(session_id, "another"))
        assert 0 == server.stop()


# -- a clock that jumps


@pytest.fixture(name="engine")
def _engine(tmp_path: Path) -> Iterator[Engine]:
    with running_engine(tmp_path, ScriptedExecutor()) as engine:
        yield engine


JUMPS = (
    (5 * YEAR_SECONDS,),
    (-5 * YEAR_SECONDS,),
    (5 * YEAR_SECONDS, -9 * YEAR_SECONDS, 4 * YEAR_SECONDS),
    (-5 * YEAR_SECONDS, 9 * YEAR_SECONDS, -4 * YEAR_SECONDS),
)


@pytest.mark.parametrize("jumps", JUMPS, ids=str)
def test_a_clock_that_jumps_ends_no_work_and_no_session(engine: Engine, jumps: Sequence[float]) -> None:
    """In the middle of a job, with what is done now and then after each jump; a job after it ends, too."""
    session_id, idle_session_id = engine.ready(), engine.session()
    first = engine.finished(session_id)
    engine.prepare(session_id, "another")
    gate = Gate()
    engine.executor.will(AnalyzeTask, gate)
    accepted = engine.process(session_id, "another")
    gate.wait()
    for seconds in jumps:
        engine.clock.jump(seconds)
        engine.housekeeping.tidy()
        assert engine.is_open(session_id)
        assert engine.is_open(idle_session_id), "no time went by, and it was closed"
    for _ in range(MINUTES_NOT_IDLE):
        engine.clock.advance(60.0)
        engine.housekeeping.tidy()
    assert engine.is_open(idle_session_id), f"idle for {MINUTES_NOT_IDLE} minutes, and it was closed"
    gate.open()
    second = engine.end_of(accepted)
    engine.prepare(session_id, "third")
    third = engine.finished(session_id, "third")
    assert [EventKind.PROCESS_DONE] * 3 == [event.kind for event in (first, second, third)]
    kept = [event.sequence for event in engine.events()]  # the first may have expired by then
    assert [1, 2, 3][-len(kept) :] == kept
    assert 2 <= len(kept)
    assert [VideoState.COMPLETED] * 3 == [engine.state(name) for name in ("v", "another", "third")]
