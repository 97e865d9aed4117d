"""Client of the videoprocess service: makes enhanced copies of camera videos, resumable and exact.

async with Client("127.0.0.1:50051") as client:
    result = await client.enhance("in.mp4", "out.mp4")
    print(result.report.frames.encoded)
"""

from videoprocess_client.client import Client
from videoprocess_client.credentials import Tls, token_of_file
from videoprocess_client.enhancement import EnhanceOptions, EnhanceProgress, EnhanceResult
from videoprocess_client.enums import (
    CamRetCode,
    EncodeType,
    ErrorCode,
    ExecutionMode,
    Priority,
    SessionStatus,
    StreamIntent,
)
from videoprocess_client.errors import (
    Busy,
    Conflict,
    ConnectionFailed,
    DataLoss,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    JobAborted,
    JobFailed,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    ServiceError,
    SessionClosed,
    Unsupported,
    VideoProcessError,
)
from videoprocess_client.events import Event, ProcessDone, ProcessError, ProgressChanged, StatusChanged
from videoprocess_client.job_status import JobStatus
from videoprocess_client.jobs import Job, ProcessResult
from videoprocess_client.passed_files import OpenFile
from videoprocess_client.results import FetchedFile
from videoprocess_client.retry import RetryPolicy
from videoprocess_client.session import Session
from videoprocess_client.sources import directory, opened, passed, shared, stream, uploaded
from videoprocess_client.uploads import UploadResult, new_upload_id
from videoprocess_client.watermarks import WatermarkFile

__all__ = [
    "Busy",
    "CamRetCode",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "DataLoss",
    "EncodeType",
    "EnhanceOptions",
    "EnhanceProgress",
    "EnhanceResult",
    "ErrorCode",
    "Event",
    "ExecutionMode",
    "FailedPrecondition",
    "FetchedFile",
    "Internal",
    "InvalidArgument",
    "Job",
    "JobAborted",
    "JobFailed",
    "JobStatus",
    "NotFound",
    "OpenFile",
    "OutOfRange",
    "PermissionDenied",
    "Priority",
    "ProcessDone",
    "ProcessError",
    "ProcessResult",
    "ProgressChanged",
    "ResourceExhausted",
    "RetryPolicy",
    "ServiceError",
    "Session",
    "SessionClosed",
    "SessionStatus",
    "StatusChanged",
    "StreamIntent",
    "Tls",
    "Unsupported",
    "UploadResult",
    "VideoProcessError",
    "WatermarkFile",
    "directory",
    "new_upload_id",
    "opened",
    "passed",
    "shared",
    "stream",
    "token_of_file",
    "uploaded",
]
