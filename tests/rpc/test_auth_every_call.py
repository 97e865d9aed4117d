"""Every method that the server's reflection lists, called with ids of somebody else and with credentials that are no good.

The list is the server's own: a method that is new has no row in SAMPLES, and fails here until somebody has thought of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from credentials import SigningKey, identity, jwt_flags, key_set, new_token, replace_file
from service_harness import Api, Refusal, Server, refusal_of
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_process_callback_pb2 as callback
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session

OWNER, OTHER = 100, 200
CLIP = "rot90_iphone_3f.mov"
QUIET_SECONDS = 0.2  # a stream that says nothing for so long waits for something to happen
#: answers that differ from call to call for other reasons than whose things they tell of
VOLATILE = frozenset({"session_id", "job_id", "event_sequence", "Timestamp"})


@dataclass(frozen=True)
class Ids:
    """What requests can name."""

    user_id: int
    session_id: str
    video_id: str
    upload_id: str
    artifact_id: str


Sample = Callable[[Ids], Sequence[Message]]
_STREAM = types.StreamInfoV11(v1_0=types.StreamInfo(stream_id=1, intent=hdi.STREAM_INTENT_VIDEO))
_DATA = b"a few bytes"


def _one(kind: Any, *names: str, **more: Any) -> Sample:
    """A request with these ids."""
    return lambda ids: [kind(**{name: getattr(ids, name) for name in names}, **more)]


def _prepare(ids: Ids) -> Sequence[Message]:
    file = types.FileDescriptor(upload_id=ids.upload_id)
    return [session.PrepareRequest(session_id=ids.session_id, video_id=ids.video_id, fds=[file])]


def _watermark(ids: Ids) -> Sequence[Message]:
    setting = mode.ModeSetting(watermark=mode.Watermark(image=types.FileDescriptor(upload_id=ids.upload_id)))
    return [session.CommitStreamsRequest(session_id=ids.session_id, typed=setting)]


def _upload(ids: Ids) -> Sequence[Message]:
    header = transfer.UploadHeader(user_id=ids.user_id, upload_id=ids.upload_id)
    finish = transfer.UploadFinish(size_bytes=len(_DATA), sha256=hashlib.sha256(_DATA).hexdigest())
    return [
        transfer.UploadRequest(header=header, data=_DATA),
        transfer.UploadRequest(offset=len(_DATA), finish=finish),
    ]


def _upload_urls(ids: Ids) -> Sequence[Message]:
    header = transfer.UploadHeader(user_id=ids.user_id, upload_id=ids.upload_id, size_bytes=len(_DATA))
    return [transfer.GetUploadUrlsRequest(header=header)]


_SERVICE = "videoprocess.v1.VideoProcessService/"
_SESSION = "videoprocess.v1.VideoProcessSessionService/"
_FILES = "videoprocess.v1.FileTransferService/"
_CATALOG = "videoprocess.v1.VideoCatalogService/"

#: method -> a request that names things by all ids it can; in an order in which its owner can make all these calls
SAMPLES: Mapping[str, Sample] = {
    _SERVICE + "CreateVideoProcessSession": _one(service.CreateVideoProcessSessionRequest, "user_id"),
    _SERVICE + "GetCapabilities": _one(service.GetCapabilitiesRequest, "user_id"),
    _FILES + "QueryUpload": _one(transfer.QueryUploadRequest, "user_id", "upload_id"),
    _FILES + "Download": _one(transfer.DownloadRequest, "user_id", "artifact_id"),
    _FILES + "Upload": _upload,
    _FILES + "GetDownloadUrl": _one(transfer.GetDownloadUrlRequest, "user_id", "artifact_id"),
    _FILES + "GetUploadUrls": _upload_urls,
    _CATALOG + "GetVideo": _one(catalog.GetVideoRequest, "user_id", "video_id"),
    _CATALOG + "ListVideos": _one(catalog.ListVideosRequest, "user_id"),
    "videoprocess.v1.VideoProcessCallbackService/Subscribe": _one(
        callback.SubscribeRequest, "user_id", "session_id", after_sequence=0
    ),
    _SESSION + "GetPendingVideos": _one(session.GetPendingVideosRequest, "session_id"),
    _SESSION + "Prepare": _prepare,
    _SESSION + "CreateStreams": _one(session.CreateStreamsRequest, "session_id", stream_infos=[_STREAM]),
    _SESSION + "CommitStreams": _one(session.CommitStreamsRequest, "session_id", serialized=b""),
    _SESSION + "ReleaseStreams": _one(session.ReleaseStreamsRequest, "session_id", stream_infos=[_STREAM]),
    _SESSION + "ProcessVideo": _one(session.ProcessVideoRequest, "session_id", "video_id"),
    _SESSION + "Interrupt": lambda ids: [
        session.InterruptRequest(session_id=ids.session_id, video_ids=[ids.video_id])
    ],
    _SESSION + "Reset": _one(session.ResetRequest, "session_id"),
    _SESSION + "RemoveVideo": _one(session.RemoveVideoRequest, "session_id", "video_id", restorable=True),
    _CATALOG + "RestoreVideo": _one(catalog.RestoreVideoRequest, "user_id", "video_id"),
    _SERVICE + "CloseVideoProcessSession": _one(service.CloseVideoProcessSessionRequest, "session_id"),
}
#: other places where requests can name things
FURTHER: Sequence[tuple[str, Sample]] = (
    (_SESSION + "CreateStreams", SAMPLES[_SESSION + "CreateStreams"]),
    (_SESSION + "CommitStreams", _watermark),
)
#: methods that answer without credentials, and why
OPEN: Mapping[str, str] = {
    "grpc.health.v1.Health/Check": "probes have no credentials, and learn no more than whether calls are welcome",
    "grpc.health.v1.Health/List": "the same",
    "grpc.health.v1.Health/Watch": "the same",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "on loopback; see test_auth_guard.py",
}
#: methods that an owner is refused where blobs are files, as here; with S3 see tests/acceptance/test_s3_service.py
NEEDS_S3 = frozenset({_FILES + "GetDownloadUrl", _FILES + "GetUploadUrls"})
#: methods whose answer tells a foreign id from one that nobody has, and why that tells nothing
TELLS_FOREIGN: Mapping[str, str] = {
    _FILES
    + "Upload": "an id that nobody has begins an upload; ids are 128 random bits, so nobody guesses a foreign one"
}


@dataclass(frozen=True)
class Method:
    """A method as reflection describes it."""

    name: str
    request_streaming: bool
    response_streaming: bool
    request: type[Message]
    response: type[Message]


@dataclass(frozen=True)
class Outcome:
    """What a call brought."""

    refusal: Refusal | None
    answers: tuple[Message, ...] = ()


class World:
    """A server with two users, of whom one has everything; and the tokens."""

    def __init__(self, server: Server, key: SigningKey, owners_token: str, others_token: str) -> None:
        self.server = server
        self.owners_token = owners_token
        self.others_token = others_token
        self.expired_token = key.token("owner", [OWNER], lasts_seconds=-3600)


@pytest.fixture(name="world", scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory, media_root: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("guarded")
    key, owners_token, others_token = SigningKey.make("1"), new_token(), new_token()
    tables = identity("owner", [OWNER], [owners_token]) + identity("other", [OTHER], [others_token])
    token_file = replace_file(folder / "tokens.toml", tables)
    jwks = replace_file(folder / "jwks.json", key_set(key))
    flags = ("--token-file", str(token_file), *jwt_flags(jwks), "--workers", "1")
    with Server(folder / "data", *flags, "--shared-root", f"media={media_root}") as server:
        yield World(server, key, owners_token, others_token)


@pytest.fixture(name="channel")
async def _channel(world: World) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(world.server.address) as channel:
        yield channel


async def _methods(channel: grpc.aio.Channel) -> list[Method]:
    """All methods of all services that the server lists."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def ask(**request: str) -> Any:
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**request)]))
        return await anext(aiter(call))

    found = []
    for entry in (await ask(list_services="*")).list_services_response.service:
        files = (await ask(file_containing_symbol=entry.name)).file_descriptor_response.file_descriptor_proto
        for file in map(descriptor_pb2.FileDescriptorProto.FromString, files):
            for described in file.service:
                if f"{file.package}.{described.name}" == entry.name:
                    found += [_method(entry.name, method) for method in described.method]
    return found


