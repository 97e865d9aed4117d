"""TLS and client certificates, between the installed server and real connections."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from client_command import Command
from credentials import (
    AUDIENCE,
    ISSUER,
    LOCALHOST,
    Authority,
    Certificate,
    SigningKey,
    identity,
    jwt_flags,
    key_set,
    new_token,
    replace_file,
    signed_with_public_key,
    token_of_parts,
)
from service_harness import Api, Server, refused
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_process_callback_pb2 as callback
from videoprocess.v1 import video_process_service_pb2 as service

pytestmark = pytest.mark.slow
USER = 100
RSA = SigningKey.make("rsa", "RS256")


@dataclass(frozen=True)
class Guarded:
    """A server with TLS, and what its files are made of."""

    server: Server
    folder: Path
    authority: Authority
    client_authority: Authority
    token: str


def _guarded(folder: Path, *, mutual: bool) -> Iterator[Guarded]:
    authority, client_authority, token = Authority("service's"), Authority("clients'"), new_token()
    certificate, key = authority.issue("server one", LOCALHOST).write(folder, "server")
    tables = identity("alice", [USER], [token], ["alice.example"])
    token_file = replace_file(folder / "tokens.toml", tables)
    key_file = replace_file(folder / "jwks.json", key_set(SigningKey.make("first"), RSA))
    flags = ["--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(token_file)]
    flags += jwt_flags(key_file)
    if mutual:
        flags += ["--tls-client-ca", str(replace_file(folder / "clients.crt", client_authority.pem, 0o644))]
    with Server(folder / "data", *flags, "--workers", "1") as server:
        yield Guarded(server, folder, authority, client_authority, token)


@pytest.fixture(name="guarded", scope="module")
def _with_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    yield from _guarded(tmp_path_factory.mktemp("tls"), mutual=False)


@pytest.fixture(name="mutual", scope="module")
def _with_mutual_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    yield from _guarded(tmp_path_factory.mktemp("mutual"), mutual=True)


@asynccontextmanager
async def _connected(
    guarded: Guarded, certificate: Certificate | None = None, roots: bytes = b""
) -> AsyncIterator[Api]:
    """A connection of its own."""
    credentials = grpc.ssl_channel_credentials(
        roots or guarded.authority.pem,
        certificate.key if certificate else None,
        certificate.chain if certificate else None,
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(guarded.server.address, credentials, options=options) as channel:
        yield Api(channel)


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def _list(api: Api, token: str = "") -> None:
    request = catalog.ListVideosRequest(user_id=USER)
    await api.catalog.ListVideos(request, metadata=_bearer(token) if token else None, timeout=10)


async def _cannot_connect(api: Api) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _list(api, "any")
    assert grpc.StatusCode.UNAVAILABLE == caught.value.code()


def _shown_name(guarded: Guarded) -> str:
    """The common name of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cadata=guarded.authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    host, _, port = guarded.server.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    (name,) = x509.load_der_x509_certificate(shown).subject
    return str(name.value)


async def test_a_token_over_tls_lets_in_and_nothing_else_does(guarded: Guarded) -> None:
    async with _connected(guarded) as api:
        await _list(api, guarded.token)
        assert "NO_CREDENTIALS" == (await refused(_list(api))).reason
        assert "BAD_CREDENTIALS" == (await refused(_list(api, new_token()))).reason
    async with grpc.aio.insecure_channel(guarded.server.address) as channel:
        await _cannot_connect(Api(channel))
    async with _connected(guarded, roots=Authority().pem) as api:
        await _cannot_connect(api)


async def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on(guarded: Guarded) -> None:
    assert "server one" == await asyncio.to_thread(_shown_name, guarded)
    async with _connected(guarded) as api:
        request = callback.SubscribeRequest(user_id=USER)
        events = api.callback.Subscribe(request, metadata=_bearer(guarded.token))
        await anext(aiter(events))
        guarded.authority.issue("server two", LOCALHOST).write(guarded.folder, "server")
        assert "server two" == await asyncio.to_thread(_shown_name, guarded)
        await _list(api, guarded.token)
        assert not events.done()
        async with _connected(guarded) as another:
            await _list(another, guarded.token)


