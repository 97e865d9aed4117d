# ruff: noqa: N818 - the names say the condition, as in httpx and google.api_core
"""What this library raises on purpose, and how a gRPC status becomes one of these.

    VideoProcessError
    ├── ServiceError            the service answered a call with an error
    │   ├── InvalidArgument     a field, file, stream or setting is wrong
    │   ├── FailedPrecondition  calls in the wrong order
    │   ├── SessionClosed       CAMERA_CLOSED: open a new session; videos and accepted work stay
    │   ├── NotFound            no such video, upload or artifact
    │   ├── OutOfRange          an offset or event number that is not there
    │   ├── DataLoss            bytes are not what their checksum says (also found by the client itself)
    │   ├── Busy                CAMERA_BUSY: nothing happened, call again after `.retry_after`
    │   ├── ResourceExhausted   a limit, a quota or the disk is used up
    │   ├── Unsupported         a valid wish that this build cannot fulfil
    │   ├── PermissionDenied    not allowed to act for this user
    │   ├── Conflict            something else uses what the call would change
    │   └── Internal            a fault of the service
    ├── ConnectionFailed        no answer: no server there, the connection was cut, or the time is over
    └── JobFailed               a job ended in OnError
        └── JobAborted          ... because Interrupt, Reset or RemoveVideo stopped it

A local file that cannot be read or written raises OSError as usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from videoprocess_client.enums import CamRetCode, ErrorCode

if TYPE_CHECKING:
    from videoprocess_client.events import ProcessError

_DETAILS_KEY = "grpc-status-details-bin"
# What gRPC's own transport says with other statuses when the other end goes away in the middle. The last one also
# hides the status of a call that the service ended while the client was writing; trying again brings it to light.
_TRANSPORT_TEXTS = ("Stream removed", "Received RST_STREAM", "Internal error from Core")
_NO_ANSWER = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
)


class VideoProcessError(Exception):
    """Base of everything this library raises on purpose.

    Attributes:
        reason: The exact cause in upper snake case, for programs.
        message: The cause in one English sentence, for people.
        cam_ret_code: The HDI's return code, a value of `CamRetCode`.
        violations: Field of the request to what is wrong with it.
        metadata: More for programs, e.g. `committed_size` with UPLOAD_OFFSET.
        retry_after: Seconds after which the same call may succeed; None where the service names none.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        cam_ret_code: int = CamRetCode.DEVICE_ERROR,
        violations: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.cam_ret_code = int(cam_ret_code)
        self.violations = dict(violations or {})
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


class ServiceError(VideoProcessError):
    """The service answered a call with an error."""


class InvalidArgument(ServiceError):
    """A field, file, stream or setting is wrong; `.violations` names the field."""


class FailedPrecondition(ServiceError):
    """Calls in the wrong order, or a finished upload that was written to."""


class SessionClosed(ServiceError):
    """CAMERA_CLOSED: the session is closed or never existed. Open a new one; videos and accepted work stay."""


class NotFound(ServiceError):
    """The user has no such video, upload or artifact."""


class OutOfRange(ServiceError):
    """An offset beyond the end, or an event number that is not kept."""


class DataLoss(ServiceError):
    """Bytes are not what their checksum or digest says. Raised by the client too, for what it received."""


class Busy(ServiceError):
    """CAMERA_BUSY: the service cannot take the call now and nothing happened."""


class ResourceExhausted(ServiceError):
    """A limit, a quota or the disk is used up."""


class Unsupported(ServiceError):
    """METHOD_NOT_SUPPORTED: a valid wish that this build cannot fulfil."""


class PermissionDenied(ServiceError):
    """The caller may not act for this user, or has sent no credentials."""


class Conflict(ServiceError):
    """DEVICE_CONFLICT: something else uses what the call would change."""


class Internal(ServiceError):
    """A fault of the service."""


class ConnectionFailed(VideoProcessError):
    """No answer: no server at the target, the connection was cut, or the time for the call is over."""


