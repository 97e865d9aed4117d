"""Rows of uploads, as one transaction leaves them: another replica may have gone on with an upload, or finished it, before."""

from __future__ import annotations

from dataclasses import replace

from videoprocess_server.engine.sources import Sources
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import Upload, Video
from videoprocess_server.model.states import UploadState, VideoState
from videoprocess_server.store.repository import Transaction


def begin_or_go_on(tx: Transaction, asked: Upload) -> Upload:
    """Return the upload that a stream is to write: the one of this id, or the one that is asked for, as a new row.

    Raises:
        VideoProcessError: INVALID_FIELD, UPLOAD_NOT_FOUND, VIDEO_EXISTS.
    """
    known = tx.get_upload(asked.upload_id)
    if known is not None:
        return _go_on(tx, known, asked)
    _check_free(tx, asked.user_id, asked.video_id)
    tx.put_upload(asked)
    return asked


def _go_on(tx: Transaction, known: Upload, asked: Upload) -> Upload:
    if known.user_id != asked.user_id:
        raise VideoProcessError(
            "UPLOAD_NOT_FOUND", f"there is no upload {known.upload_id!r} of user {asked.user_id}"
        )
    sizes = {known.declared_size_bytes, asked.declared_size_bytes} - {None}
    if len(sizes) > 1:
        raise VideoProcessError(
            "INVALID_FIELD",
            f"the upload was begun with {known.declared_size_bytes} bytes: another file needs another upload_id",
            {"header.size_bytes": "is not that of the upload"},
        )
    is_new_name = asked.video_id not in ("", known.video_id)
    if known.state is not UploadState.ACTIVE:
        if is_new_name:
            raise VideoProcessError(
                "INVALID_FIELD",
                "a finished upload makes no further video; name it in Prepare",
                {"header.video_id": "is not that of the upload, which is finished"},
            )
        return known
    if is_new_name:
        _check_free(tx, known.user_id, asked.video_id)
    upload = replace(
        known, video_id=asked.video_id or known.video_id, update_time_us=asked.update_time_us
    )  # from now on it does not expire before this stream has it
    tx.put_upload(upload)
    return upload


def touch(tx: Transaction, upload: Upload, now_us: int) -> Upload:
    """Note that a message came, so that an unfinished upload stays; return its row, or what was given where that is no more."""
    current = _current(tx, upload)
    if current is None or current.state is not UploadState.ACTIVE:
        return upload
    touched = replace(current, update_time_us=now_us)
    tx.put_upload(touched)
    return touched


def finish(tx: Transaction, finished: Upload, sources: Sources) -> Upload:
    """Write a finished upload's row, and its video's if it names one; return it, or the one of who was faster.

    Raises:
        VideoProcessError: UPLOAD_TAKEN_OVER, DIGEST_MISMATCH, VIDEO_EXISTS.
    """
    current = _current(tx, finished)
    if current is None:
        raise taken_over()
    if current.state is UploadState.FINISHED:
        return same_digest(current, finished.sha256)
    tx.put_upload(finished)
    if finished.video_id:
        _check_free(tx, finished.user_id, finished.video_id)
        tx.put_video(_pending(tx, finished, sources))
    return finished


def _pending(tx: Transaction, upload: Upload, sources: Sources) -> Video:
    """Return the video that a finished upload becomes."""
    return Video(
        user_id=upload.user_id,
        video_id=upload.video_id,
        state=VideoState.PENDING,
        create_time_us=upload.update_time_us,
        update_time_us=upload.update_time_us,
        source=sources.of_upload(tx, upload.user_id, upload.upload_id) if upload.size_bytes else None,
    )


def _current(tx: Transaction, upload: Upload) -> Upload | None:
    """Return the row of an upload as it is now; None where it is gone, or another one has its id."""
    current = tx.get_upload(upload.upload_id)
    return current if current is not None and current.key == upload.key else None


def _check_free(tx: Transaction, user_id: int, video_id: str) -> None:
    """Return if an upload may make a video of this id; "" is none."""
    if video_id and tx.get_video(user_id, video_id) is not None:
        raise VideoProcessError("VIDEO_EXISTS", f"there is a video {video_id!r} already")


def same_digest(upload: Upload, sha256: str) -> Upload:
    """Return a finished upload. VideoProcessError where it is not what its caller sent; "" is not compared."""
    if sha256 and sha256.lower() != upload.sha256:
        raise VideoProcessError(
            "DIGEST_MISMATCH", f"the {upload.size_bytes} bytes that arrived have SHA-256 {upload.sha256}"
        )
    return upload


def taken_over() -> VideoProcessError:
    """Return what a stream is told that another one has fenced off."""
    return VideoProcessError("UPLOAD_TAKEN_OVER", "another stream goes on with this upload")
