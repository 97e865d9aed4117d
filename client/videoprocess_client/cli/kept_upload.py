"""The upload of a file that this command keeps between two runs, so that a second one goes on where a first was killed."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

from videoprocess_client.cli.session_book import SessionBook, with_upload, without_upload
from videoprocess_client.uploads import new_upload_id


class KeptUpload:
    """The remembered upload of one file, as it is now, for one server and user.

    Attributes:
        upload_id: That of the run that was killed; a new one where there was none, or where another terminal is still at it.
    """

    def __init__(self, book: SessionBook, file: Path, video_id: str) -> None:
        """Look it up, and remember that this process is at it.

        Args:
            book: Where it is remembered.
            file: The file; with other bytes, as far as size and times tell, it is another one.
            video_id: What the upload is to become.
        """
        self._book = book
        self._key = _identity(file, video_id)
        known_id, process_id = book.read().uploads.get(self._key, ("", 0))
        self._is_ours = not _is_at_work(process_id)
        self.upload_id = known_id if known_id and self._is_ours else new_upload_id()
        if self._is_ours:
            book.change(partial(with_upload, key=self._key, upload_id=self.upload_id, process_id=os.getpid()))

    def forget(self) -> None:
        """It is finished, or cannot be."""
        if self._is_ours:
            self._book.change(partial(without_upload, key=self._key))


def _identity(file: Path, video_id: str) -> str:
    status = file.stat()
    facts = (
        file.resolve(),
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        video_id,
    )
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _is_at_work(process_id: int) -> bool:
    """Whether a process of this id runs that is not this one; nobody's id is 0."""
    if process_id in (0, os.getpid()):
        return False
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
