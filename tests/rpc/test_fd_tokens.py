"""The Unix socket that open files are passed over, and Prepare by their tokens, on a real service."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from credentials import SigningKey, identity, jwt_flags, key_set, new_token, replace_file
from service_harness import USER, Api, Server, connect, refused
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_pb2 as video
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session

CLIP = "rot90_iphone_3f.mov"
REQUEST = json.dumps({"user_id": USER, "file_name": "a.mov"}).encode() + b"\n"


@pytest.fixture(name="place")
def _place(server: Server) -> Path:
    return server.data_dir / "fd.sock"


@pytest.fixture(name="clip")
def _clip(clips: Path) -> Iterator[int]:
    fd = os.open(clips / CLIP, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture(name="open_folder")
def _open_folder() -> Iterator[Path]:
    """One that others of the system may enter: another run of pytest closes the folders of this one to them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def dial(place: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(place))  # with a time limit it would not wait for its turn
    connection.settimeout(20)
    return connection


def ask(place: Path, line: bytes, descriptors: Sequence[int] = ()) -> dict[str, Any]:
    with dial(place) as connection:
        with suppress(BrokenPipeError):
            socket.send_fds(connection, [line], descriptors)
        return answer_of(connection)


def answer_of(connection: socket.socket) -> dict[str, Any]:
    answer = b""
    while not answer.endswith(b"\n"):
        data = connection.recv(4096)
        assert data, answer
        answer += data
    return json.loads(answer)


def open_files(server: Server) -> int:
    """How many of the passed files the service has open."""
    count = 0
    for entry in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # others come and go
            link = str(entry.readlink())
            count += "memfd:passed" in link
    return count


async def until(come: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not come():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def prepare(api: Api, session_id: str, video_id: str, *tokens: str) -> Any:
    fds = [types.FileDescriptor(fd_token=token) for token in tokens]
    return api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id=video_id, fds=fds))


async def test_a_passed_file_is_prepared_once(api: Api, server: Server, place: Path, clip: int) -> None:
    answer = ask(place, REQUEST, [clip])
    assert answer["expires_in_seconds"] == 60
    session_id = await api.open_session()
    (source,) = (await prepare(api, session_id, "v", answer["fd_token"])).video.sources
    assert (source.kind, source.file_name) == (video.SOURCE_KIND_DESCRIPTOR, "a.mov")
    again = await refused(prepare(api, session_id, "w", answer["fd_token"]))
    assert (again.status, again.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_FD_TOKEN")
    other = json.dumps({"user_id": USER + 1}).encode() + b"\n"
    foreign = await refused(prepare(api, session_id, "w", ask(place, other, [clip])["fd_token"]))
    assert foreign == again  # nobody learns whether it is another's


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[" * 10_000 + b"\n",
        b'{"user_id": true}\n',
        b'{"user_id": 4294967296}\n',
        b'{"user_id": 1, "file_name": "../a"}\n',
        b'{"user_id": 1, "file_name": "a\\u0000"}\n',
        b'{"user_id": 1, "file_name": "%s"}\n' % (b"x" * 256),
        b"\xff\xfe\n",
        REQUEST + REQUEST,
        b"x" * 20_000,
        random.Random(5).randbytes(300).replace(b"\n", b"") + b"\n",
    ],
)
async def test_garbage_is_refused_and_what_came_along_closed(
    server: Server, place: Path, clip: int, line: bytes
) -> None:
    assert ask(place, line, [clip])["reason"] == "INVALID_FIELD"
    assert ask(place, REQUEST)["reason"] == "INVALID_FIELD"  # nothing came along


async def test_many_descriptors_at_once_are_all_closed(server: Server, place: Path) -> None:
    before = open_files(server)
    descriptors = [os.memfd_create("passed") for _ in range(200)]
    assert ask(place, REQUEST, descriptors)["reason"] == "INVALID_FIELD"
    with dial(place) as connection:  # one with each byte
        for letter in REQUEST[:5]:
            try:
                socket.send_fds(connection, [bytes([letter])], descriptors[:1])
            except BrokenPipeError:
                break
            await asyncio.sleep(0.02)
        assert answer_of(connection)["reason"] == "INVALID_FIELD"
    for descriptor in descriptors:
        os.close(descriptor)
    assert open_files(server) == before


@pytest.mark.slow
async def test_a_thousand_connections_that_say_nothing_keep_nobody_waiting(
    api: Api, server: Server, place: Path, clip: int
) -> None:
    with ExitStack() as crowd:
        first = crowd.enter_context(dial(place))
        for _ in range(999):
            crowd.enter_context(await asyncio.to_thread(dial, place))
        begin = time.monotonic()
        token = (await asyncio.to_thread(ask, place, REQUEST, [clip]))["fd_token"]
        assert time.monotonic() - begin < 2
        await prepare(api, await api.open_session(), "in the crowd", token)
        assert len(os.listdir(f"/proc/{server.pid}/fd")) < 600  # noqa: PTH208
        assert answer_of(first)["reason"] == "FD_SOCKET_BUSY"


