"""The programs of examples/ against a real service that is killed under them."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest

from cutting_proxy import cutting_proxy
from example_programs import EXAMPLES, ROOT, Example
from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, USER, Server, address_to_keep
from videoprocess_client import Client, StreamIntent, stream, uploaded

pytestmark = pytest.mark.slow

FLAGS = ("--segment-seconds", "5", "--longest-gop-seconds", "10", "--workers", "1")
#: pictures far apart in time, so that the sound makes upload and result large
PICTURES, TICKS_OF_A_PICTURE = 120, 44
#: of the upload, before the service is killed
BYTES_BEFORE_THE_CUT = 8 << 20
SEGMENTS_BEFORE_THE_KILL = 2
#: of the result
LEAST_BYTES_BEFORE_THE_KILL = 1
#: OpenHarmony's serialised metadata with one tag, the zoom ratio (a float): what a camera app has in its hands
ZOOM = struct.pack("<3I4If", 1, 10, 104, 0, 0x10050001, 3, 1, 2.0)
#: MediaStreamType VIDEO and MAKER → what OpenHarmony's framework asks for
INTENTS = {0: StreamIntent.VIDEO, 2: StreamIntent.CUSTOM}


@pytest.fixture(name="example", params=EXAMPLES, ids=lambda example: example.name)
def _example(request: pytest.FixtureRequest) -> Example:
    example: Example = request.param
    if missing := example.missing():
        pytest.skip(missing)
    example.build()
    return example


@pytest.fixture(name="clip", scope="module")
def _clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "long.mov"
    times = range(0, PICTURES * TICKS_OF_A_PICTURE, TICKS_OF_A_PICTURE)
    make_clip(
        path, pts=times, time_base=Fraction(1, 30), width=384, height=224, audio="pcm_s16le", noise_sigma=4
    )
    return path


@pytest.fixture(name="expected_sha256", scope="module")
def _expected_sha256(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> str:
    """What the Python client gets of an undisturbed service, for the same streams and settings."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with Server(folder / "data", *FLAGS) as server:
        return asyncio.run(_made(server.address, clip, folder / "result.mov"))


async def _made(target: str, clip: Path, result: Path) -> str:
    async with Client(target, user_id=USER) as client, client.session() as session:
        with clip.open("rb") as file:
            upload = await client.upload(file)
        prepared = await session.prepare("python", uploaded(upload.upload_id))
        asked = []
        for track in prepared.stream_descs:
            if track.type in INTENTS:
                info = stream(track.stream_id, INTENTS[track.type], width=track.width, height=track.height)
                info.v1_0.format, info.v1_0.dataspace = track.pixel_format, track.dataspace
                asked.append(info)
        await session.create_streams(asked)
        await session.commit_streams(ZOOM)
        made = await (await session.process("python")).wait()
        assert made.video_artifact is not None
        await client.download(made.video_artifact.artifact_id, result)
    return made.video_artifact.sha256


@dataclass
class Running:
    """A program that runs: what it has said so far."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())

    def numbers(self, pattern: str) -> list[int]:
        """What it said in place of a group of digits."""
        return [int(found[1]) for line in self.lines if (found := re.search(pattern, line))]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; it must be before the program ends."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                assert self.process.returncode is None, "\n".join(self.lines)
                await asyncio.sleep(0.001)


@asynccontextmanager
async def _running(*command: str | Path) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    running = Running(process)
    listening = asyncio.create_task(running.listen())
    try:
        yield running
        async with asyncio.timeout(PATIENCE_SECONDS):
            await listening
            await process.wait()
    finally:
        listening.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _kill_and_start(server: Server) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


async def test_it_gets_the_python_clients_result_though_the_service_is_killed_under_it(
    tmp_path: Path, clip: Path, expected_sha256: str, example: Example
) -> None:
    """kill -9 in the middle of the upload, of the enhancement and of the download."""
    result, settings = tmp_path / "result.mov", tmp_path / "settings.bin"
    settings.write_bytes(ZOOM)
    part = result.with_name("result.mov.part")

    def is_fetching() -> bool:
        return part.exists() and part.stat().st_size >= LEAST_BYTES_BEFORE_THE_KILL

    flags = (*FLAGS, "--listen", address_to_keep())
    with Server(tmp_path / "data", *flags) as server:
        async with cutting_proxy(lambda: server.address) as proxy:
            proxy.cut_after(BYTES_BEFORE_THE_CUT)
            async with _running(example.program, proxy.target, str(USER), clip, result, settings) as program:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await proxy.cut()
                await _kill_and_start(server)
                proxy.mend()
                await program.until(
                    lambda: max(program.numbers(r"segments (\d+) of"), default=0) >= SEGMENTS_BEFORE_THE_KILL
                )
                assert (
                    program.numbers(r"segments (\d+) of")[-1] < program.numbers(r"segments \d+ of (\d+)")[-1]
                )
                await _kill_and_start(server)
                await program.until(is_fetching)
                program.process.send_signal(signal.SIGSTOP)
                fetched = part.stat().st_size
                await _kill_and_start(server)
                program.process.send_signal(signal.SIGCONT)
    said = "\n".join(program.lines)
    print(
        f"{example.name}: {fetched} of {result.stat().st_size if result.exists() else 0} bytes fetched\n{said}"
    )
    assert program.process.returncode == 0, said
    assert expected_sha256 == hashlib.sha256(result.read_bytes()).hexdigest()
    assert f"sha256 {expected_sha256}" in program.lines[-1]
    assert 0 < max(program.numbers(r"upload goes on at (\d+)")) <= BYTES_BEFORE_THE_CUT
    assert 0 < fetched <= max(program.numbers(r"download goes on at (\d+)")) < result.stat().st_size
    assert said.count("trying again: ") >= 3


def test_it_tells_the_services_reason(tmp_path: Path, server: Server, example: Example) -> None:
    source = tmp_path / "poem.mp4"
    source.write_text("no video at all\n" * 1000)
    command = (example.program, server.address, str(USER), source, tmp_path / "result.mp4")
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 1
    assert "failed: NOT_A_VIDEO (CamRetCode -3): " in done.stderr
    assert [source] == list(tmp_path.iterdir())


def test_a_camera_apps_structures_are_converted_field_by_field() -> None:
    cpp = next(example for example in EXAMPLES if example.name == "cpp")
    if missing := cpp.missing():
        pytest.skip(missing)
    program = cpp.build().with_name("convert_test")
    done = subprocess.run((program,), capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr


def test_the_page_says_how_they_are_built() -> None:
    page = (ROOT / "examples" / "README.md").read_text()
    assert all(example.needs in page for example in EXAMPLES)