async def test_many_connections_while_certificates_change(guarded: Guarded) -> None:
    """Two at once have ended the process."""
    certificates = [guarded.authority.issue(f"server {number}", LOCALHOST) for number in range(5)]
    done, seen = threading.Event(), set()

    def connect() -> None:
        while not done.is_set():
            seen.add(_shown_name(guarded))

    with ThreadPoolExecutor(4) as threads:
        connecting = [threads.submit(connect) for _ in range(4)]
        for certificate in certificates:
            certificate.write(guarded.folder, "server")
            await asyncio.sleep(0.6)
        done.set()
    for ended in connecting:
        ended.result()
    assert len(seen) > 2


async def test_a_bad_certificate_changes_nothing_and_the_log_says_why(guarded: Guarded) -> None:
    before = await asyncio.to_thread(_shown_name, guarded)
    good = (guarded.folder / "server.crt").read_bytes(), (guarded.folder / "server.key").read_bytes()
    over = guarded.authority.issue("over", LOCALHOST, dt.timedelta(hours=-1))
    for certificate, problem in (
        (Certificate(b"rubbish", good[1]), "is not a certificate in PEM form"),
        (over, "expired at"),
        (Certificate(guarded.authority.issue("half").chain, good[1]), "is the key of another certificate"),
    ):
        certificate.write(guarded.folder, "server")
        assert before == await asyncio.to_thread(_shown_name, guarded)
        assert problem in guarded.server.log_path.read_text()
    (guarded.folder / "server.key").unlink()
    assert before == await asyncio.to_thread(_shown_name, guarded)
    Certificate(*good).write(guarded.folder, "server")
    guarded.authority.issue("server three", LOCALHOST).write(guarded.folder, "server")
    assert "server three" == await asyncio.to_thread(_shown_name, guarded)


async def _committed_bytes(api: Api, token: str, upload_id: str) -> int:
    query = transfer.QueryUploadRequest(user_id=USER, upload_id=upload_id)
    try:
        answer = await api.transfer.QueryUpload(query, metadata=_bearer(token))
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return 0
    return int(answer.committed_size_bytes)


async def test_a_token_that_is_taken_back_ends_what_goes_on_with_it(guarded: Guarded) -> None:
    token, token_file, upload_id = new_token(), guarded.folder / "tokens.toml", "a" * 32
    before = token_file.read_text()
    replace_file(token_file, before + identity("bob", [USER], [token]))
    header = transfer.UploadHeader(user_id=USER, upload_id=upload_id)
    async with _connected(guarded) as api:
        request = callback.SubscribeRequest(user_id=USER)
        events = api.callback.Subscribe(request, metadata=_bearer(token), timeout=60)
        await anext(aiter(events))
        upload = api.transfer.Upload(metadata=_bearer(token), timeout=60)
        await upload.write(transfer.UploadRequest(header=header, data=b"abc"))
        for _ in range(600):  # what is written may not have come there
            if await _committed_bytes(api, guarded.token, upload_id):
                break
            await asyncio.sleep(0.05)
        replace_file(token_file, before)
        begin = time.monotonic()
        for call in (anext(aiter(events)), upload):
            refusal = await refused(call)
            assert (grpc.StatusCode.UNAUTHENTICATED, "BAD_CREDENTIALS") == (refusal.status, refusal.reason)
        assert time.monotonic() - begin < 30
        assert 3 == await _committed_bytes(api, guarded.token, upload_id)


