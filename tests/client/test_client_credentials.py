"""What the client shows of itself, to whom, and what it does when that is refused."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_service import FakeService, Refusal, State
from google.protobuf.message import Message
from typer import BadParameter

from client_command import Command
from credentials import LOCALHOST, Authority, replace_file
from videoprocess.v1 import file_transfer_pb2, video_process_callback_pb2, video_process_service_pb2
from videoprocess_client import Client, PermissionDenied, RetryPolicy, Tls, VideoProcessError, token_of_file
from videoprocess_client.cli.access_options import Access

QUICK = RetryPolicy(patience_seconds=5.0, initial_pause_seconds=0.01, max_pause_seconds=0.02)
CAPABILITIES = "/videoprocess.v1.VideoProcessService/GetCapabilities"


class Recorder(grpc.GenericRpcHandler):
    """A service that notes what calls carry, refuses tokens, and answers with next to nothing."""

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)
        self.seen: list[tuple[str, str]] = []

    def service(self, details: Any) -> Any:
        method = details.method.rpartition("/")[2]

        async def note(context: Any) -> None:
            token = dict(context.invocation_metadata()).get("authorization", "")
            self.seen.append((method, token))
            if token.removeprefix("Bearer ") in self.refused:
                expired = Refusal(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_EXPIRED", cam_ret_code=-7)
                await expired.abort(context)

        async def once(_: bytes, context: Any) -> bytes:
            await note(context)
            return b""

        async def after_all(messages: AsyncIterator[bytes], context: Any) -> bytes:
            await note(context)
            await context.send_initial_metadata(())
            last: Message | None = None
            async for data in messages:
                last = file_transfer_pb2.UploadRequest.FromString(data)
            assert isinstance(last, file_transfer_pb2.UploadRequest)
            done = file_transfer_pb2.UploadResponse(complete=True, sha256=last.finish.sha256)
            return done.SerializeToString()

        async def events(_: bytes, context: Any) -> AsyncIterator[bytes]:
            await note(context)
            event = video_process_callback_pb2.CallbackEvent(
                on_status_changed=video_process_callback_pb2.OnStatusChanged()
            )
            yield video_process_callback_pb2.SubscribeResponse(event=event).SerializeToString()

        if method == "Upload":
            return grpc.stream_unary_rpc_method_handler(after_all)
        if method == "Subscribe":
            return grpc.unary_stream_rpc_method_handler(events)
        return grpc.unary_unary_rpc_method_handler(once)


@pytest.fixture(name="serve")
async def _serve() -> AsyncIterator[Callable[..., Any]]:
    servers: list[grpc.aio.Server] = []

    async def serve(recorder: Recorder, credentials: grpc.ServerCredentials | None = None) -> str:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((recorder,))
        address = "127.0.0.1:0"
        port = (
            server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        )
        await server.start()
        servers.append(server)
        return f"localhost:{port}"

    yield serve
    for server in servers:
        await server.stop(None)


async def test_every_kind_of_call_carries_the_token(serve: Callable[..., Any], tmp_path: Path) -> None:
    recorder = Recorder()
    (tmp_path / "a").write_bytes(b"abc")
    async with Client(await serve(recorder), token="the-token", retry=QUICK) as client:
        await client.capabilities()
        await client.upload(tmp_path / "a")
        async for _ in client.subscribe(after_sequence=0):
            break
    assert {"GetCapabilities", "QueryUpload", "Upload", "Subscribe"} == {
        method for method, _ in recorder.seen
    }
    assert {"Bearer the-token"} == {token for _, token in recorder.seen}


@pytest.mark.parametrize(
    "target",
    [
        "192.0.2.1:1",
        "example.org:1",
        "127.0.0.1.example.org:1",
        "dns:///example.org:1",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
    ],
)
def test_no_token_travels_in_plain_text(target: str) -> None:
    with pytest.raises(ValueError, match="over TLS or to this machine only"):
        Client(target, token="t")


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:1",
        "[::1]:1",
        "localhost:1",
        "unix:/tmp/s",
        "dns:///localhost:1",
        "ipv4:127.0.0.1:1,127.0.0.1:2",
    ],
)
async def test_a_token_may_go_to_this_machine_and_over_tls(target: str) -> None:
    for made in (Client(target, token="t"), Client("grpcs://example.org:1", token="t")):
        await made.close()
    await Client("example.org:1", token="t", credentials=Tls()).close()


async def test_a_proxy_of_the_environment_gets_nothing_that_is_for_this_machine(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for variable in ("grpc_proxy", "https_proxy", "http_proxy"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for variable in ("no_grpc_proxy", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        recorder = Recorder()
        async with Client(await serve(recorder), token="t", retry=QUICK) as client:
            await client.capabilities()
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert ("GetCapabilities", "Bearer t") in recorder.seen


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "é", "a\r\nuser-agent: x"])
async def test_what_is_no_token_is_not_sent_and_not_told(serve: Callable[..., Any], token: str) -> None:
    recorder = Recorder()
    async with Client(await serve(recorder), token=token, retry=QUICK) as client:
        with pytest.raises(
            VideoProcessError, match="NO_TOKEN: The token is empty, or has characters"
        ) as caught:
            await client.capabilities()
    assert not token or token not in str(caught.value)
    assert [] == recorder.seen


async def test_a_token_that_is_renewed_meanwhile_heals_the_call(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    recorder = Recorder("old")
    path = replace_file(tmp_path / "token", "old\n")
    tokens = iter(["old", "old", "new", "new", "new"])
    async with Client(await serve(recorder), token=lambda: next(tokens), retry=QUICK) as client:
        await client.capabilities()
    assert ["Bearer old", "Bearer new"] == [token for _, token in recorder.seen]
    async with Client(await serve(recorder), token=token_of_file(path), retry=QUICK) as client:
        with pytest.raises(PermissionDenied, match="CREDENTIALS_EXPIRED"):
            await client.capabilities()
        replace_file(path, "new")
        await client.capabilities()


async def test_a_token_that_stays_the_same_is_tried_no_more_than_twice(serve: Callable[..., Any]) -> None:
    recorder = Recorder("old")
    async with Client(await serve(recorder), token=lambda: "old", retry=QUICK) as client:
        with pytest.raises(PermissionDenied, match="CREDENTIALS_EXPIRED"):
            await client.capabilities()
    assert 2 == len(recorder.seen)
    recorder.seen.clear()
    async with Client(await serve(recorder), token="old", retry=QUICK) as client:
        with pytest.raises(PermissionDenied):
            await client.capabilities()
    assert 1 == len(recorder.seen)


async def test_tls_checks_the_service_and_shows_the_clients_certificate(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    authority, recorder = Authority(), Recorder()
    server = authority.issue("server", LOCALHOST)
    pairs = [(server.key, server.chain)]
    target = await serve(
        recorder, grpc.ssl_server_credentials(pairs, authority.pem, require_client_auth=True)
    )
    ca = replace_file(tmp_path / "ca.crt", authority.pem, 0o644)
    mine = Tls(ca, *authority.issue("me").write(tmp_path, "me"))
    async with Client(f"grpcs://{target}", credentials=mine, token="t", retry=QUICK) as client:
        assert await client.capabilities() == video_process_service_pb2.GetCapabilitiesResponse()
    for credentials in (Tls(ca), Tls(replace_file(tmp_path / "other.crt", Authority().pem, 0o644))):
        async with grpc.aio.secure_channel(target, credentials.channel_credentials()) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(CAPABILITIES)(b"", timeout=5)
        assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
    assert 1 == len(recorder.seen)
    with pytest.raises(ValueError, match="go together"):
        Client(target, credentials=Tls(ca, certificate=ca))
    with pytest.raises(FileNotFoundError):
        Client(target, credentials=Tls(tmp_path / "absent"))


@pytest.mark.slow
async def test_the_command_takes_a_token_from_a_file_or_the_environment_and_keeps_it_nowhere(
    fake: FakeService, state: State, command: Command, tmp_path: Path, state_home: Path
) -> None:
    path = replace_file(tmp_path / "token", "from-the-file\n")
    assert 0 == (await command("pending", "--token-file", str(path))).code
    command.environment["VIDEOPROCESS_TOKEN"] = "from-the-environment"
    ran = await command("prepare", "v", "in.mp4", "--json")
    assert 0 == ran.code
    kept = (state_home / "videoprocess" / "sessions.json").read_text()
    assert "session_id" in kept
    assert "from-the" not in ran.out + ran.err + kept


def test_the_command_refuses_what_would_give_a_token_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = replace_file(tmp_path / "token", "t")
    with pytest.raises(BadParameter, match="over TLS, or to this machine, only"):
        Access(token_file=path).check("192.0.2.1:1")
    Access(token_file=path).check("127.0.0.1:1")
    Access(token_file=path, ca=path).check("192.0.2.1:1")
    Access(token_file=path).check("grpcs://192.0.2.1:1")
    with pytest.raises(BadParameter, match="--cert and --key go together"):
        Access(cert=path).check("127.0.0.1:1")
    monkeypatch.setenv("VIDEOPROCESS_TOKEN", "t")
    with pytest.raises(BadParameter, match="over TLS"):
        Access().check("192.0.2.1:1")
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="chmod 600"):
        token_of_file(path)()