def _method(service_name: str, method: descriptor_pb2.MethodDescriptorProto) -> Method:
    def message(name: str) -> type[Message]:
        return GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name.removeprefix(".")))

    return Method(
        f"{service_name}/{method.name}",
        method.client_streaming,
        method.server_streaming,
        message(method.input_type),
        message(method.output_type),
    )


async def _call(
    channel: grpc.aio.Channel, method: Method, requests: Sequence[Message], token: str | None
) -> Outcome:
    shapes = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    stub = shapes[method.request_streaming, method.response_streaming](
        f"/{method.name}",
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )
    metadata = () if token is None else _metadata(token)
    call = stub(iter(requests) if method.request_streaming else requests[0], metadata=metadata, timeout=30)
    answers: list[Message] = []
    try:
        if not method.response_streaming:
            return Outcome(None, (await call,))
        stream = aiter(call)
        while True:
            async with asyncio.timeout(QUIET_SECONDS):
                answers.append(await anext(stream))
    except (StopAsyncIteration, TimeoutError):
        return Outcome(None, tuple(answers))
    except grpc.aio.AioRpcError as error:
        assert not answers, f"{method.name}: refused after it had answered {answers}"
        return Outcome(refusal_of(error))
    finally:
        call.cancel()


async def _owned(world: World) -> Ids:
    """Everything that the owner can have."""
    async with grpc.aio.insecure_channel(world.server.address) as channel:
        api = Api(_WithToken(channel, world.owners_token))  # type: ignore[arg-type]
        clip = (Path(__file__).parents[1] / "clips" / CLIP).read_bytes()
        upload = await api.upload(clip)
        session_id = await api.open_session(OWNER)
        file = types.FileDescriptor(upload_id=upload.upload_id)
        await api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id="mine", fds=[file]))
        await api.commit_video(session_id)
        done = await api.terminal(await api.process(session_id, "mine"), OWNER)
        (artifact, *_) = done.on_process_done.report.artifacts
        await api.session.ReleaseStreams(
            session.ReleaseStreamsRequest(session_id=session_id, stream_infos=[_STREAM])
        )
        return Ids(OWNER, session_id, "mine", upload.upload_id, artifact.artifact_id)


