"""What has to be done now and then: idle sessions are closed, what has expired goes, and its bytes are deleted."""

from __future__ import annotations

import threading

import structlog

from videoprocess_server.engine.clock_watch import ClockWatch
from videoprocess_server.engine.retention import Expirations
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.sweeper import Sweeper
from videoprocess_server.store.repository import StoreUnavailableError

log = structlog.get_logger(__name__)


class Housekeeping:
    """A thread that tidies up.

    Args:
        sessions: of which idle ones are closed.
        expirations: of what is kept for a time.
        sweeper: of bytes that no row names.
        watch: says whether wall time may be believed.
        interval_seconds: between two rounds.
    """

    def __init__(
        self,
        sessions: Sessions,
        expirations: Expirations,
        sweeper: Sweeper,
        watch: ClockWatch,
        interval_seconds: float,
    ) -> None:
        self._sessions = sessions
        self._expirations = expirations
        self._sweeper = sweeper
        self._watch = watch
        self._interval_seconds = interval_seconds
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
        """Do one round. What wall time decides waits while it cannot be believed."""
        self._watch.look()
        self._sweeper.sweep()
        if self._watch.has_jumped:
            self._sessions.give_idle_time_again()
        else:
            self._close_idle_sessions()
        if self._watch.is_steady:
            self._expirations.expire()
            self._sweeper.sweep()

    def _close_idle_sessions(self) -> None:
        closed = self._sessions.close_idle()
        if closed:
            log.info("idle_sessions_closed", count=closed)

    def _run(self) -> None:
        while not self._closing.wait(self._interval_seconds):
            try:
                self.tidy()
            except StoreUnavailableError as error:
                log.warning("store_unavailable", error=str(error))
            except Exception:
                log.exception("housekeeping_failed")
