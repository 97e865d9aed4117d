from __future__ import annotations

import grpc
import pytest
from fake_service import FakeService, Refusal, State, busy, cut

import videoprocess_client as vp
from videoprocess.v1 import hdi_enums_pb2, job_pb2
from videoprocess_client import Client

STATUSES = [
    (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", -3, vp.InvalidArgument),
    (grpc.StatusCode.FAILED_PRECONDITION, "NO_STREAM_CREATED", -3, vp.FailedPrecondition),
    (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_CLOSED", -5, vp.SessionClosed),
    (grpc.StatusCode.NOT_FOUND, "UNKNOWN_VIDEO", -3, vp.NotFound),
    (grpc.StatusCode.OUT_OF_RANGE, "DOWNLOAD_OFFSET", -3, vp.OutOfRange),
    (grpc.StatusCode.DATA_LOSS, "DIGEST_MISMATCH", -3, vp.DataLoss),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "SESSION_LIMIT", -2, vp.ResourceExhausted),
    (grpc.StatusCode.UNIMPLEMENTED, "SETTING_NOT_SUPPORTED", -4, vp.Unsupported),
    (grpc.StatusCode.PERMISSION_DENIED, "USER_NOT_ALLOWED", -7, vp.PermissionDenied),
    (grpc.StatusCode.UNAUTHENTICATED, "NO_CREDENTIALS", -7, vp.PermissionDenied),
    (grpc.StatusCode.ABORTED, "SOURCE_IN_USE", -8, vp.Conflict),
    (grpc.StatusCode.INTERNAL, "INTERNAL", -6, vp.Internal),
]


@pytest.mark.parametrize(("status", "reason", "cam_ret_code", "kind"), STATUSES)
async def test_a_status_becomes_the_exception_of_its_group(
    client: Client,
    state: State,
    status: grpc.StatusCode,
    reason: str,
    cam_ret_code: int,
    kind: type[vp.VideoProcessError],
) -> None:
    refusal = Refusal(
        status, reason, cam_ret_code=cam_ret_code, violations={"a.b": "no"}, metadata={"k": "v"}
    )
    state.fail_next("CreateVideoProcessSession", refusal)
    with pytest.raises(vp.ServiceError) as caught:
        await client.open_session()
    error = caught.value
    assert type(error) is kind
    assert (reason, cam_ret_code, "It went wrong.") == (error.reason, error.cam_ret_code, error.message)
    assert (error.violations, error.metadata, error.retry_after) == ({"a.b": "no"}, {"k": "v"}, None)


@pytest.mark.parametrize("status", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNKNOWN])
async def test_a_status_without_error_info_still_has_a_type_and_a_code(
    client: Client, state: State, status: grpc.StatusCode
) -> None:
    state.fail_next("CreateVideoProcessSession", Refusal(status, None))
    with pytest.raises(vp.ServiceError) as caught:
        await client.open_session()
    assert status.name == caught.value.reason
    assert caught.value.cam_ret_code in (-3, -6)


async def test_a_call_is_made_again_while_the_service_is_busy_or_away(client: Client, state: State) -> None:
    state.fail_next("CreateVideoProcessSession", busy(), cut(), busy("STORE_UNAVAILABLE"))
    await client.open_session()
    assert state.calls == ["CreateVideoProcessSession"] * 4


async def test_a_service_that_stays_busy_is_told_with_its_delay(fake: FakeService, state: State) -> None:
    state.fail_next("CreateVideoProcessSession", *[busy() for _ in range(200)])
    policy = vp.RetryPolicy(patience_seconds=0.1, first_contact_seconds=0.1, initial_pause_seconds=0.01)
    async with Client(fake.target, retry=policy) as client:
        with pytest.raises(vp.Busy) as caught:
            await client.open_session()
    assert (caught.value.cam_ret_code, caught.value.retry_after) == (vp.CamRetCode.CAMERA_BUSY, 0.01)


async def test_no_server_is_a_failed_connection() -> None:
    policy = vp.RetryPolicy(first_contact_seconds=0.1)
    async with Client("127.0.0.1:1", retry=policy) as client:
        with pytest.raises(vp.ConnectionFailed):
            await client.open_session()


def test_the_enums_of_the_client_have_the_numbers_of_the_contract() -> None:
    wanted = {
        "CAM_RET_CODE": (vp.CamRetCode, hdi_enums_pb2.CamRetCode),
        "ERROR_CODE": (vp.ErrorCode, hdi_enums_pb2.ErrorCode),
        "SESSION_STATUS": (vp.SessionStatus, hdi_enums_pb2.SessionStatus),
        "EXECUTION_MODE": (vp.ExecutionMode, hdi_enums_pb2.ExecutionMode),
        "STREAM_INTENT": (vp.StreamIntent, hdi_enums_pb2.StreamIntent),
        "ENCODE_TYPE": (vp.EncodeType, hdi_enums_pb2.EncodeType),
        "PRIORITY": (vp.Priority, job_pb2.Priority),
    }
    for prefix, (ours, theirs) in wanted.items():
        assert {f"{prefix}_{item.name}": item.value for item in ours} == dict(theirs.items())


def test_everything_that_is_exported_is_there() -> None:
    assert [name for name in vp.__all__ if not hasattr(vp, name)] == []
