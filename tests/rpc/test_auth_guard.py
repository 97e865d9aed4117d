"""Who is let in without asking, and how long a call outlives its credentials. Callers from elsewhere are real ones."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from credentials import AUDIENCE, ISSUER, Authority, SigningKey, identity, key_set, new_token, replace_file
from service_harness import Server, refusal_of
from videoprocess_server.engine.authorisation import Caller, UserSet
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.rpc.auth.authentication import Authentication
from videoprocess_server.rpc.auth.guard import Guard
from videoprocess_server.rpc.auth.identities import read_identities
from videoprocess_server.rpc.auth.web_tokens import LEEWAY_SECONDS, Expected, WebTokens
from videoprocess_server.rpc.caller import caller_of

LOCAL, REMOTE = "ipv4:127.0.0.1:1234", "ipv4:192.0.2.7:1234"
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
OURS = "/videoprocess.v1.VideoCatalogService/GetVideo"
FOREIGN_NAME = "/grpc.health.v1.Health2/Check"


class Connection:
    """What gRPC tells of a call."""

    def __init__(self, peer: str, *authorizations: str, certificate: bytes = b"") -> None:
        self._peer = peer
        self._metadata = [("user-agent", "test"), *(("authorization", value) for value in authorizations)]
        self._certificate = certificate

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> Any:
        return self._metadata

    def auth_context(self) -> Mapping[str, Any]:
        return {"x509_pem_cert": [self._certificate]} if self._certificate else {}


TOKEN = new_token()
AUTHORITY = Authority()
KEY = SigningKey.make("k")


@pytest.fixture(name="token_file")
def _token_file(tmp_path: Path) -> Path:
    return replace_file(tmp_path / "tokens.toml", identity("alice", [1], [TOKEN], ["alice.example"]))


@pytest.fixture(name="asking")
def _asking(tmp_path: Path, token_file: Path) -> Authentication:
    jwks = replace_file(tmp_path / "jwks.json", key_set(KEY))
    return Authentication(
        read_identities(token_file), WebTokens(jwks, Expected(ISSUER, AUDIENCE, "user_ids")), time.time
    )


def _reason(authentication: Authentication, method: str, connection: Connection) -> str:
    try:
        authentication.caller(method, connection)
    except VideoProcessError as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    ("method", "peer", "asks", "reason"),
    [
        (HEALTH, REMOTE, True, ""),
        (HEALTH, REMOTE, False, ""),
        (REFLECTION, LOCAL, True, ""),
        (REFLECTION, "unix:", True, ""),
        (REFLECTION, REMOTE, True, "NO_CREDENTIALS"),
        (REFLECTION, REMOTE, False, "NO_CREDENTIALS"),
        (REFLECTION, "ipv6:[::ffff:192.0.2.7]:1", False, "NO_CREDENTIALS"),
        (OURS, LOCAL, True, "NO_CREDENTIALS"),
        (OURS, "unix:", True, "NO_CREDENTIALS"),
        (OURS, REMOTE, True, "NO_CREDENTIALS"),
        (OURS, LOCAL, False, ""),
        (FOREIGN_NAME, REMOTE, True, "NO_CREDENTIALS"),
    ],
)
def test_who_is_let_in_without_credentials(
    asking: Authentication, method: str, peer: str, asks: bool, reason: str
) -> None:
    authentication = asking if asks else Authentication(None, None, time.time)
    assert reason == _reason(authentication, method, Connection(peer))


@pytest.mark.parametrize("method", [REFLECTION, OURS])
def test_credentials_let_in_from_anywhere(asking: Authentication, method: str) -> None:
    caller = asking.caller(method, Connection(REMOTE, f"Bearer {TOKEN}"))
    assert Caller(peer=REMOTE, identity="alice", users=UserSet(frozenset({1}))) == caller
    assert "bob" == asking.caller(method, Connection(REMOTE, f"bearer  {KEY.token('bob', [2])} ")).identity


@pytest.mark.parametrize(
    "authorizations",
    [
        ("",),
        (TOKEN,),
        ("Bearer",),
        ("Bearer ",),
        (f"Basic {TOKEN}",),
        (f"Bearer{TOKEN}",),
        (f"Bearer {TOKEN}x",),
        (f"Bearer {TOKEN}", f"Bearer {TOKEN}"),
        (f"Bearer {TOKEN} {TOKEN}",),
    ],
)
def test_what_is_no_bearer_token_is_refused_and_not_passed_over(
    asking: Authentication, authorizations: tuple[str, ...]
) -> None:
    certificate = AUTHORITY.issue("alice.example").chain
    connection = Connection(LOCAL, *authorizations, certificate=certificate)
    assert "BAD_CREDENTIALS" == _reason(asking, OURS, connection)


def test_a_certificate_counts_where_no_token_is_sent_and_while_it_lasts(asking: Authentication) -> None:
    certificate = AUTHORITY.issue("alice.example")
    caller = asking.caller(OURS, Connection(REMOTE, certificate=certificate.chain))
    assert ("alice", True) == (caller.identity, caller.expire_time is not None)
    by_token = Connection(REMOTE, f"Bearer {KEY.token('bob', [2])}", certificate=certificate.chain)
    assert "bob" == asking.caller(OURS, by_token).identity
    unknown = Connection(REMOTE, certificate=AUTHORITY.issue("who.example").chain)
    assert "NO_CREDENTIALS" == _reason(asking, OURS, unknown)


def test_a_connection_does_not_outlive_its_certificate(token_file: Path) -> None:
    later = Authentication(read_identities(token_file), None, lambda: time.time() + 2 * 24 * 3600)
    connection = Connection(REMOTE, certificate=AUTHORITY.issue("alice.example").chain)
    assert "CREDENTIALS_EXPIRED" == _reason(later, OURS, connection)


async def _call(guard: Guard, connection: Any) -> Caller:
    """A call that takes its time."""
    async with guard.entered(OURS, connection):
        caller = caller_of(connection)
        await asyncio.sleep(30)
        return caller


async def test_a_call_ends_when_its_token_expires(asking: Authentication) -> None:
    guard = Guard(asking, time.time)
    token = KEY.token("bob", [2], lasts_seconds=-LEEWAY_SECONDS + 1)
    begin = time.monotonic()
    with pytest.raises(VideoProcessError) as caught:
        await _call(guard, Connection(REMOTE, f"Bearer {token}"))
    assert "CREDENTIALS_EXPIRED" == caught.value.reason
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (identity("bob", [1], [new_token()]), "BAD_CREDENTIALS"),
        (identity("alice", [2], [TOKEN]), "CREDENTIALS_EXPIRED"),
        (identity("bob", [1], [TOKEN]), "CREDENTIALS_EXPIRED"),
    ],
    ids=["the token is gone", "other users", "another owner"],
)
async def test_a_call_ends_when_its_token_is_taken_back(
    asking: Authentication, token_file: Path, tables: str, reason: str
) -> None:
    call = asyncio.create_task(
        _call(Guard(asking, time.time, recheck_seconds=0.05), Connection(REMOTE, f"Bearer {TOKEN}"))
    )
    await asyncio.sleep(0.2)
    assert not call.done()
    replace_file(token_file, tables)
    with pytest.raises(VideoProcessError) as caught:
        await asyncio.wait_for(call, 10)
    assert reason == caught.value.reason


async def test_a_call_ends_when_its_credentials_cannot_be_looked_at(asking: Authentication) -> None:
    connection = Connection(REMOTE, f"Bearer {TOKEN}")
    call = asyncio.create_task(_call(Guard(asking, time.time, recheck_seconds=0.05), connection))
    await asyncio.sleep(0)
    connection.invocation_metadata = None  # type: ignore[assignment,method-assign]
    with pytest.raises(VideoProcessError) as caught:
        await asyncio.wait_for(call, 10)
    assert "INTERNAL" == caught.value.reason


async def test_a_callers_own_cancellation_and_time_out_stay_what_they_are(asking: Authentication) -> None:
    connection: Any = Connection(REMOTE, f"Bearer {TOKEN}")
    call = asyncio.create_task(_call(Guard(asking, time.time), connection))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(TimeoutError, match="mine"):
        async with Guard(asking, time.time).entered(OURS, connection):
            raise TimeoutError("mine")


def _address_of_this_machine() -> str:
    """One that is not loopback; "" where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return ""
        return str(probe.getsockname()[0])


@pytest.fixture(name="remote")
def _remote(tmp_path: Path) -> Iterator[Server]:
    """A server beyond loopback, as whoever trusts a whole network runs it."""
    host = _address_of_this_machine()
    if not host or host.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    with Server(
        tmp_path / "data", "--listen", f"{host}:0", "--insecure-listen-anywhere", "--workers", "1"
    ) as server:
        yield server


@pytest.mark.slow
async def test_reflection_is_closed_to_strangers_and_health_open(remote: Server) -> None:
    async with grpc.aio.insecure_channel(remote.address) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health_pb2.HealthCheckResponse.SERVING == health.status
        request = reflection_pb2.ServerReflectionRequest(list_services="*")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(call))
        assert "NO_CREDENTIALS" == refusal_of(caught.value).reason
