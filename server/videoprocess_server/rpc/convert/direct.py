"""Transfers past the service, at the wire."""

from __future__ import annotations

from dataclasses import dataclass

from videoprocess.v1 import file_transfer_pb2 as pb
from videoprocess_server.engine.direct_transfers import DirectDownload, DirectUpload
from videoprocess_server.rpc.convert import files
from videoprocess_server.rpc.convert.fields import missing
from videoprocess_server.rpc.convert.reports import artifact
from videoprocess_server.rpc.convert.times import timestamp


@dataclass(frozen=True, kw_only=True)
class SizedStart(files.UploadStart):
    """What a header says that tells the size."""

    declared_size: int


def upload_start(request: pb.GetUploadUrlsRequest) -> SizedStart:
    """Return what is uploaded.

    Raises:
        VideoProcessError: MISSING_FIELD, INVALID_FIELD.
    """
    header = request.header if request.HasField("header") else None
    start = files.upload_start(pb.UploadRequest(header=header))
    if start.declared_size is None:
        raise missing("header.size_bytes")
    return SizedStart(
        user_id=start.user_id,
        upload_id=start.upload_id,
        file_name=start.file_name,
        video_id=start.video_id,
        declared_size=start.declared_size,
    )


def download_url_response(found: DirectDownload) -> pb.GetDownloadUrlResponse:
    """Return the answer to a GetDownloadUrl."""
    return pb.GetDownloadUrlResponse(
        url=found.url, expire_time=timestamp(found.expire_time_us), artifact=artifact(found.artifact)
    )


def upload_urls_response(begun: DirectUpload) -> pb.GetUploadUrlsResponse:
    """Return the answer to a GetUploadUrls."""
    parts = [
        pb.UploadPart(offset=part.offset, size_bytes=part.size_bytes, url=part.url) for part in begun.parts
    ]
    return pb.GetUploadUrlsResponse(
        upload_id=begun.upload_id,
        committed_size_bytes=begun.committed_size,
        parts=parts,
        expire_time=timestamp(begun.expire_time_us),
    )
