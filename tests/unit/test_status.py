"""Every error a caller can get is one status with the details of its reason."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from videoprocess_server.errors import CATALOGUE, Status, VideoProcessError
from videoprocess_server.rpc.status import DOMAIN, as_catalogued, grpc_status, rich_status
from videoprocess_server.store.repository import StoreUnavailableError

DETAILS_KEY = "grpc-status-details-bin"
TRAILER_BYTES = 8192  # what gRPC takes of metadata by default


def details(error: VideoProcessError) -> dict[str, Any]:
    """The details of an error, by the name of their message."""
    found = {}
    for packed in rich_status(error).details:
        name = packed.type_url.rpartition(".")[2]
        found[name] = getattr(error_details_pb2, name)()
        assert packed.Unpack(found[name])
    return found


@pytest.mark.parametrize("reason", CATALOGUE)
def test_every_reason_has_its_status_and_tells_itself(reason: str) -> None:
    row = CATALOGUE[reason]
    error = VideoProcessError(reason, "what happened", metadata={"committed_size": "7"})
    status = grpc_status(error)
    assert (grpc.StatusCode[row.status.value], "what happened") == (status.code, status.details)
    info = details(error)["ErrorInfo"]
    assert (reason, DOMAIN) == (info.reason, info.domain)
    assert {
        "cam_ret_code": str(row.cam_ret_code.value),
        "retryable": str(row.retryable).lower(),
        "committed_size": "7",
    } == dict(info.metadata)
    ((key, value),) = status.trailing_metadata
    assert key == DETAILS_KEY
    assert rich_status(error) == status_pb2.Status.FromString(value)


@pytest.mark.parametrize("reason", CATALOGUE)
def test_details_fit_the_status(reason: str) -> None:
    found = set(details(VideoProcessError(reason, "what happened")))
    row = CATALOGUE[reason]
    assert (row.status is Status.UNAVAILABLE) == ("RetryInfo" in found)
    assert (row.status is Status.RESOURCE_EXHAUSTED) == ("QuotaFailure" in found)
    assert (row.status is Status.FAILED_PRECONDITION) == ("PreconditionFailure" in found)
    assert "BadRequest" not in found


def test_violations_become_a_bad_request() -> None:
    error = VideoProcessError("INVALID_FIELD", "two are wrong", {"a": "is absent", "b[0].c": "is negative"})
    violations = details(error)["BadRequest"].field_violations
    assert [(v.field, v.description) for v in violations] == [("a", "is absent"), ("b[0].c", "is negative")]


def test_a_delay_becomes_a_retry_info() -> None:
    error = VideoProcessError("QUEUE_LIMIT", "full", retry_after_seconds=2.5)
    delay = details(error)["RetryInfo"].retry_delay
    assert (delay.seconds, delay.nanos) == (2, 500_000_000)


def test_an_unreachable_store_is_unavailable() -> None:
    error = as_catalogued(StoreUnavailableError("/secret/path: disk I/O error"))
    assert error.reason == "STORE_UNAVAILABLE"
    assert grpc_status(error).code == grpc.StatusCode.UNAVAILABLE
    assert "secret" not in error.message


def test_a_mistake_of_ours_tells_no_internals() -> None:
    error = as_catalogued(KeyError("/secret/path"))
    assert error.reason == "INTERNAL"
    assert b"secret" not in rich_status(error).SerializeToString()


@pytest.mark.parametrize(
    "text", ["x" * 4_000_000, "ü" * 4_000_000, "\udc80" * 4_000_000, "a\0\n😀" * 1_000_000]
)
def test_a_status_fits_into_trailers_whatever_a_caller_sent(text: str) -> None:
    """A status that does not fit would reach the caller as another one."""
    error = VideoProcessError(
        "SESSION_CLOSED",
        text,
        {f"{text}{number}": text for number in range(20)},
        {"committed_size": text},
    )
    status = grpc_status(error)
    ((_, value),) = status.trailing_metadata
    percent_encoded = 3 * len(status.details.encode())
    assert percent_encoded + len(value) * 4 / 3 < TRAILER_BYTES
