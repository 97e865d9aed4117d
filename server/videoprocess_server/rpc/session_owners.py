"""Whose a session is; that never changes, so it is remembered."""

from __future__ import annotations

from collections import OrderedDict

from videoprocess_server.rpc.call_pool import CallPool
from videoprocess_server.store.repository import Repository

MAX_REMEMBERED = 10_000


class SessionOwners:
    """Tells the users of sessions.

    Args:
        repository: what knows all sessions.
        calls: the pool that the store is asked in.
    """

    def __init__(self, repository: Repository, calls: CallPool) -> None:
        self._repository = repository
        self._calls = calls
        self._remembered: OrderedDict[str, int] = OrderedDict()

    async def find(self, session_id: str) -> int | None:
        """Return the session's user; None: there is no such session."""
        user_id = self._remembered.get(session_id)
        if user_id is None:
            user_id = await self._calls.run(self._read, session_id)
        if user_id is not None:
            self._remembered[session_id] = user_id
            self._remembered.move_to_end(session_id)
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return user_id

    def _read(self, session_id: str) -> int | None:
        with self._repository.read() as reader:
            session = reader.get_session(session_id)
        return None if session is None else session.user_id
