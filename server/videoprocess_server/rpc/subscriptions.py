"""Subscriptions as Subscribe needs them: authorised, and ended when their session is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from videoprocess_server.engine.authorisation import Caller, Policy, authorise
from videoprocess_server.engine.events import EventHub, StatusChanged, Subscription
from videoprocess_server.model.records import Event, Job
from videoprocess_server.store.repository import Repository


@dataclass(frozen=True)
class Batch:
    """What one look brought."""

    items: Sequence[StatusChanged | Job | Event]
    #: the session that was asked for is closed, or none of the user's
    session_closed: bool
    #: the session is closed and all its kept events were taken
    ended: bool


class Subscriptions:
    """Opens and reads subscriptions. Every method may wait for the store."""

    def __init__(self, repository: Repository, hub: EventHub, policy: Policy) -> None:
        self._repository = repository
        self._hub = hub
        self._policy = policy

    def newest_sequence(self, user_id: int) -> int:
        """Return the number of the user's newest event; 0 before the first."""
        with self._repository.read() as reader:
            return reader.event_bounds(user_id)[1]

    def open(
        self,
        caller: Caller,
        user_id: int,
        session_id: str,
        after_sequence: int | None,
        wake: Callable[[], None],
    ) -> Subscription:
        """Open a subscription, which the caller closes.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, SEQUENCE_OUT_OF_RANGE, SUBSCRIBER_LIMIT.
        """
        authorise(self._policy, caller, user_id)
        return self._hub.subscribe(user_id, session_id, after_sequence, wake)

    def close(self, subscription: Subscription) -> None:
        """Close a subscription; closing again does nothing."""
        self._hub.unsubscribe(subscription)

    def take(self, subscription: Subscription) -> Batch:
        """Return what is new, and whether anything can follow.

        Raises:
            VideoProcessError: SUBSCRIBER_TOO_SLOW.
        """
        # before the events: whatever was committed before the session closed is then among them
        closed = bool(subscription.session_id) and not self._is_open(subscription)
        cursor = subscription.cursor
        items = self._hub.take(subscription)
        return Batch(items, closed, ended=closed and subscription.cursor == cursor)

    def _is_open(self, subscription: Subscription) -> bool:
        """Another user's session is told from an unknown one by nothing."""
        with self._repository.read() as reader:
            session = reader.get_session(subscription.session_id)
        return (
            session is not None and session.close_time_us is None and session.user_id == subscription.user_id
        )
