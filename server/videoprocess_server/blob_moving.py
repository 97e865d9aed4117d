"""Moves an embedded installation's blobs into S3: all that rows name, each compared with its row's digest. May be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from videoprocess_server.blob_choice import open_s3
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.databases import open_repository
from videoprocess_server.datadir import DATABASE_NAME, DataDirectory
from videoprocess_server.engine.planning import CAMERA_PATH
from videoprocess_server.model.states import SegmentState, UploadState
from videoprocess_server.settings import Settings
from videoprocess_server.store.repository import Reader, Repository


class CannotMoveError(Exception):
    """There is nothing to move; the text is one line that says what to do."""


@dataclass(frozen=True)
class NamedBlob:
    """A finished blob that a row names."""

    kind: BlobKind
    key: str
    sha256: str


@dataclass
class Moved:
    """What came of it."""

    blob_count: int = 0
    #: of blobs that could not be moved: "KIND/KEY: why"
    problems: tuple[str, ...] = ()


def move_blobs(settings: Settings, told: Callable[[NamedBlob], None]) -> Moved:
    """Copy what rows name to `settings.blob_url`; the files stay, as the first that are at hand there.

    Uploads that are not finished are not moved: their clients begin anew.

    Args:
        settings: of the service to come, which must not run.
        told: of each blob that is there now.

    Raises:
        CannotMoveError: there is no database.
        DataDirectoryError: the service runs.
        UnfitBlobsError, BlobStoreUnavailableError: of the bucket; what was moved stays.
    """
    if not settings.database_url and not (settings.data_dir / DATABASE_NAME).is_file():
        raise CannotMoveError(f"there is no service's data in {settings.data_dir}: name it with --data-dir")
    moved = Moved()
    with DataDirectory(settings.data_dir) as data:
        blobs = _named(open_repository(settings, data, lambda _job: None))
        store = open_s3(settings, data.path)
        try:
            for blob in blobs:
                try:
                    store.adopt(blob.kind, blob.key, blob.sha256)
                except (FileNotFoundError, FileExistsError) as error:
                    moved.problems += (f"{blob.kind.value}/{blob.key}: {_why(error)}",)
                else:
                    moved.blob_count += 1
                    told(blob)
        finally:
            store.close()
    return moved


def _named(repository: Repository) -> list[NamedBlob]:
    with closing(repository), repository.read() as reader:
        return [*_uploads(reader), *_segments(reader), *_results(reader)]


def _uploads(reader: Reader) -> Iterator[NamedBlob]:
    for upload in reader.list_all_uploads():
        if upload.state is UploadState.FINISHED:
            yield NamedBlob(BlobKind.UPLOAD, upload.key, upload.sha256)


def _segments(reader: Reader) -> Iterator[NamedBlob]:
    for plan_id in reader.list_all_plan_ids():
        record = reader.get_plan(plan_id)
        if record is not None and record.plan.stabilisation and not record.plan.is_draft:
            yield NamedBlob(
                BlobKind.SEGMENT, f"{plan_id}/{CAMERA_PATH}", record.plan.stabilisation.path_sha256
            )
        for row in reader.list_segments(plan_id):
            if row.state is SegmentState.DONE:
                yield NamedBlob(BlobKind.SEGMENT, row.path, row.sha256)


def _results(reader: Reader) -> Iterator[NamedBlob]:
    for artifact_id in reader.list_all_artifact_ids():
        artifact = reader.get_artifact(artifact_id)
        if artifact is not None:
            yield NamedBlob(BlobKind.RESULT, artifact_id, artifact.sha256)


def _why(error: OSError) -> str:
    if isinstance(error, FileExistsError):
        return "the bucket has another object of this name"
    return str(error) if error.errno is None else "the file is gone"