class JobFailed(VideoProcessError):
    """A job ended in OnError.

    `.cam_ret_code` is NO_ERROR, because ProcessVideo had accepted the job; `.error_code` tells the kind.

    Attributes:
        error_code: The HDI's error code, a value of `ErrorCode`.
        video_id: The video.
        job_id: The job.
    """

    def __init__(self, error_code: int, reason: str, message: str, *, video_id: str, job_id: str) -> None:
        super().__init__(reason, message, cam_ret_code=CamRetCode.NO_ERROR)
        self.error_code = error_code
        self.video_id = video_id
        self.job_id = job_id

    @staticmethod
    def from_event(event: ProcessError) -> JobFailed:
        """The error that an OnError event stands for."""
        kind = JobAborted if event.error_code == ErrorCode.ABORT else JobFailed
        return kind(
            event.error_code, event.reason, event.message, video_id=event.video_id, job_id=event.job_id
        )


class JobAborted(JobFailed):
    """Interrupt, Reset or RemoveVideo stopped the job."""


# Status -> exception, and the code that the status has when the service names none.
_BY_STATUS: Mapping[grpc.StatusCode, tuple[type[ServiceError], CamRetCode]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidArgument, CamRetCode.INVALID_ARGUMENT),
    grpc.StatusCode.FAILED_PRECONDITION: (FailedPrecondition, CamRetCode.INVALID_ARGUMENT),
    grpc.StatusCode.NOT_FOUND: (NotFound, CamRetCode.INVALID_ARGUMENT),
    grpc.StatusCode.OUT_OF_RANGE: (OutOfRange, CamRetCode.INVALID_ARGUMENT),
    grpc.StatusCode.DATA_LOSS: (DataLoss, CamRetCode.INVALID_ARGUMENT),
    grpc.StatusCode.UNAVAILABLE: (Busy, CamRetCode.CAMERA_BUSY),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (ResourceExhausted, CamRetCode.INSUFFICIENT_RESOURCES),
    grpc.StatusCode.UNIMPLEMENTED: (Unsupported, CamRetCode.METHOD_NOT_SUPPORTED),
    grpc.StatusCode.PERMISSION_DENIED: (PermissionDenied, CamRetCode.NO_PERMISSION),
    grpc.StatusCode.UNAUTHENTICATED: (PermissionDenied, CamRetCode.NO_PERMISSION),
    grpc.StatusCode.ABORTED: (Conflict, CamRetCode.DEVICE_CONFLICT),
}


def from_rpc_error(error: aio.AioRpcError) -> VideoProcessError:
    """Turn a gRPC status into a typed exception."""
    code, text = error.code(), error.details() or ""
    info, violations, retry_after = _read_details(error)
    if info is None:
        if code in _NO_ANSWER or text.startswith(_TRANSPORT_TEXTS):
            return ConnectionFailed(code.name, text or "There was no answer.")
        kind, cam_ret_code = _BY_STATUS.get(code, (Internal, CamRetCode.DEVICE_ERROR))
        return kind(code.name, text or "The service gave no details.", cam_ret_code=cam_ret_code)
    kind, cam_ret_code = _BY_STATUS.get(code, (Internal, CamRetCode.DEVICE_ERROR))
    number = _number(info.metadata.get("cam_ret_code"), cam_ret_code)
    if number == CamRetCode.CAMERA_CLOSED:
        kind = SessionClosed
    metadata = {key: value for key, value in info.metadata.items() if key != "cam_ret_code"}
    return kind(
        info.reason,
        text,
        cam_ret_code=number,
        violations=violations,
        metadata=metadata,
        retry_after=retry_after,
    )


def from_status_name(status: str, reason: str, message: str, cam_ret_code: int) -> ServiceError:
    """The error of an answer that came another way than by gRPC.

    Args:
        status: gRPC's name of its status.
        reason: Of the service's catalogue.
        message: For people.
        cam_ret_code: A value of `CamRetCode`.

    Raises:
        KeyError: There is no such status.
    """
    kind, _ = _BY_STATUS.get(grpc.StatusCode[status], (Internal, CamRetCode.DEVICE_ERROR))
    return kind(reason, message, cam_ret_code=cam_ret_code)


def _read_details(
    error: aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, dict[str, str], float | None]:
    info: error_details_pb2.ErrorInfo | None = None
    violations: dict[str, str] = {}
    retry_after: float | None = None
    for detail in _packed_details(error):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            request = error_details_pb2.BadRequest.FromString(detail.value)
            violations |= {entry.field: entry.description for entry in request.field_violations}
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_after = delay.seconds + delay.nanos / 1e9
    return info, violations, retry_after


def _packed_details(error: aio.AioRpcError) -> list[Any]:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []


def _number(text: str | None, default: int) -> int:
    try:
        return int(text) if text is not None else default
    except ValueError:
        return default