class _WithToken:
    """A channel whose calls carry a token."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self._metadata = _metadata(token)

    def __getattr__(self, shape: str) -> Any:
        make = getattr(self._channel, shape)
        return lambda *a, **more: partial(make(*a, **more), metadata=self._metadata)


@pytest.fixture(name="mine", scope="module")
def _mine(world: World) -> Ids:
    return asyncio.run(_owned(world))


@pytest.fixture(name="methods")
async def _listed(channel: grpc.aio.Channel) -> Mapping[str, Method]:
    methods = {method.name: method for method in await _methods(channel)}
    assert methods.keys() - OPEN.keys() == SAMPLES.keys(), (
        "methods and samples differ: add what is new to SAMPLES"
    )
    return methods


async def _nothing(world: World, channel: grpc.aio.Channel) -> Ids:
    """A user with a session and nothing else; the other ids are nobody's."""
    create = Api(channel).service.CreateVideoProcessSession
    request = service.CreateVideoProcessSessionRequest(user_id=OTHER)
    answer = await create(request, metadata=_metadata(world.others_token))
    return Ids(OTHER, answer.session_id, "theirs", "b" * 32, "c" * 32)


@pytest.mark.parametrize(
    ("which_token", "reasons"),
    [
        ("none", {"NO_CREDENTIALS"}),
        ("wrong", {"BAD_CREDENTIALS"}),
        ("expired", {"CREDENTIALS_EXPIRED"}),
        ("another's", {"USER_NOT_ALLOWED", "SESSION_CLOSED"}),
    ],
)
async def test_no_method_tells_anything_of_a_user_to_whoever_has_not_their_credentials(
    world: World,
    channel: grpc.aio.Channel,
    methods: Mapping[str, Method],
    mine: Ids,
    which_token: str,
    reasons: set[str],
) -> None:
    tokens = {"wrong": new_token(), "expired": world.expired_token, "another's": world.others_token}
    statuses = {
        "USER_NOT_ALLOWED": grpc.StatusCode.PERMISSION_DENIED,
        "SESSION_CLOSED": grpc.StatusCode.FAILED_PRECONDITION,
    }
    for name, sample in SAMPLES.items():
        outcome = await _call(channel, methods[name], sample(mine), tokens.get(which_token))
        assert outcome.refusal is not None, f"{name} answers: {outcome.answers}"
        assert outcome.refusal.reason in reasons, f"{name}: {outcome.refusal}"
        expected = statuses.get(outcome.refusal.reason, grpc.StatusCode.UNAUTHENTICATED)
        assert expected == outcome.refusal.status, f"{name}: {outcome.refusal}"


async def test_what_another_user_has_looks_like_what_nobody_has(
    world: World, channel: grpc.aio.Channel, methods: Mapping[str, Method], mine: Ids
) -> None:
    other = await _nothing(world, channel)
    foreign = await _nothing(world, channel)
    foreign = replace(foreign, video_id=mine.video_id, upload_id=mine.upload_id, artifact_id=mine.artifact_id)
    for name, sample in [*SAMPLES.items(), *FURTHER]:
        if name == _SERVICE + "CloseVideoProcessSession":
            continue  # would take the session away from the methods after it
        of_foreign = await _call(channel, methods[name], sample(foreign), world.others_token)
        if name in TELLS_FOREIGN:
            assert of_foreign.refusal is not None, name
            continue
        of_nothing = await _call(channel, methods[name], sample(other), world.others_token)
        assert _told(of_nothing, other) == _told(of_foreign, foreign), name
    # the last one, a watermark: what is compared is what was meant
    assert of_foreign.refusal is not None
    assert "UNKNOWN_UPLOAD" == of_foreign.refusal.reason


