"""Rolling restarts under load: one process after another has the data directory, here or at another address, and no client fails.

Clients know both addresses. A successor at the other one is started beside the process that is to stop, as supervisors do: it is
refused until the data directory is free, and tried again.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from media_factory import shrink_clip
from service_harness import PATIENCE_SECONDS, USER, Server, address_to_keep
from soaking import SOAKING
from videoprocess_client import Client, RetryPolicy, stream, uploaded

pytestmark = pytest.mark.slow

RESTARTS = 20 if SOAKING else 3
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "2")
GRACE_SECONDS = 2.0
#: what a stop may take on top of its grace, on a machine that is busy
MARGIN_SECONDS = 8.0
EXIT_CANNOT_START = 3
PATIENT = RetryPolicy(patience_seconds=PATIENCE_SECONDS, first_contact_seconds=PATIENCE_SECONDS)
UPLOAD_BYTES = 24 << 20
#: so that restarts fall into uploads, and their grace is too short
SECONDS_OF_A_READ = 0.35
#: between two control calls of a client
PAUSE_SECONDS = 0.02
ENHANCING_CLIENTS = 2


class SlowFile(io.BytesIO):
    """A file on a slow disk."""

    name = "slow.bin"

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(SECONDS_OF_A_READ)
        return super().read(size)


# -- the service, one process after another


class Successor(Server):
    """One of several processes that have a data directory in turn; each tells its own address."""

    def __init__(self, data_dir: Path, address: str, *flags: str) -> None:
        super().__init__(data_dir, *flags, "--listen", address)
        self.listens_on = address
        self._address_file = data_dir.parent / f"{address}.address"


@dataclass
class Rolling:
    """Two servers of one data directory, of which one runs."""

    servers: list[Successor]
    #: starts that were refused because the other one had the data directory
    refused: int = 0

    @property
    def target(self) -> str:
        return f"ipv4:{','.join(server.listens_on for server in self.servers)}"

    def restart(self) -> None:
        """Stop it, and start it where it was."""
        running = self.servers[0]
        _assert_in_time(running.stop)
        running.start()

    def hand_over(self) -> None:
        """Start the other one beside it, stop it, and start the other one again until it serves."""
        leaving, coming = self.servers
        assert not self._starts(coming)
        leaving.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS + MARGIN_SECONDS
        while not self._starts(coming):
            assert time.monotonic() < deadline
        _assert_in_time(leaving.wait)
        self.servers.reverse()

    def _starts(self, server: Server) -> bool:
        """Whether it serves; False: it was refused."""
        try:
            server.start()
        except AssertionError:
            assert server.exit_code == EXIT_CANNOT_START
            self.refused += 1
            return False
        return True


def _assert_in_time(stop: Callable[[], int]) -> None:
    begin = time.monotonic()
    assert stop() == 0
    assert time.monotonic() - begin < GRACE_SECONDS + MARGIN_SECONDS


@asynccontextmanager
async def _rolling(folder: Path) -> AsyncIterator[Rolling]:
    flags = (*FLAGS, "--shutdown-grace-seconds", str(GRACE_SECONDS))
    first, second = (Successor(folder / "data", address_to_keep(), *flags) for _ in range(2))
    with first:
        try:
            yield Rolling([first, second])
        finally:
            if second.running and second.exit_code is None:
                second.kill()


# -- clients


@dataclass
class Load:
    """What all clients do until they are told to end, and what came of it."""

    target: str
    folder: Path
    clip: Path
    #: of what is made of the clip undisturbed
    sha256: str
    artifact_id: str
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    #: whole uses of each kind
    done: Counter[str] = field(default_factory=Counter)
    #: calls of each kind that were made again
    healed: Counter[str] = field(default_factory=Counter)

    async def run(self, kind: str, number: int) -> None:
        """Be one client of a kind."""

        def on_retry(_: Exception) -> None:
            self.healed[kind] += 1

        async with Client(self.target, user_id=USER, retry=PATIENT, on_retry=on_retry) as client:
            while not self.ending.is_set():
                await KINDS[kind](self, client, f"{kind}-{number}")
                self.done[kind] += 1

    async def enhance(self, client: Client, name: str) -> None:
        result = await client.enhance(self.clip, self.folder / f"{name}.mp4")
        assert result.artifact.sha256 == self.sha256
        assert _sha256(result.output) == self.sha256
        result.output.unlink()

    async def upload(self, client: Client, _: str) -> None:
        data = os.urandom(UPLOAD_BYTES)
        upload = await client.upload(SlowFile(data))
        assert upload.sha256 == hashlib.sha256(data).hexdigest()

    async def download(self, client: Client, name: str) -> None:
        path = self.folder / f"{name}.mp4"
        await client.download(self.artifact_id, path, overwrite=True)
        assert _sha256(path) == self.sha256

    async def control(self, client: Client, _: str) -> None:
        """Calls that a camera app makes, in a session and without."""
        async with client.session() as session:
            calls: tuple[Callable[[], Awaitable[object]], ...] = (
                client.capabilities,
                partial(client.get_video, "undisturbed"),
                partial(session.create_streams, [stream(1), stream(2)]),
                partial(session.release_streams, [2]),
                session.commit_streams,
                partial(session.prepare, "undisturbed"),
                session.interrupt,
                session.reset,
            )
            for call in calls:
                await call()
                await asyncio.sleep(PAUSE_SECONDS)
            assert "undisturbed" in [video.video_id async for video in client.list_videos()]
            assert "undisturbed" not in [video_id async for video_id in session.get_pending()]


KINDS: Mapping[str, Callable[[Load, Client, str], Awaitable[None]]] = {
    "enhance": Load.enhance,
    "upload": Load.upload,
    "download": Load.download,
    "control": Load.control,
}
CLIENTS = Counter({"enhance": ENHANCING_CLIENTS, "upload": 1, "download": 1, "control": 2})


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


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_no_client_fails_while_one_process_follows_another(tmp_path: Path, clips: Path) -> None:
    clip = tmp_path / "dog.mp4"
    shrink_clip(clips / "dog_720p30_10s.mp4", clip, width=320, height=180, gop=15)
    async with AsyncExitStack() as stack:
        rolling = await stack.enter_async_context(_rolling(tmp_path))
        client = await stack.enter_async_context(Client(rolling.target, user_id=USER, retry=PATIENT))
        load = await _undisturbed(client, rolling.target, tmp_path, clip)
        heard = await stack.enter_async_context(_hearing(client))
        async with asyncio.timeout(PATIENCE_SECONDS * RESTARTS), asyncio.TaskGroup() as tasks:
            for kind, clients in CLIENTS.items():
                for number in range(clients):
                    tasks.create_task(load.run(kind, number))
            for restart in range(RESTARTS):
                await _until(partial(_works, client, Counter(load.done), load))
                await asyncio.to_thread(rolling.hand_over if restart % 2 == 0 else rolling.restart)
            load.ending.set()
        await _heard_to_the_end(client, heard)
    told = {"restarts": RESTARTS, "refused_starts": rolling.refused}
    told |= {f"{kind}_done": load.done[kind] for kind in KINDS}
    told |= {f"{kind}_calls_healed": load.healed[kind] for kind in KINDS}
    for name, amount in told.items():
        print(f"count {name} = {amount}")
    assert all(load.done[kind] >= CLIENTS[kind] for kind in KINDS)
    assert load.healed.total() >= RESTARTS
    assert rolling.refused >= RESTARTS // 2


async def _undisturbed(client: Client, target: str, folder: Path, clip: Path) -> Load:
    upload = await client.upload(clip)
    async with client.session() as session:
        await session.prepare("undisturbed", uploaded(upload.upload_id))
        await session.create_streams([stream(1)])
        await session.commit_streams()
        artifact = (await (await session.process("undisturbed")).wait()).video_artifact
    assert artifact is not None
    return Load(target, folder, clip, artifact.sha256, artifact.artifact_id)


async def _works(client: Client, before: Counter[str], load: Load) -> bool:
    """Whether control calls went through since, and there is a job in the middle of its segments."""
    if load.done["control"] - before["control"] < CLIENTS["control"]:
        return False
    return any([video.progress.segments_done >= 1 async for video in client.list_videos(prefix="dog-")])


async def _heard_to_the_end(client: Client, heard: list[int]) -> None:
    """Each number once and in order, up to that of a job that ends now."""
    marker = await (await client.open_session()).process("unknown")
    newest = marker.event_sequence + 1

    async def is_heard() -> bool:
        return newest in heard

    await _until(is_heard)
    assert heard == list(range(1, newest + 1))
