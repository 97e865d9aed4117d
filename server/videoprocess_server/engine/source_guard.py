"""Opens the files of a job's video, and notices when somebody touches them while they are read."""

from __future__ import annotations

from videoprocess_server.engine.assignment import Assignment
from videoprocess_server.engine.sources import Sources, SourceTouchedError
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.records import Source


class SourceGuard:
    """The file that pictures come from, and the one of sound and metadata, which mostly is the same.

    Args:
        assignment: whose video.
        sources: opens files.
    """

    def __init__(self, assignment: Assignment, sources: Sources) -> None:
        self._assignment = assignment
        self._sources = sources
        #: of the pictures' file, as of the last look at its packets
        self._known_ns: int | None = None
        #: of the companion, when this try of production began
        self._known_companion_ns: int | None = None

    @property
    def companion_media(self) -> MediaInfo:
        """What Prepare learnt of the file that sound and metadata come from."""
        video = self._assignment.video
        media = video.companion_media or video.media
        assert media is not None
        return media

    def open(self) -> int:
        """Return a new descriptor of the file that pictures come from.

        Raises:
            SourceChangedError: it is another file, or is gone.
        """
        return self._sources.open(self._user_id, self._pictures)

    def open_companion(self) -> int:
        """Return a new descriptor of the file that sound and metadata come from.

        Raises:
            SourceChangedError: it is another file, or is gone.
        """
        return self._sources.open(self._user_id, self._assignment.video.companion or self._pictures)

    def change_time_ns(self) -> int | None:
        """Return when anything about the pictures' file last changed; None for one that never does.

        Raises:
            SourceChangedError: it is another file, or is gone.
        """
        return self._sources.change_time_ns(self._user_id, self._pictures)

    def begin(self, known_ns: int | None) -> None:
        """Begin a try: the pictures' file is the known one if it last changed then."""
        self._known_ns = known_ns
        self._known_companion_ns = self._companion_ns()

    def check(self) -> None:
        """Return if both files are as they were when they were last looked at.

        Raises:
            SourceTouchedError: something about one has changed.
            SourceChangedError: one is another file, or is gone.
        """
        if self.is_touched():
            raise SourceTouchedError

    def is_touched(self) -> bool:
        """Return whether something about a file has changed since it was last looked at.

        Raises:
            SourceChangedError: one is another file, or is gone.
        """
        return self.change_time_ns() != self._known_ns or self._companion_ns() != self._known_companion_ns

    @property
    def _user_id(self) -> int:
        return self._assignment.video.user_id

    @property
    def _pictures(self) -> Source:
        source = self._assignment.video.source
        assert source is not None
        return source

    def _companion_ns(self) -> int | None:
        companion = self._assignment.video.companion
        return self._sources.change_time_ns(self._user_id, companion) if companion else None
