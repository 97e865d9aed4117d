"""Watermarks: the picture that a caller names is read, looked at by a worker, and kept with the session's settings."""

from __future__ import annotations

import os
from dataclasses import replace

from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.engine.copied_files import CopiedFiles, IsOver, never
from videoprocess_server.engine.probes import Probes
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.source_files import FileReference, source_of
from videoprocess_server.engine.sources import SourceChangedError, Sources
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.settings_snapshot import ModeSetting
from videoprocess_server.model.tasks import WatermarkTask
from videoprocess_server.store.repository import Repository

#: of a picture's file; it is kept with the settings, and goes with every plan and task
MAX_IMAGE_BYTES = 512 * 1024


class Watermarks:
    """Brings pictures into settings."""

    def __init__(
        self,
        repository: Repository,
        sessions: Sessions,
        sources: Sources,
        probes: Probes,
        copies: CopiedFiles,
    ) -> None:
        self._repository = repository
        self._copies = copies
        self._sessions = sessions
        self._sources = sources
        self._probes = probes

    def read(
        self,
        caller: Caller,
        session_id: str,
        setting: ModeSetting,
        file: FileReference,
        is_over: IsOver = never,
    ) -> ModeSetting:
        """Return the settings with the picture in their watermark.

        Raises:
            VideoProcessError: SESSION_CLOSED, BAD_WATERMARK, PROBE_BUSY, PROBE_FAILED, DRAINING, or a reason of `source_of` or
                `CopiedFiles.of`.
        """
        assert setting.watermark is not None
        session = self._sessions.use(caller, session_id)
        copied = self._copies.of(caller, session.user_id, [file], is_over=is_over, max_bytes=MAX_IMAGE_BYTES)
        with copied as (given,):
            image = self._read(session.user_id, given)
        try:
            with self._probes.place():
                self._probes.run(WatermarkTask(image=image), None)
        except VideoProcessError as error:
            if error.reason != "BAD_WATERMARK":
                raise
            raise _bad(error.message) from error
        return replace(setting, watermark=replace(setting.watermark, image=image))

    def _read(self, user_id: int, file: FileReference) -> bytes:
        with self._repository.read() as reader:
            source = source_of(self._sources, reader, user_id, file)
        if source.size_bytes > MAX_IMAGE_BYTES:
            raise _bad(f"the picture has {source.size_bytes} bytes, at most {MAX_IMAGE_BYTES} are taken")
        try:
            fd = self._sources.open(user_id, source)
        except SourceChangedError as error:
            raise _bad(error.message) from error
        with os.fdopen(fd, "rb") as opened:
            image = opened.read(MAX_IMAGE_BYTES + 1)
        if len(image) != source.size_bytes:
            raise _bad("the picture was changed while it was read")
        return image


def _bad(message: str) -> VideoProcessError:
    return VideoProcessError("BAD_WATERMARK", message, {"typed.watermark.image": message})