async def test_another_users_session_looks_like_one_that_never_was(
    world: World, channel: grpc.aio.Channel, methods: Mapping[str, Method], mine: Ids
) -> None:
    other = await _nothing(world, channel)
    with_a_session = [name for name in SAMPLES if name.startswith(_SESSION)]
    for name in [*with_a_session, _SERVICE + "CloseVideoProcessSession"]:
        refusals = []
        for session_id in (mine.session_id, "d" * 32):
            requests = SAMPLES[name](replace(other, session_id=session_id))
            refusals.append((await _call(channel, methods[name], requests, world.others_token)).refusal)
        assert refusals[0] == refusals[1], name
        assert refusals[0] is not None, name
        assert "SESSION_CLOSED" == refusals[0].reason


async def test_the_owner_gets_an_answer_to_each_of_these_requests(
    world: World, channel: grpc.aio.Channel, methods: Mapping[str, Method], mine: Ids
) -> None:
    """The last test: it shows that the samples are good, and that nobody has taken anything away before."""
    for name, sample in SAMPLES.items():
        ids = replace(mine, upload_id="e" * 32) if name == _FILES + "Upload" else mine
        outcome = await _call(channel, methods[name], sample(ids), world.owners_token)
        if name in NEEDS_S3:
            assert outcome.refusal is not None, name
            assert "METHOD_NOT_SUPPORTED" == outcome.refusal.reason, name
            continue
        assert outcome.refusal is None, f"{name}: {outcome.refusal}"
        assert outcome.answers, name


def _told(outcome: Outcome, ids: Ids) -> str:
    """What an outcome tells, without what differs anyway."""
    if outcome.refusal is not None:
        text = f"{outcome.refusal.reason} {outcome.refusal.message} {outcome.refusal.violations}"
    else:
        text = "\n".join(_cleared(answer) for answer in outcome.answers)
    for name in ("video_id", "upload_id", "artifact_id"):
        text = text.replace(getattr(ids, name), name)
    return text


def _cleared(message: Message) -> str:
    def clear(part: Any) -> None:
        for field, value in part.ListFields():
            kind = field.message_type.name if field.message_type is not None else field.name
            if kind in VOLATILE:
                part.ClearField(field.name)
            elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for entry in value if field.is_repeated else [value]:
                    clear(entry)

    copy = type(message)()
    copy.CopyFrom(message)
    clear(copy)
    return str(copy)


async def test_health_answers_without_credentials(channel: grpc.aio.Channel) -> None:
    methods = {method.name: method for method in await _methods(channel)}
    for name in ("Check", "Watch", "List"):
        method = methods[f"grpc.health.v1.Health/{name}"]
        outcome = await _call(channel, method, [method.request()], None)
        assert outcome.refusal is None
        (answer,) = outcome.answers
        statuses = answer.statuses if name == "List" else {"": answer}  # type: ignore[attr-defined]
        assert health_pb2.HealthCheckResponse.SERVING == statuses[""].status
    watch = methods["grpc.health.v1.Health/Watch"]
    (answer,) = (await _call(channel, watch, [watch.request(service="no such one")], None)).answers
    assert health_pb2.HealthCheckResponse.SERVICE_UNKNOWN == answer.status  # type: ignore[attr-defined]
    long = await _call(channel, watch, [watch.request(service="x" * 257)], None)
    assert long.refusal is not None
    assert "INVALID_FIELD" == long.refusal.reason


async def test_the_log_tells_who_was_refused_and_never_a_token(
    world: World, channel: grpc.aio.Channel, mine: Ids
) -> None:
    for token in (world.others_token, world.expired_token):
        request = catalog.GetVideoRequest(user_id=mine.user_id, video_id=mine.video_id)
        with pytest.raises(grpc.aio.AioRpcError):
            await Api(channel).catalog.GetVideo(request, metadata=_metadata(token))
    log = world.server.log_path.read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert "other" in {line.get("identity") for line in lines if line.get("reason") == "USER_NOT_ALLOWED"}
    assert any(
        "127.0.0.1" in line.get("peer", "") for line in lines if line.get("reason") == "CREDENTIALS_EXPIRED"
    )
    for token in (world.owners_token, world.others_token, world.expired_token):
        assert token not in log


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
