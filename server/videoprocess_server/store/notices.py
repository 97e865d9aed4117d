"""What one process of the service tells the others through the database: that there is something to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

MOST_NOTICE_BYTES = 7999  # of a topic and its payload together, as UTF-8


class Notices(Protocol):
    """Tells and hears. Notices of events and jobs are sent by the transactions that change them, when these are durable.

    A notice says where to look, no more: it may come late, twice or, while the database is away, not at all.
    """

    def listen(
        self,
        on_event: Callable[[int], None],
        on_job: Callable[[str], None],
        on_reconnect: Callable[[], None],
        on_announcement: Callable[[str, str], None] = lambda _topic, _payload: None,
    ) -> Callable[[], None]:
        """Call these from a thread of its own, one at a time, until what is returned is called.

        Args:
            on_event: an event of this user was appended, by whatever process, this one too.
            on_job: this job was put.
            on_reconnect: listening began, at first or again: whatever was told before may have been missed, so look at everything.
            on_announcement: a topic and its payload were announced.
        """
        ...

    def announce(self, topic: str, payload: str) -> None:
        """Tell all who listen now, outside of any transaction. Where the database is away, nobody hears it, and nothing is raised.

        Args:
            topic: of what; without a line feed.
            payload: any text.

        Raises:
            ValueError: both together are longer than MOST_NOTICE_BYTES, or the topic has a line feed.
        """
        ...
