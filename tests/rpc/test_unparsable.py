"""Bytes that are no request: refused as such by every method, and the next call works."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf import descriptor_pool

from service_harness import Api, Server, refused
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess_server.rpc.server import SERVICE_NAMES

Code = grpc.StatusCode
#: no tag, a text of more bytes than there are, a text that is not UTF-8 in the first field and in the second
GARBAGE = (b"\xff\xff\xff", b"\x0a\x7fa", b"\x0a\x02\xff\xfe", b"\x12\x02\xc0\x80")
SEED = 4


def _methods() -> list[str]:
    pool = descriptor_pool.Default()
    return [
        f"/{service}/{method.name}"
        for service in SERVICE_NAMES
        for method in pool.FindServiceByName(service).methods
    ]


@pytest.fixture(name="channel")
async def _channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


async def _send(channel: grpc.aio.Channel, method: str, *messages: bytes) -> list[bytes]:
    async def each() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    # a stream of one message is what any method takes
    return [answer async for answer in channel.stream_stream(method)(each())]


@pytest.mark.parametrize("method", _methods())
async def test_case_107_random_bytes_are_no_fault_of_the_service(
    channel: grpc.aio.Channel, server: Server, api: Api, method: str
) -> None:
    rng = random.Random(f"{SEED} {method}")
    refusals = [await refused(_send(channel, method, data)) for data in GARBAGE]
    parsing = [refusal for refusal in refusals if "request" in refusal.violations]
    assert parsing
    assert {(Code.INVALID_ARGUMENT, -3, "INVALID_FIELD")} == {
        (refusal.status, refusal.cam_ret_code, refusal.reason) for refusal in parsing
    }
    for _ in range(20):
        refusal = await refused(_send(channel, method, rng.randbytes(rng.randrange(1, 64))))
        assert refusal.status not in (Code.INTERNAL, Code.UNKNOWN)
    assert await api.open_session()
    lines = [json.loads(line) for line in server.log_path.read_text().splitlines()]
    assert not [line for line in lines if line["level"] == "error"]


async def test_an_upload_that_turns_into_garbage_keeps_what_it_had(
    channel: grpc.aio.Channel, api: Api
) -> None:
    upload_id = "5" * 32
    header = transfer.UploadHeader(user_id=1, upload_id=upload_id)
    body = transfer.UploadRequest(header=header, data=b"kept").SerializeToString()
    method = "/videoprocess.v1.FileTransferService/Upload"
    refusal = await refused(_send(channel, method, body, GARBAGE[0]))
    assert (Code.INVALID_ARGUMENT, "INVALID_FIELD") == (refusal.status, refusal.reason)
    query = transfer.QueryUploadRequest(user_id=1, upload_id=upload_id)
    assert 4 == (await api.transfer.QueryUpload(query)).committed_size_bytes


@pytest.mark.parametrize("method", ["/videoprocess.v1.VideoCatalogService/Drop", "/nobody.Knows/Me", "/"])
def test_case_107_a_method_that_is_not_there_is_unimplemented(server: Server, method: str) -> None:
    """Not by grpc.aio, which tells a failure of its own where the refusal comes before the request is sent."""
    with grpc.insecure_channel(server.address) as channel:
        for data in GARBAGE:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method)(data)
            assert Code.UNIMPLEMENTED is caught.value.code()
