"""Tells subscribers that something happened. What happened, they read from the store: nothing is lost or queued here."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from videoprocess_server.engine.limits import Limits
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.records import Event, Job
from videoprocess_server.model.states import BlockReason
from videoprocess_server.store.repository import Repository

log = structlog.get_logger(__name__)

#: contract §4: progress comes at most 4 times a second per video
PROGRESS_INTERVAL_SECONDS = 0.25
EVENTS_PER_READ = 64


@dataclass(frozen=True)
class StatusChanged:
    """A session's or the service's condition."""

    status: SessionStatus
    #: why work does not run; NONE where it does
    reason: BlockReason
    message: str
    #: "" for a condition of the service
    session_id: str = ""


@dataclass
class Subscription:
    """One reader. Its `wake` is called, from any thread, when `take` may have something new."""

    user_id: int
    session_id: str
    wake: Callable[[], None]
    #: number of the newest event the reader has
    cursor: int
    #: newest progress a video, so that a slow reader skips rather than queues
    progress: dict[str, Job] = field(default_factory=dict)
    statuses: list[StatusChanged] = field(default_factory=list)
    #: grows with what a replay begins with, so that an old cursor is no slowness
    allowed_backlog: int = 0


class EventHub:
    """Connects commits with subscribers."""

    def __init__(self, repository: Repository, limits: Limits) -> None:
        self._repository = repository
        self._limits = limits
        self._lock = threading.Lock()
        self._subscriptions: defaultdict[int, list[Subscription]] = defaultdict(list)
        self._status = StatusChanged(SessionStatus.READY, BlockReason.NONE, "")
        #: user → session → its condition, where that is another than the service's
        self._session_status: defaultdict[int, dict[str, StatusChanged]] = defaultdict(dict)
        self._last_progress: dict[str, float] = {}
        self._relay: Callable[[Job], None] = lambda _job: None

    def subscribe(
        self, user_id: int, session_id: str, after_sequence: int | None, wake: Callable[[], None]
    ) -> Subscription:
        """Open a subscription; the caller ends it with `unsubscribe`.

        Raises:
            VideoProcessError: SEQUENCE_OUT_OF_RANGE, SUBSCRIBER_LIMIT.
        """
        with self._repository.read() as reader:
            oldest, newest = reader.event_bounds(user_id)
        cursor = newest if after_sequence is None else after_sequence
        if cursor > newest or cursor < 0 or 0 < cursor < oldest - 1:
            raise VideoProcessError(
                "SEQUENCE_OUT_OF_RANGE",
                f"events {oldest} to {newest} are kept: subscribe after {oldest - 1} to {newest}, or after 0 for all",
                metadata={"oldest_sequence": str(oldest), "newest_sequence": str(newest)},
            )
        with self._lock:
            if len(self._subscriptions[user_id]) >= self._limits.max_subscribers_per_user:
                raise VideoProcessError(
                    "SUBSCRIBER_LIMIT",
                    f"user {user_id} has {self._limits.max_subscribers_per_user} subscriptions",
                )
            sessions = self._session_status.get(user_id, {}).values()
            now = [self._status, *(told for told in sessions if session_id in ("", told.session_id))]
            subscription = Subscription(user_id, session_id, wake, max(cursor, oldest - 1), statuses=now)
            subscription.allowed_backlog = self._limits.max_subscriber_backlog + newest - subscription.cursor
            self._subscriptions[user_id].append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Close a subscription; closing again does nothing."""
        with self._lock:
            readers = self._subscriptions.get(subscription.user_id, [])
            if subscription in readers:
                readers.remove(subscription)
            if not readers:
                self._subscriptions.pop(subscription.user_id, None)

    def subscription_count(self) -> int:
        """Return how many readers there are."""
        with self._lock:
            return sum(map(len, self._subscriptions.values()))

    def has_subscriber(self, user_id: int, session_id: str) -> bool:
        """Return whether somebody follows this session, or all of the user's."""
        with self._lock:
            return any(s.session_id in ("", session_id) for s in self._subscriptions.get(user_id, ()))

    def take(self, subscription: Subscription) -> Sequence[StatusChanged | Job | Event]:
        """Return what is new for the reader: a status, events in order, then the newest progress of each video.

        Raises:
            VideoProcessError: SUBSCRIBER_TOO_SLOW.
        """
        with self._lock:
            statuses, subscription.statuses = subscription.statuses, []
            progress, subscription.progress = subscription.progress, {}
        with self._repository.read() as reader:
            newest = reader.event_bounds(subscription.user_id)[1]
            events = reader.list_events(subscription.user_id, subscription.cursor, EVENTS_PER_READ)
        if newest - subscription.cursor > subscription.allowed_backlog:
            raise VideoProcessError(
                "SUBSCRIBER_TOO_SLOW",
                f"{newest - subscription.cursor} events behind: subscribe again after {subscription.cursor}",
                metadata={"last_sequence": str(subscription.cursor)},
            )
        if events:
            subscription.cursor = events[-1].sequence
            ended = {event.job_id for event in events}
            progress = {video: job for video, job in progress.items() if job.job_id not in ended}
        mine = [event for event in events if subscription.session_id in ("", event.session_id)]
        if len(events) == EVENTS_PER_READ:
            subscription.wake()
        return [*statuses, *mine, *progress.values()]

    def committed(self, user_id: int) -> None:
        """Tell the user's readers that a transaction with an event was committed."""
        with self._lock:
            readers = list(self._subscriptions.get(user_id, ()))
        _wake(readers)

    def look_again(self) -> None:
        """Tell all readers to look: of some commits nobody may have told them."""
        with self._lock:
            readers = [reader for readers in self._subscriptions.values() for reader in readers]
        _wake(readers)

    def relay_progress(self, tell: Callable[[Job], None]) -> None:
        """Have this called too, as often as readers are told of progress here."""
        self._relay = tell

    def progressed(self, job: Job) -> None:
        """Tell readers how far a job is, at most four times a second a video."""
        now = time.monotonic()
        with self._lock:
            if now - self._last_progress.get(job.job_id, 0.0) < PROGRESS_INTERVAL_SECONDS:
                return
            self._last_progress[job.job_id] = now
        self.show_progress(job)
        self._relay(job)

    def show_progress(self, job: Job) -> None:
        """Leave with readers how far a job is, which somebody else has told seldom enough."""
        with self._lock:
            readers = [
                s for s in self._subscriptions.get(job.user_id, ()) if s.session_id in ("", job.session_id)
            ]
            for reader in readers:
                reader.progress[job.video_id] = job
        _wake(readers)

    def forget_progress(self, job_id: str) -> None:
        """Drop what is kept about a job that ended."""
        with self._lock:
            self._last_progress.pop(job_id, None)

    def status_changed(self, status: SessionStatus, reason: BlockReason, message: str) -> None:
        """Tell everybody a new condition of the service."""
        with self._lock:
            self._status = StatusChanged(status, reason, message)
            readers = [reader for readers in self._subscriptions.values() for reader in readers]
            _put_status(readers, self._status)
        _wake(readers)

    def session_status_changed(
        self, user_id: int, session_id: str, status: SessionStatus, reason: BlockReason, message: str
    ) -> None:
        """Tell a session's readers its condition; READY: that of the service holds again."""
        told = StatusChanged(status, reason, message, session_id)
        with self._lock:
            sessions = self._session_status[user_id]
            sessions.pop(session_id, None)
            if status is not SessionStatus.READY:
                sessions[session_id] = told
            if not sessions:
                del self._session_status[user_id]
            readers = [s for s in self._subscriptions.get(user_id, ()) if s.session_id in ("", session_id)]
            _put_status(readers, told)
        _wake(readers)


def _wake(readers: Sequence[Subscription]) -> None:
    """Wake each; a reader that fails harms neither the others nor whoever had something to tell."""
    for reader in readers:
        try:
            reader.wake()
        except Exception:
            log.exception("reader_not_woken", user_id=reader.user_id)


def _put_status(readers: Sequence[Subscription], told: StatusChanged) -> None:
    """Leave a condition for each reader; one that it has not read yet is replaced."""
    for reader in readers:
        reader.statuses = [old for old in reader.statuses if old.session_id != told.session_id] + [told]
