"""The command as a real process: how it starts, what it says when it cannot, how it stops."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from service_harness import Server, connect
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import video_process_callback_pb2 as callback
from videoprocess_server.rpc.server import SERVICE_NAMES

COMMAND = [sys.executable, "-m", "videoprocess_server.cli"]
PATIENCE_SECONDS = 60
GRACE_SECONDS = 40


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS)


def _cannot_start(*flags: str) -> str:
    """What `serve` says that cannot start: one line after what it logs."""
    ended = _run("serve", "--listen", "127.0.0.1:0", "--workers", "1", "--log-format", "json", *flags)
    assert ended.returncode == 3, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("videoprocess-server: ")]
    assert "Traceback" not in ended.stderr
    return line


def _logged(server: Server) -> list[str]:
    """The events of its log, in order."""
    return [json.loads(line)["event"] for line in server.log_path.read_text().splitlines()]


def _process(server: Server) -> subprocess.Popen[bytes]:
    process = server._process
    assert process is not None
    return process


@pytest.fixture(name="lone")
def _lone(tmp_path: Path) -> Iterator[Server]:
    """A service of one test's own, to be stopped."""
    with Server(tmp_path / "data", "--workers", "1") as server:
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_service_in_order(lone: Server, number: signal.Signals) -> None:
    process = _process(lone)
    process.send_signal(number)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert _logged(lone)[-2:] == ["stopping", "stopped"]


async def _read_to_its_end(stream: Any) -> None:
    """The status that says that the service stops comes first."""
    while await stream.read() is not grpc.aio.EOF:
        pass


@pytest.mark.slow
async def test_an_idle_subscriber_does_not_hold_up_the_stop(lone: Server) -> None:
    async with connect(lone) as api:
        stream = api.callback.Subscribe(callback.SubscribeRequest(user_id=1))
        await stream.read()
        _process(lone).send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await _read_to_its_end(stream)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await asyncio.to_thread(_process(lone).wait, PATIENCE_SECONDS) == 0


async def _held_up(server: Server) -> None:
    """Ask the service to stop while an upload is open, which it gives time to end."""
    async with connect(server) as api:
        upload = api.transfer.Upload()
        await upload.write(transfer.UploadRequest(header=transfer.UploadHeader(user_id=1)))
        await upload.write(transfer.UploadRequest(offset=0, data=b"more to come"))
        process = _process(server)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(_until_logged, server, "stopping")
        assert process.poll() is None
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, PATIENCE_SECONDS) == 128 + signal.SIGINT
        assert time.monotonic() - begin < GRACE_SECONDS / 2
        upload.cancel()


def _until_logged(server: Server, event: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while event not in _logged(server):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
async def test_a_second_signal_ends_the_service_at_once(tmp_path: Path) -> None:
    grace = ("--shutdown-grace-seconds", str(GRACE_SECONDS))
    with Server(tmp_path / "data", "--workers", "1", *grace) as server:
        await _held_up(server)
        assert "stopped" not in _logged(server)


@pytest.mark.slow
def test_after_being_ended_at_once_the_service_starts_again(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--workers", "1")
    server.start().kill()
    assert server.start().stop() == 0


# what it cannot start with


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        line = _cannot_start("--data-dir", str(tmp_path / "data"), "--listen", listen)
    assert f"cannot listen on {listen}: another program listens there" in line
    assert not (tmp_path / "data").exists()


def test_a_data_directory_in_use_is_told_in_one_line(lone: Server) -> None:
    line = _cannot_start("--data-dir", str(lone.data_dir))
    assert f"{lone.data_dir} is in use" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a_file", "a_file/below"])
def test_a_data_directory_that_is_none_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "a_file").write_bytes(b"")
    assert str(tmp_path / name) in _cannot_start("--data-dir", str(tmp_path / name))


@pytest.mark.slow
def test_a_data_directory_that_cannot_be_made_is_told_in_one_line() -> None:
    """Not even root makes a folder there."""
    assert "/proc/videoprocess" in _cannot_start("--data-dir", "/proc/videoprocess")


@pytest.mark.slow
def test_a_database_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "videoprocess.sqlite3").write_bytes(b"no database at all, but long enough to look at" * 100)
    assert "restore the data directory from a backup" in _cannot_start("--data-dir", str(tmp_path))


@pytest.mark.slow
def test_a_data_directory_of_a_newer_version_is_told_in_one_line_and_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "videoprocess.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA user_version = 1000")
    before = database.read_bytes()
    line = _cannot_start("--data-dir", str(tmp_path))
    assert "schema version 1000" in line
    assert "start the newer build again" in line
    assert database.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} <= {database.name, "lock"}


@pytest.mark.slow
def test_a_socket_at_which_a_service_listens_is_not_taken_from_it(tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/socket"
    with Server(tmp_path / "first", "--workers", "1", "--listen", listen) as first:
        line = _cannot_start("--data-dir", str(tmp_path / "second"), "--listen", listen)
        assert f"cannot listen on {listen}: another program listens there" in line
        with grpc.insecure_channel(first.address) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.slow
def test_a_wheel_without_an_encoder_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_WITHOUT_X265)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    line = _cannot_start("--data-dir", str(tmp_path / "data"))
    assert "lacks libx265 (H.265): install PyAV's own wheel" in line


#: what Python runs first of all, in the workers too
_WITHOUT_X265 = """
import av.codec

_all = av.codec.Codec

def codec(name, mode="r"):
    if name == "libx265":
        raise ValueError(name)
    return _all(name, mode)

av.codec.Codec = codec
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_of_settings_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    ended = _run("serve", "--data-dir", str(tmp_path / "data"), "--config", str(tmp_path / name))
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"videoprocess-server: {tmp_path / name}")
    assert line.endswith("name a file that can be read with --config")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("serve", "--no-such-flag"), "--no-such-flag"),
        (("serve", "--workers", "many"), "--workers"),
        (("no-such-command",), "no-such-command"),
    ],
)
def test_a_usage_error_exits_with_2(arguments: Sequence[str], named: str) -> None:
    ended = _run(*arguments)
    assert ended.returncode == 2
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_is_to_be_had_from_the_installed_command() -> None:
    command = Path(sys.executable).with_name("videoprocess-server")
    ended = subprocess.run([command, "serve", "--help"], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "--listen" in ended.stdout


# what every operator's tool asks


async def test_health_is_serving_for_the_whole_and_for_each_service(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", *SERVICE_NAMES):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_every_service(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        stream = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        answer = await stream.read()
        names = {service.name for service in answer.list_services_response.service}
        stream.cancel()
    assert names == {
        *SERVICE_NAMES,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


@pytest.mark.slow
async def test_callers_over_ipv6_loopback_are_local(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--workers", "1", "--listen", "[::1]:0")
    with server:
        assert server.address.startswith("[::1]:")
        async with connect(server) as api:
            assert await api.open_session()


@pytest.mark.slow
async def test_callers_over_a_unix_socket_are_local(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--workers", "1", "--listen", f"unix:{tmp_path}/socket")
    with server:
        async with connect(server) as api:
            assert await api.open_session()
