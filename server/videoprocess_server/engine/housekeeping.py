"""What has to be done now and then: idle sessions are closed, results of removed videos deleted."""

from __future__ import annotations

import threading

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.model.clock import Clock
from videoprocess_server.store.repository import Repository, StoreUnavailableError

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 15.0
ARTIFACTS_PER_PASS = 256


class Housekeeping:
    """A thread that tidies up."""

    def __init__(self, repository: Repository, blobs: BlobStore, sessions: Sessions, clock: Clock) -> None:
        self._repository = repository
        self._blobs = blobs
        self._sessions = sessions
        self._clock = clock
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin to tidy up."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def tidy(self) -> None:
        """Do one round."""
        closed = self._sessions.close_idle()
        if closed:
            log.info("idle_sessions_closed", count=closed)
        self._delete_expired_artifacts()

    def _delete_expired_artifacts(self) -> None:
        with self._repository.read() as reader:
            expired = reader.list_expired_artifacts(self._clock.now_us(), ARTIFACTS_PER_PASS)
        for artifact in expired:
            with self._repository.transaction() as tx:
                tx.delete_artifact(artifact.artifact_id)
            self._blobs.delete(BlobKind.RESULT, artifact.artifact_id)

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL_SECONDS):
            try:
                self.tidy()
            except StoreUnavailableError as error:
                log.warning("store_unavailable", error=str(error))
            except Exception:
                log.exception("housekeeping_failed")
