"""How many worker-seconds users have had: what fair shares are measured by."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from videoprocess_server.model.scheduling import fair_start


class Usage:
    """Counts worker-seconds of the users who have work."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._charged_at: float | None = None

    def charge(self, workers: Mapping[int, int], now: float) -> None:
        """Count the time since the last call for users with so many workers; `now` is monotonic seconds."""
        since, self._charged_at = self._charged_at, now
        if since is None:
            return
        for user_id, count in workers.items():
            self._seconds[user_id] = self._seconds.get(user_id, 0.0) + count * (now - since)

    def keep_only(self, user_ids: Collection[int]) -> Mapping[int, float]:
        """Forget who has no work, let in who has some now, and return what all have had."""
        users = set(user_ids)
        present = {user_id: seconds for user_id, seconds in self._seconds.items() if user_id in users}
        others = list(present.values())
        for user_id in users - present.keys():
            present[user_id] = fair_start(0.0, others)
        self._seconds = present
        return dict(present)
