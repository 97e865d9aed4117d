"""Turns what went wrong into a gRPC status with google.rpc details: the one place that does."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from videoprocess_server.blobs.blob_store import BlobStoreUnavailableError
from videoprocess_server.errors import Status, VideoProcessError
from videoprocess_server.store.repository import StoreUnavailableError

DOMAIN = "videoprocess"
#: statuses travel in HTTP/2 trailers, of which peers take 8 KiB: text from callers must not fill them
MAX_MESSAGE_BYTES = 512
MAX_NAME_BYTES = 128
MAX_VALUE_BYTES = 192
MAX_VIOLATIONS = 8
#: where an UNAVAILABLE does not say after how long
DEFAULT_RETRY_SECONDS = 1.0


def as_catalogued(error: Exception) -> VideoProcessError:
    """Return the answer a caller is meant to get; INTERNAL for what is a mistake of ours."""
    if isinstance(error, VideoProcessError):
        return error
    if isinstance(error, StoreUnavailableError | BlobStoreUnavailableError):
        return VideoProcessError("STORE_UNAVAILABLE", "the store cannot be reached; nothing happened")
    return VideoProcessError("INTERNAL", "a fault of the service")


def internal(incident: str) -> VideoProcessError:
    """Return the answer to a mistake of ours, which the log tells of under the same number."""
    return VideoProcessError(
        "INTERNAL", f"a fault of the service, incident {incident}", metadata={"incident": incident}
    )


def grpc_status(error: VideoProcessError) -> grpc.Status:
    """Return the status that ends a call with this error."""
    status: grpc.Status = rpc_status.to_status(rich_status(error))
    return status


def rich_status(error: VideoProcessError) -> Any:  # noqa: ANN401 - google.rpc has no types
    """Return the google.rpc.Status of an error, with all details that fit its reason."""
    code: int = grpc.StatusCode[error.row.status.name].value[0]
    status = status_pb2.Status(code=code, message=_short(error.message, MAX_MESSAGE_BYTES))
    for detail in _details(error):
        status.details.add().Pack(detail)
    return status


def _details(error: VideoProcessError) -> list[Message]:
    row = error.row
    details: list[Message] = [_error_info(error)]
    if error.violations:
        details.append(_bad_request(error))
    if row.status is Status.RESOURCE_EXHAUSTED:
        violation = {"subject": error.reason, "description": row.remedy}
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    if row.status is Status.FAILED_PRECONDITION:
        violation = {"type": error.reason, "description": row.remedy}
        details.append(error_details_pb2.PreconditionFailure(violations=[violation]))
    seconds = error.retry_after_seconds
    if seconds is None and row.status is Status.UNAVAILABLE:
        seconds = DEFAULT_RETRY_SECONDS
    if seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(seconds * 1000))
        details.append(retry)
    return details


def _error_info(error: VideoProcessError) -> Message:
    metadata = {
        _short(name, MAX_NAME_BYTES): _short(value, MAX_VALUE_BYTES) for name, value in error.metadata.items()
    }
    metadata["cam_ret_code"] = str(int(error.row.cam_ret_code))
    metadata["retryable"] = "true" if error.row.retryable else "false"
    info: Message = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    return info


def _bad_request(error: VideoProcessError) -> Message:
    violations = [
        {"field": _short(field, MAX_NAME_BYTES), "description": _short(problem, MAX_VALUE_BYTES)}
        for field, problem in list(error.violations.items())[:MAX_VIOLATIONS]
    ]
    request: Message = error_details_pb2.BadRequest(field_violations=violations)
    return request


def _short(text: str, max_bytes: int) -> str:
    """Cut text to what fits, in valid UTF-8."""
    data = text.encode("utf-8", "replace")
    return data.decode() if len(data) <= max_bytes else data[: max_bytes - 3].decode("utf-8", "ignore") + "…"