async def test_a_json_web_token_lets_in_and_a_forged_one_does_not(guarded: Guarded) -> None:
    claims = {"sub": "x", "user_ids": [USER], "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600}
    async with _connected(guarded) as api:
        await _list(api, RSA.token("carol", [USER]))
        assert "USER_NOT_ALLOWED" == (await refused(_list(api, RSA.token("carol", [USER + 1])))).reason
        assert "CREDENTIALS_EXPIRED" == (await refused(_list(api, RSA.token("carol", [USER], -3600)))).reason
        for forged in (
            token_of_parts({"alg": "none"}, claims),
            token_of_parts({"alg": "none", "kid": "rsa"}, claims),
            signed_with_public_key(RSA, claims),
            RSA.token("carol", [USER], aud="another"),
            RSA.token("carol", [USER], iss="https://another.example"),
            RSA.token("carol", [USER], exp=None),
            SigningKey.make("rsa", "RS256").token("carol", [USER]),
        ):
            assert "BAD_CREDENTIALS" == (await refused(_list(api, forged))).reason
        rotated = SigningKey.make("second")
        assert "BAD_CREDENTIALS" == (await refused(_list(api, rotated.token("carol", [USER])))).reason
        replace_file(guarded.folder / "jwks.json", key_set(rotated))
        await _list(api, rotated.token("carol", [USER]))
        assert "BAD_CREDENTIALS" == (await refused(_list(api, RSA.token("carol", [USER])))).reason


async def test_a_clients_certificate_says_who_calls(mutual: Guarded) -> None:
    alice = mutual.client_authority.issue("whatever", [x509.DNSName("alice.example")])
    async with _connected(mutual, alice) as api:
        await _list(api)
        other = service.GetCapabilitiesRequest(user_id=USER + 1)
        assert "USER_NOT_ALLOWED" == (await refused(api.service.GetCapabilities(other))).reason
    async with _connected(mutual, mutual.client_authority.issue("alice.example")) as api:
        await _list(api)
    async with _connected(mutual, mutual.client_authority.issue("who.example")) as api:
        assert "NO_CREDENTIALS" == (await refused(_list(api))).reason
        await _list(api, mutual.token)


async def test_nobody_connects_without_a_certificate_that_is_good_now(mutual: Guarded) -> None:
    over = mutual.client_authority.issue("alice.example", lifetime=dt.timedelta(hours=-1))
    foreign = Authority("clients'").issue("alice.example")
    for certificate in (None, over, foreign, mutual.authority.issue("alice.example")):
        async with _connected(mutual, certificate) as api:
            await _cannot_connect(api)


async def test_another_authority_counts_for_new_connections(mutual: Guarded) -> None:
    new = Authority("new clients'")
    async with _connected(mutual, new.issue("alice.example")) as api:
        await _cannot_connect(api)
    replace_file(mutual.folder / "clients.crt", new.pem, 0o644)
    async with _connected(mutual, new.issue("alice.example")) as api:
        await _list(api)
    async with _connected(mutual, mutual.client_authority.issue("alice.example")) as api:
        await _cannot_connect(api)


async def test_a_connection_ends_its_calls_with_the_clients_certificate(mutual: Guarded) -> None:
    replace_file(mutual.folder / "clients.crt", mutual.client_authority.pem, 0o644)
    short = mutual.client_authority.issue("alice.example", lifetime=dt.timedelta(seconds=4))
    async with _connected(mutual, short) as api:
        request = callback.SubscribeRequest(user_id=USER)
        events = api.callback.Subscribe(request, timeout=60)
        await anext(aiter(events))
        assert "CREDENTIALS_EXPIRED" == (await refused(anext(aiter(events)))).reason
        assert "CREDENTIALS_EXPIRED" == (await refused(_list(api))).reason


def test_a_file_that_is_no_good_is_told_in_one_line_with_exit_code_3(tmp_path: Path) -> None:
    """All the mistakes there can be: tests/rpc/test_auth_files.py."""
    _, key = Authority().issue("server", LOCALHOST).write(tmp_path, "server")
    certificate, _ = Authority().issue("server", LOCALHOST, dt.timedelta(hours=-1)).write(tmp_path, "server")
    command = [sys.executable, "-m", "videoprocess_server.cli", "serve", "--data-dir", str(tmp_path / "data")]
    command += ["--tls-cert", str(certificate), "--tls-key", str(key)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert 3 == ended.returncode
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"videoprocess-server: {certificate}: expired at ")
    assert not (tmp_path / "data").exists()


async def test_the_command_enhances_over_tls_with_a_token(
    guarded: Guarded, tmp_path: Path, clips: Path
) -> None:
    command = Command(
        f"grpcs://{guarded.server.address}", tmp_path, {"XDG_STATE_HOME": str(tmp_path / "state")}
    )
    ca = replace_file(tmp_path / "ca.crt", guarded.authority.pem, 0o644)
    token = replace_file(tmp_path / "token", guarded.token)
    enhance = ("enhance", str(clips / "rot90_iphone_3f.mov"), "-o", "out.mov", "--json", "--ca", str(ca))
    ran = await command(*enhance)
    assert (4, "NO_CREDENTIALS") == (ran.code, ran.json["error"]["reason"])
    ran = await command(*enhance, "--token-file", str(token), "--user", str(USER + 1))
    assert (4, "USER_NOT_ALLOWED") == (ran.code, ran.json["error"]["reason"])
    ran = await command(*enhance, "--token-file", str(token))
    assert 0 == ran.code, ran.err
    assert (tmp_path / "out.mov").exists()
    untrusting = await command("status", "--json", "--token-file", str(token))
    assert 3 == untrusting.code  # an authority that nobody knows