@pytest.mark.slow
async def test_a_connection_that_says_nothing_is_ended(place: Path, clip: int) -> None:
    with dial(place) as silent:
        socket.send_fds(silent, [b"{"], [clip])
        begin = time.monotonic()
        assert (await asyncio.to_thread(answer_of, silent))["reason"] == "INVALID_FIELD"
        assert 4 < time.monotonic() - begin < 12


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user of the system")
def test_others_of_the_system_are_refused_unless_named(tmp_path: Path, open_folder: Path) -> None:
    """The kernel says who they are."""
    place = open_folder / "fd.sock"
    program = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "fd = os.memfd_create('x'); os.write(fd, b'x')\n"
        "try: socket.send_fds(s, [b'{\"user_id\": 100}\\n'], [fd])\n"
        "except BrokenPipeError: pass\n"
        "print(s.recv(4096).decode())"
    )

    def by(uid: int) -> dict[str, Any]:
        command = ["/usr/bin/env", "-i", sys.executable, "-c", program, str(place)]
        if not Path("/usr/bin/python3").exists():
            pytest.skip("no Python that another user may run")
        command[2] = "/usr/bin/python3"
        done = subprocess.run(command, user=uid, group=uid, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    flags = ("--fd-socket", str(place), "--fd-users", "4242", "--workers", "1")
    with Server(tmp_path / "data", *flags) as server:
        assert "fd_token" in by(4242)
        assert by(4243)["reason"] == "PEER_NOT_ALLOWED"
        assert server.stop() == 0
    assert not place.exists()


@pytest.mark.slow
async def test_a_service_killed_while_it_copies_keeps_nothing_of_it(tmp_path: Path, clip: int) -> None:
    with Server(tmp_path / "data", "--workers", "1", "--disk-reserve-bytes", "0") as server:
        large = os.memfd_create("passed")
        os.truncate(large, 3 << 30)  # sparse here, but not where it is copied to
        async with connect(server) as api:
            token = ask(server.data_dir / "fd.sock", REQUEST, [large])["fd_token"]
            call = asyncio.ensure_future(prepare(api, await api.open_session(), "v", token))
            work = server.data_dir / "work"
            await until(lambda: any(file.stat().st_size > 1 << 20 for file in work.iterdir()))
            server.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await call
        os.close(large)
        assert list(work.iterdir())
        server.start()  # its socket was left behind
        for kind in ("work", "uploads"):
            assert not list((server.data_dir / kind).iterdir())
        async with connect(server) as api:
            token = ask(server.data_dir / "fd.sock", REQUEST, [clip])["fd_token"]
            await prepare(api, await api.open_session(), "v", token)


@pytest.mark.slow
async def test_a_cancelled_prepare_stops_its_copy(server: Server, api: Api, place: Path) -> None:
    large = os.memfd_create("passed")
    os.truncate(large, 3 << 30)
    token = ask(place, REQUEST, [large])["fd_token"]
    os.close(large)
    call = prepare(api, await api.open_session(), "cancelled", token)
    work = server.data_dir / "work"
    await until(lambda: any(work.iterdir()))
    call.cancel()
    await until(lambda: not any(work.iterdir()) and open_files(server) == 0, seconds=5)


@pytest.mark.slow
async def test_with_credentials_a_file_is_its_callers(tmp_path: Path, clip: int) -> None:
    key, alice, alices_helper, bob = SigningKey.make("1"), new_token(), new_token(), new_token()
    tables = identity("alice", [USER], [alice]) + identity("helper", [USER], [alices_helper])
    tables += identity("bob", [USER + 1], [bob])
    token_file = replace_file(tmp_path / "tokens.toml", tables)
    jwks = replace_file(tmp_path / "jwks.json", key_set(key))
    flags = ("--token-file", str(token_file), *jwt_flags(jwks), "--workers", "1")
    with Server(tmp_path / "data", *flags) as server:
        place = server.data_dir / "fd.sock"

        def passed(token: str, user_id: int = USER) -> dict[str, Any]:
            request = {"user_id": user_id, "file_name": "a.mov", "token": token}
            return ask(place, json.dumps(request).encode() + b"\n", [clip])

        expired = key.token("carol", [USER], lasts_seconds=-3600)
        for token, reason in (
            ("", "NO_CREDENTIALS"),
            (new_token(), "BAD_CREDENTIALS"),
            (f"Bearer {alice}", "BAD_CREDENTIALS"),
            (expired, "CREDENTIALS_EXPIRED"),
            (bob, "USER_NOT_ALLOWED"),
        ):
            refusal = passed(token)
            assert refusal["reason"] == reason, token
            assert "fd_token" not in refusal
        async with grpc.aio.insecure_channel(server.address) as channel:

            def prepare_as(token: str, session_id: str, fd_token: str) -> Any:
                fds = [types.FileDescriptor(fd_token=fd_token)]
                request = session.PrepareRequest(session_id=session_id, video_id="v", fds=fds)
                return Api(channel).session.Prepare(request, metadata=_bearer(token))

            async def session_of(token: str, user_id: int) -> str:
                request = service.CreateVideoProcessSessionRequest(user_id=user_id)
                create = Api(channel).service.CreateVideoProcessSession
                return str((await create(request, metadata=_bearer(token))).session_id)

            alices, bobs = await session_of(alice, USER), await session_of(bob, USER + 1)
            fd_token = passed(alice)["fd_token"]
            never = await refused(prepare_as(alice, alices, "0" * 32))
            assert never.reason == "UNKNOWN_FD_TOKEN"
            assert await refused(prepare_as(alices_helper, alices, fd_token)) == never  # the same user's
            assert await refused(prepare_as(bob, bobs, fd_token)) == never
            await prepare_as(alice, alices, fd_token)  # nobody has used it up
            carols = key.token("carol", [USER])
            await prepare_as(carols, alices, passed(carols)["fd_token"])
        log = server.log_path.read_text()
        assert not [token for token in (alice, bob, carols, expired) if token in log]


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
