"""Published results, ready to be fetched."""

from __future__ import annotations

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.engine.authorisation import Caller, Policy, authorise
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import Artifact
from videoprocess_server.store.repository import Repository


class Results:
    """Opens artifacts of users."""

    def __init__(self, repository: Repository, blobs: BlobStore, policy: Policy) -> None:
        self._repository = repository
        self._blobs = blobs
        self._policy = policy

    def find(self, caller: Caller, user_id: int, artifact_id: str) -> Artifact:
        """Return an artifact.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, ARTIFACT_NOT_FOUND.
        """
        authorise(self._policy, caller, user_id)
        with self._repository.read() as reader:
            artifact = reader.get_artifact(artifact_id)
        if artifact is None or artifact.user_id != user_id:
            raise VideoProcessError(
                "ARTIFACT_NOT_FOUND", f"there is no artifact {artifact_id!r} of user {user_id}"
            )
        return artifact

    def open(self, caller: Caller, user_id: int, artifact_id: str, offset: int) -> tuple[Artifact, int]:
        """Return an artifact and a descriptor of its bytes, which the caller closes.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, ARTIFACT_NOT_FOUND, DOWNLOAD_OFFSET.
        """
        artifact = self.find(caller, user_id, artifact_id)
        if not 0 <= offset <= artifact.size_bytes:
            raise VideoProcessError(
                "DOWNLOAD_OFFSET",
                f"offset {offset} is not within the artifact's {artifact.size_bytes} bytes",
                metadata={"size_bytes": str(artifact.size_bytes)},
            )
        try:
            return artifact, self._blobs.open(BlobKind.RESULT, artifact_id)
        except FileNotFoundError as error:
            raise VideoProcessError(
                "ARTIFACT_NOT_FOUND", f"the bytes of artifact {artifact_id!r} are gone"
            ) from error
