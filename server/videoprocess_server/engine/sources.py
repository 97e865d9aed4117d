"""Opens the file behind a video, wherever it is, and says whether it still is the same one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore, GoOn
from videoprocess_server.blobs.shared_path import SharedPathError, change_time_ns, identity, open_beneath
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import Source, SourceKind
from videoprocess_server.model.states import UploadState
from videoprocess_server.store.repository import Reader


@dataclass(frozen=True, kw_only=True)
class SharedRoot:
    """A directory whose files callers may name."""

    name: str
    path: Path
    #: users that may name it; empty for all
    user_ids: frozenset[int] = frozenset()
    #: whether results may be written there
    writable: bool = False

    def allows(self, user_id: int) -> bool:
        """Return whether the user may name it."""
        return not self.user_ids or user_id in self.user_ids


def find_root(roots: Mapping[str, SharedRoot], user_id: int, name: str) -> SharedRoot:
    """Return the root that a user names.

    Raises:
        VideoProcessError: UNKNOWN_ROOT, which does not tell one of others from one that is not there.
    """
    root = roots.get(name)
    if root is None or not root.allows(user_id):
        raise VideoProcessError("UNKNOWN_ROOT", f"there is no shared root {name!r} for user {user_id}")
    return root


class SourceChangedError(Exception):
    """The file is not the one that was prepared, or is gone. `reason` is SOURCE_CHANGED or SOURCE_GONE."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class SourceTouchedError(SourceChangedError):
    """Something about the file changed, by its change time; whether its packets did is to be looked at."""

    def __init__(self) -> None:
        super().__init__("SOURCE_CHANGED", "the file is changed again and again while it is read")


class Sources:
    """Resolves what callers name and opens what videos refer to. Descriptors belong to who asked for them."""

    def __init__(self, blobs: BlobStore, roots: Mapping[str, SharedRoot]) -> None:
        self._blobs = blobs
        self._roots = roots

    def roots_of(self, user_id: int) -> list[SharedRoot]:
        """Return the roots a user may name."""
        return [root for root in self._roots.values() if root.allows(user_id)]

    def of_upload(
        self, reader: Reader, user_id: int, upload_id: str, kind: SourceKind = SourceKind.UPLOAD
    ) -> Source:
        """Return a finished upload of the user as a source.

        Raises:
            VideoProcessError: UNKNOWN_UPLOAD, UPLOAD_UNFINISHED, EMPTY_FILE.
        """
        upload = reader.get_upload(upload_id)
        if upload is None or upload.user_id != user_id:
            raise VideoProcessError("UNKNOWN_UPLOAD", f"there is no upload {upload_id!r} of user {user_id}")
        if upload.state is not UploadState.FINISHED:
            raise VideoProcessError("UPLOAD_UNFINISHED", f"upload {upload_id!r} is not finished")
        if upload.size_bytes == 0:
            raise VideoProcessError("EMPTY_FILE", "the upload has 0 bytes")
        return Source(
            kind=kind,
            identity=f"sha256:{upload.sha256}",
            size_bytes=upload.size_bytes,
            file_name=upload.file_name,
            upload_id=upload_id,
            blob_key=upload.blob_key,
        )

    def of_shared_path(self, user_id: int, root_name: str, path: str) -> Source:
        """Return a file below a shared root as a source.

        Raises:
            VideoProcessError: UNKNOWN_ROOT, NO_SUCH_PATH, PATH_OUTSIDE_ROOT, NOT_A_REGULAR_FILE, FILE_UNREADABLE, EMPTY_FILE.
        """
        try:
            fd = self._open_shared(user_id, root_name, path)
        except SharedPathError as error:
            raise VideoProcessError(error.reason, error.message) from error
        try:
            size = os.fstat(fd).st_size
            if size == 0:
                raise VideoProcessError("EMPTY_FILE", "the file has 0 bytes")
            return Source(
                kind=SourceKind.SHARED,
                identity=identity(fd),
                size_bytes=size,
                file_name=PurePosixPath(path).name,
                root=root_name,
                path=path,
            )
        finally:
            os.close(fd)

    def open(self, user_id: int, source: Source) -> int:
        """Return a new descriptor of the source, checked to be the same file.

        Raises:
            SourceChangedError: it is not, or is gone.
        """
        try:
            if source.kind is not SourceKind.SHARED:
                return self._blobs.open(BlobKind.UPLOAD, source.upload_key)
            fd = self._open_shared(user_id, source.root, source.path)
        except FileNotFoundError as error:
            raise _gone() from error
        except (SharedPathError, VideoProcessError) as error:
            raise SourceChangedError("SOURCE_GONE", error.message) from error
        if identity(fd) != source.identity:
            os.close(fd)
            raise SourceChangedError("SOURCE_CHANGED", "the shared file is not the one that was prepared")
        return fd

    @contextmanager
    def at_hand(self, sources: Iterable[Source], go_on: GoOn) -> Iterator[None]:
        """While within, what was uploaded can be opened at once, wherever it is stored.

        Raises:
            SourceChangedError: it is gone.
        """
        with ExitStack() as stack:
            for source in sources:
                if source.kind is SourceKind.SHARED:
                    continue
                stack.enter_context(self._blobs.using(BlobKind.UPLOAD, source.upload_key))
                try:
                    self._blobs.bring(BlobKind.UPLOAD, source.upload_key, go_on)
                except FileNotFoundError as error:
                    raise _gone() from error
            yield

    def check(self, user_id: int, source: Source) -> None:
        """Return if the source still is the same file.

        Raises:
            SourceChangedError: it is not, or is gone.
        """
        os.close(self.open(user_id, source))

    def change_time_ns(self, user_id: int, source: Source) -> int | None:
        """Return when anything about the source last changed; None for an upload, which never does.

        Raises:
            SourceChangedError: it is another file, or is gone.
        """
        fd = self.open(user_id, source)
        try:
            return change_time_ns(fd) if source.kind is SourceKind.SHARED else None
        finally:
            os.close(fd)

    def _open_shared(self, user_id: int, root_name: str, path: str) -> int:
        return open_beneath(find_root(self._roots, user_id, root_name).path, path)


def _gone() -> SourceChangedError:
    return SourceChangedError("SOURCE_GONE", "the uploaded bytes are gone")
