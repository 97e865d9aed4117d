"""Files: what Prepare names, what uploads and downloads carry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c

from videoprocess.v1 import file_transfer_pb2, types_pb2
from videoprocess_server.engine.source_files import (
    FileReference,
    SharedReference,
    TokenReference,
    UploadReference,
)
from videoprocess_server.engine.uploads import UploadView
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.states import UploadState
from videoprocess_server.rpc.convert import times
from videoprocess_server.rpc.convert.fields import invalid, missing, user_id_of

MAX_UPLOAD_CHUNK_BYTES = 3 << 20  # gRPC takes messages of 4 MiB; the rest is room for the other fields
MAX_FILE_NAME_BYTES = 255  # the file systems' own limit
MAX_FILES = 3  # v1_5's [movie, movie again, input]
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, kw_only=True)
class UploadStart:
    """What the first message of an Upload says."""

    user_id: int
    upload_id: str
    file_name: str
    video_id: str
    declared_size: int | None


def file_references(messages: Sequence[types_pb2.FileDescriptor]) -> list[FileReference]:
    """Return the files that Prepare names.

    Raises:
        VideoProcessError: BAD_FD_COUNT, MISSING_FIELD.
    """
    if len(messages) > MAX_FILES:
        raise VideoProcessError(
            "BAD_FD_COUNT", f"{len(messages)} files given", violations={"fds": "give no file, one, or three"}
        )
    return [file_reference(message, f"fds[{position}]") for position, message in enumerate(messages)]


def file_reference(message: types_pb2.FileDescriptor, field: str) -> FileReference:
    """Return the file that a descriptor names.

    Raises:
        VideoProcessError: MISSING_FIELD.
    """
    source = message.WhichOneof("source")
    if source == "upload_id":
        return UploadReference(upload_id=message.upload_id)
    if source == "shared_path":
        return SharedReference(root=message.shared_path.root, path=message.shared_path.path)
    if source == "fd_token":
        return TokenReference(token=message.fd_token)
    raise missing(f"{field}.source")


def upload_start(message: file_transfer_pb2.UploadRequest | None) -> UploadStart:
    """Return what the first message says; None is a stream without one.

    Raises:
        VideoProcessError: MISSING_FIELD, INVALID_FIELD.
    """
    if message is None or not message.HasField("header"):
        raise missing("header")
    header = message.header
    if len(header.file_name.encode()) > MAX_FILE_NAME_BYTES:
        raise invalid("header.file_name", f"has more than {MAX_FILE_NAME_BYTES} bytes")
    if "/" in header.file_name or "\0" in header.file_name:
        raise invalid("header.file_name", "is not a name without directories")
    return UploadStart(
        user_id=user_id_of(header, "header.user_id"),
        upload_id=header.upload_id,
        file_name=header.file_name,
        video_id=header.video_id,
        declared_size=header.size_bytes if header.HasField("size_bytes") else None,
    )


def upload_data(message: file_transfer_pb2.UploadRequest) -> bytes:
    """Return the bytes of a message, checked.

    Raises:
        VideoProcessError: INVALID_FIELD, CHECKSUM_MISMATCH.
    """
    data = message.data  # each look at it is a copy
    if len(data) > MAX_UPLOAD_CHUNK_BYTES:
        raise invalid("data", f"has more than {MAX_UPLOAD_CHUNK_BYTES} bytes")
    if message.HasField("crc32c") and message.crc32c != google_crc32c.value(data):
        raise VideoProcessError(
            "CHECKSUM_MISMATCH", f"the {len(data)} bytes at {message.offset} have another CRC32C"
        )
    return data


def upload_digest(finish: file_transfer_pb2.UploadFinish, committed_size: int) -> str:
    """Return the SHA-256 that the whole upload should have.

    Raises:
        VideoProcessError: MISSING_FIELD, INVALID_FIELD, SIZE_MISMATCH.
    """
    if not finish.HasField("size_bytes"):
        raise missing("finish.size_bytes")
    if not finish.sha256:
        raise missing("finish.sha256")
    if not _SHA256.fullmatch(finish.sha256):
        raise invalid("finish.sha256", "is not 64 hexadecimal digits")
    if finish.size_bytes != committed_size:
        raise VideoProcessError(
            "SIZE_MISMATCH",
            f"{committed_size} of {finish.size_bytes} bytes arrived",
            metadata={"committed_size": str(committed_size)},
        )
    return finish.sha256


def upload_response(view: UploadView) -> file_transfer_pb2.UploadResponse:
    """Return the answer to an Upload."""
    return file_transfer_pb2.UploadResponse(**_upload_fields(view))


def query_upload_response(view: UploadView) -> file_transfer_pb2.QueryUploadResponse:
    """Return the answer to a QueryUpload."""
    return file_transfer_pb2.QueryUploadResponse(**_upload_fields(view))


def _upload_fields(view: UploadView) -> dict[str, Any]:
    upload = view.upload
    complete = upload.state is UploadState.FINISHED
    return {
        "upload_id": upload.upload_id,
        "committed_size_bytes": view.committed_size,
        "size_bytes": upload.size_bytes if complete else upload.declared_size_bytes or 0,
        "sha256": upload.sha256,
        "complete": complete,
        "expire_time": times.optional_timestamp(view.expire_time_us),
    }


def download_end(request: file_transfer_pb2.DownloadRequest, size_bytes: int) -> int:
    """Return the position after the last byte to send."""
    return min(size_bytes, request.offset + request.limit) if request.limit else size_bytes


def check_download(request: file_transfer_pb2.DownloadRequest) -> None:
    """Return if the limit is one.

    Raises:
        VideoProcessError: INVALID_FIELD.
    """
    if request.limit < 0:
        raise invalid("limit", "is negative")
