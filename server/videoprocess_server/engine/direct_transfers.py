"""Transfers past the service: URLs that clients read results from and write uploads to, where the store of blobs signs some."""

from __future__ import annotations

from dataclasses import dataclass

from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.blobs.signed_urls import SignsUrls
from videoprocess_server.engine.authorisation import Caller, Policy, authorise
from videoprocess_server.engine.results import Results
from videoprocess_server.engine.uploads import Uploads
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND, Clock
from videoprocess_server.model.records import Artifact
from videoprocess_server.model.states import UploadState

#: how long a URL works
URL_SECONDS = 900.0
#: parts that one answer tells: 512 MiB
PARTS_PER_ANSWER = 64


@dataclass(frozen=True, kw_only=True)
class DirectDownload:
    """Where a result is fetched from."""

    artifact: Artifact
    url: str
    expire_time_us: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of an upload that a client writes."""

    offset: int
    size_bytes: int
    url: str


@dataclass(frozen=True, kw_only=True)
class DirectUpload:
    """Where the next parts of an upload are written to."""

    upload_id: str
    committed_size: int
    parts: tuple[Part, ...]
    expire_time_us: int


class DirectTransfers:
    """Tells URLs.

    Args:
        signer: of the URLs; None where blobs are files.
        uploads: begins and checks uploads.
        results: finds results.
        policy: who may act for whom.
        clock: wall time.
    """

    def __init__(
        self, signer: SignsUrls | None, uploads: Uploads, results: Results, policy: Policy, clock: Clock
    ) -> None:
        self._signer = signer
        self._uploads = uploads
        self._results = results
        self._policy = policy
        self._clock = clock

    def download(self, caller: Caller, user_id: int, artifact_id: str) -> DirectDownload:
        """Return where a result is fetched from.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, METHOD_NOT_SUPPORTED, ARTIFACT_NOT_FOUND.
        """
        signer = self._signer_for(caller, user_id)
        artifact = self._results.find(caller, user_id, artifact_id)
        return DirectDownload(
            artifact=artifact,
            url=signer.download_url(BlobKind.RESULT, artifact_id, URL_SECONDS),
            expire_time_us=self._expire_time_us(),
        )

    def upload(
        self, caller: Caller, user_id: int, upload_id: str, file_name: str, video_id: str, size_bytes: int
    ) -> DirectUpload:
        """Begin an upload, or go on with one, and return where its next parts are written to.

        Raises:
            VideoProcessError: METHOD_NOT_SUPPORTED, UPLOAD_FINISHED, and what `Uploads.open` raises.
        """
        signer = self._signer_for(caller, user_id)
        writer = self._uploads.open(caller, user_id, upload_id, file_name, video_id, size_bytes)
        self._uploads.abandon(writer)
        if writer.upload.state is UploadState.FINISHED:
            raise VideoProcessError("UPLOAD_FINISHED", "the upload is finished")
        begin, part_bytes = writer.committed_size, signer.commit_bytes
        offsets = range(begin, size_bytes, part_bytes)[:PARTS_PER_ANSWER]
        return DirectUpload(
            upload_id=writer.upload.upload_id,
            committed_size=begin,
            parts=tuple(
                Part(
                    offset=offset,
                    size_bytes=min(part_bytes, size_bytes - offset),
                    url=signer.part_url(writer.upload.key, offset, URL_SECONDS),
                )
                for offset in offsets
            ),
            expire_time_us=self._expire_time_us(),
        )

    def _signer_for(self, caller: Caller, user_id: int) -> SignsUrls:
        authorise(self._policy, caller, user_id)
        if self._signer is None:
            raise VideoProcessError(
                "METHOD_NOT_SUPPORTED", "this service keeps blobs in files: call Upload and Download"
            )
        return self._signer

    def _expire_time_us(self) -> int:
        return self._clock.now_us() + round(URL_SECONDS * MICROSECONDS_PER_SECOND)
