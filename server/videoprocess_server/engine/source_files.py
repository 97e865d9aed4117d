"""The files that a video is made of: one, or the three of v1_5, [movie, movie again, input]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from videoprocess_server.engine.sources import Sources
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.records import Source, SourceKind, Video
from videoprocess_server.store.repository import Reader

#: files that Prepare takes at once
_FILE_COUNTS = frozenset({1, 3})
#: frames per second where no file tells
_FALLBACK_RATE = Fraction(30)


@dataclass(frozen=True, kw_only=True)
class UploadReference:
    """A FileDescriptor that names an upload."""

    upload_id: str


@dataclass(frozen=True, kw_only=True)
class SharedReference:
    """A FileDescriptor that names a file below a shared root."""

    root: str
    path: str


@dataclass(frozen=True, kw_only=True)
class TokenReference:
    """A FileDescriptor that names an open file by its token."""

    token: str


@dataclass(frozen=True, kw_only=True)
class CopiedReference:
    """The copy of an open file. No caller can name one."""

    upload_id: str


FileReference = UploadReference | SharedReference | TokenReference | CopiedReference


@dataclass(frozen=True, kw_only=True)
class SourceFiles:
    """The file that pictures come from, and the one of sound and metadata where that is another."""

    pictures: Source
    companion: Source | None = None

    @property
    def all(self) -> tuple[Source, ...]:
        """One or two."""
        return (self.pictures,) if self.companion is None else (self.pictures, self.companion)

    def are_of(self, video: Video) -> bool:
        """Return whether the video was made of the same files."""
        return [file.identity for file in self.all] == [file.identity for file in files_of(video)]


def files_of(video: Video) -> tuple[Source, ...]:
    """Return the files of a video: none, one or two."""
    return tuple(file for file in (video.source, video.companion) if file is not None)


def source_of(sources: Sources, reader: Reader, user_id: int, file: FileReference) -> Source:
    """Return the file that a caller names.

    Raises:
        VideoProcessError: UNKNOWN_UPLOAD, UPLOAD_UNFINISHED, EMPTY_FILE, UNKNOWN_ROOT, NO_SUCH_PATH, PATH_OUTSIDE_ROOT,
            NOT_A_REGULAR_FILE, FILE_UNREADABLE, UNKNOWN_FD_TOKEN.
    """
    match file:
        case UploadReference():
            return sources.of_upload(reader, user_id, file.upload_id)
        case CopiedReference():
            return sources.of_upload(reader, user_id, file.upload_id, SourceKind.DESCRIPTOR)
        case SharedReference():
            return sources.of_shared_path(user_id, file.root, file.path)
        case TokenReference():  # `CopiedFiles` has put a copy in the place of each that may be used
            raise VideoProcessError("UNKNOWN_FD_TOKEN", "the token names nothing")


def check_count(files: Sequence[FileReference]) -> None:
    """Return if Prepare takes so many files at once.

    Raises:
        VideoProcessError: BAD_FD_COUNT.
    """
    if len(files) not in _FILE_COUNTS:
        raise VideoProcessError(
            "BAD_FD_COUNT", f"{len(files)} files given", {"fds": "give no file, one, or three"}
        )


def resolve(sources: Sources, reader: Reader, user_id: int, files: Sequence[FileReference]) -> SourceFiles:
    """Return the files that Prepare names.

    Raises:
        VideoProcessError: BAD_FD_COUNT, MOVIES_DIFFER, or a reason of `source_of`.
    """
    check_count(files)
    movie, *more = (source_of(sources, reader, user_id, file) for file in files)
    if not more:
        return SourceFiles(pictures=movie)
    again, last = more
    if again.identity != movie.identity:
        raise VideoProcessError(
            "MOVIES_DIFFER", "the second file is not the first one", {"fds": "give the first file twice"}
        )
    return SourceFiles(pictures=movie, companion=None if last.identity == movie.identity else last)


def check_durations(movie: MediaInfo, companion: MediaInfo) -> None:
    """Return if pictures of one file and sound of the other belong together, as far as the files tell.

    Raises:
        VideoProcessError: DURATIONS_DIFFER, by more than a frame.
    """
    seconds = [_duration(media) for media in (movie, companion)]
    if seconds[0] is None or seconds[1] is None:
        return
    rate = movie.video.average_frame_rate or companion.video.average_frame_rate or _FALLBACK_RATE
    if abs(seconds[0] - seconds[1]) > 1 / rate:
        raise VideoProcessError(
            "DURATIONS_DIFFER",
            f"the movie is {float(seconds[0]):.3f} s long, the input {float(seconds[1]):.3f} s",
            {"fds": "the third file is longer or shorter than the first"},
        )


def _duration(media: MediaInfo) -> Fraction | None:
    """Return the seconds of the video track, or else of the file."""
    if media.video.duration is not None:
        return media.video.duration
    return None if media.duration_us is None else Fraction(media.duration_us, 1_000_000)
