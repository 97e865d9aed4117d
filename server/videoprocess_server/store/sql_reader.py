"""A consistent view of a database that speaks SQL, whichever it is: `Statements` are its own."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from videoprocess_server.model.records import (
    ActiveUser,
    Artifact,
    Event,
    Job,
    PlanRecord,
    Replica,
    Request,
    ResumePoint,
    SegmentRecord,
    Session,
    Tombstone,
    Upload,
    Video,
)
from videoprocess_server.model.states import SegmentState, VideoState
from videoprocess_server.store.codec import R, SqlValue, from_row

_BEFORE_ALL = (-(2**63), "")  # no video id is empty
_NO_LIMIT = 2**63 - 1

#: a row by the names of its columns
Row = Mapping[str, Any]


class Statements(Protocol):
    """Runs the named queries of `store/sql` on one connection.

    Every method raises ConflictError where a constraint refused the change, and StoreUnavailableError where the database did.
    """

    def rows(self, query: str, parameters: Mapping[str, SqlValue]) -> Sequence[Row]:
        """Return all rows of a query."""
        ...

    def rows_in_states(
        self, query: str, states: Collection[str], parameters: Mapping[str, SqlValue], limit: int
    ) -> Sequence[Row]:
        """Return the first `limit` rows of a query over these states, by (create_time_us, video_id).

        Rows of each state are read in order, and no further than the page needs.
        """
        ...

    def run(self, query: str, parameters: Mapping[str, SqlValue]) -> int:
        """Run a statement that changes rows; return how many it changed."""
        ...

    def run_each(self, query: str, rows: Sequence[Mapping[str, SqlValue]]) -> None:
        """Run it with the parameters of each row."""
        ...


class SqlReader:
    """Reads on a connection lent for one `with` block."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._refusal: Exception | None = None

    def end(self) -> None:
        """Refuse everything from now on: the connection serves others."""
        self._refusal = RuntimeError("its `with` block has ended")

    def raise_swallowed(self) -> None:
        """Raise what went wrong before, if anything did: half a change must not be committed."""
        if self._refusal is not None:
            raise self._refusal

    def get_session(self, session_id: str) -> Session | None:
        """See `Reader`."""
        return self._find(Session, "get_session", session_id=session_id)

    def count_open_sessions(self, user_id: int | None = None) -> int:
        """See `Reader`."""
        return self._number("count_open_sessions", user_id=user_id)

    def list_idle_sessions(self, last_used_before_us: int, limit: int) -> Sequence[Session]:
        """See `Reader`."""
        return self._list(Session, "list_idle_sessions", last_used_before_us=last_used_before_us, limit=limit)

    def get_video(self, user_id: int, video_id: str) -> Video | None:
        """See `Reader`."""
        return self._find(Video, "get_video", user_id=user_id, video_id=video_id)

    def list_videos(
        self,
        user_id: int,
        *,
        states: Collection[VideoState] | None = None,
        id_prefix: str = "",
        after: tuple[int, str] | None = None,
        limit: int,
    ) -> Sequence[Video]:
        """See `Reader`."""
        after_time_us, after_video_id = after or _BEFORE_ALL
        page: dict[str, SqlValue] = {
            "user_id": user_id,
            "after_time_us": after_time_us,
            "after_video_id": after_video_id,
            "id_from": id_prefix,
            "id_to": _end_of_prefix(id_prefix),
            "limit": limit,
        }
        if states is None:
            return self._list(Video, "list_videos", **page)
        rows = self._rows_in_states("list_videos_in_state", states, page, limit)
        return [from_row(Video, row) for row in rows]

    def list_video_positions(
        self,
        user_id: int,
        *,
        states: Collection[VideoState],
        after: tuple[int, str] | None = None,
        limit: int,
    ) -> Sequence[tuple[int, str]]:
        """See `Reader`."""
        after_time_us, after_video_id = after or _BEFORE_ALL
        page: dict[str, SqlValue] = {
            "user_id": user_id,
            "after_time_us": after_time_us,
            "after_video_id": after_video_id,
            "limit": limit,
        }
        rows = self._rows_in_states("list_positions_in_state", states, page, limit)
        return [(row["create_time_us"], row["video_id"]) for row in rows]

    def get_job(self, job_id: str) -> Job | None:
        """See `Reader`."""
        return self._find(Job, "get_job", job_id=job_id)

    def get_active_job(self, user_id: int, video_id: str) -> Job | None:
        """See `Reader`."""
        return self._find(Job, "get_active_job", user_id=user_id, video_id=video_id)

    def list_active_jobs(
        self, *, user_id: int | None = None, session_id: str | None = None, limit: int | None = None
    ) -> Sequence[Job]:
        """See `Reader`."""
        limit = _NO_LIMIT if limit is None else limit
        if session_id is not None:
            query = "list_active_jobs_of_session"
            return self._list(Job, query, session_id=session_id, user_id=user_id, limit=limit)
        if user_id is not None:
            return self._list(Job, "list_active_jobs_of_user", user_id=user_id, limit=limit)
        return self._list(Job, "list_active_jobs", limit=limit)

    def count_active_jobs(self, user_id: int | None = None) -> int:
        """See `Reader`."""
        if user_id is None:
            return self._number("count_active_jobs")
        return self._number("count_active_jobs_of_user", user_id=user_id)

    def list_running_jobs(self) -> Sequence[Job]:
        """See `Reader`."""
        return self._list(Job, "list_running_jobs")

    def list_active_users(self) -> Sequence[ActiveUser]:
        """See `Reader`."""
        return [ActiveUser(**row) for row in self._rows("list_active_users")]

    def list_queue_head(self, user_id: int, limit: int) -> Sequence[Job]:
        """See `Reader`."""
        return self._list(Job, "list_queue_head", user_id=user_id, limit=limit)

    def get_oldest_queued(self, user_id: int) -> Job | None:
        """See `Reader`."""
        return self._find(Job, "get_oldest_queued", user_id=user_id)

    def get_plan(self, plan_id: str) -> PlanRecord | None:
        """See `Reader`."""
        return self._find(PlanRecord, "get_plan", plan_id=plan_id)

    def find_plan(self, user_id: int, video_id: str, settings_fingerprint: str) -> PlanRecord | None:
        """See `Reader`."""
        return self._find(
            PlanRecord,
            "find_plan",
            user_id=user_id,
            video_id=video_id,
            settings_fingerprint=settings_fingerprint,
        )

    def find_resume_point(self, user_id: int, video_id: str, settings_fingerprint: str) -> ResumePoint | None:
        """See `Reader`."""
        rows = self._rows(
            "find_resume_point",
            user_id=user_id,
            video_id=video_id,
            settings_fingerprint=settings_fingerprint,
        )
        return from_row(ResumePoint, rows[0]) if rows else None

    def list_plans(self, user_id: int, video_id: str) -> Sequence[PlanRecord]:
        """See `Reader`."""
        return self._list(PlanRecord, "list_plans", user_id=user_id, video_id=video_id)

    def list_all_plan_ids(self) -> Sequence[str]:
        """See `Reader`."""
        return [row["plan_id"] for row in self._rows("list_all_plan_ids")]

    def list_segments(self, plan_id: str) -> Sequence[SegmentRecord]:
        """See `Reader`."""
        return self._list(SegmentRecord, "list_segments", plan_id=plan_id)

    def count_segments(self, plan_id: str, state: SegmentState) -> int:
        """See `Reader`."""
        return self._number("count_segments", plan_id=plan_id, state=state.value)

    def get_upload(self, upload_id: str) -> Upload | None:
        """See `Reader`."""
        return self._find(Upload, "get_upload", upload_id=upload_id)

    def list_all_uploads(self) -> Sequence[Upload]:
        """See `Reader`."""
        return self._list(Upload, "list_all_uploads")

    def list_active_uploads_among(self, upload_ids: Collection[str]) -> Collection[str]:
        """See `Reader`."""
        found = self._rows("list_active_uploads_among", upload_ids=json.dumps(sorted(upload_ids)))
        return [row["upload_id"] for row in found]

    def count_videos_of_upload(self, upload_id: str) -> int:
        """See `Reader`."""
        return self._number("count_videos_of_upload", upload_id=upload_id)

    def get_artifact(self, artifact_id: str) -> Artifact | None:
        """See `Reader`."""
        return self._find(Artifact, "get_artifact", artifact_id=artifact_id)

    def list_artifacts_of_job(self, job_id: str) -> Sequence[Artifact]:
        """See `Reader`."""
        return self._list(Artifact, "list_artifacts_of_job", job_id=job_id)

    def list_artifacts_of_video(self, user_id: int, video_id: str) -> Sequence[Artifact]:
        """See `Reader`."""
        return self._list(Artifact, "list_artifacts_of_video", user_id=user_id, video_id=video_id)

    def list_expired_artifacts(self, now_us: int, limit: int) -> Sequence[Artifact]:
        """See `Reader`."""
        return self._list(Artifact, "list_expired_artifacts", now_us=now_us, limit=limit)

    def list_all_artifact_ids(self) -> Sequence[str]:
        """See `Reader`."""
        return [row["artifact_id"] for row in self._rows("list_all_artifact_ids")]

    def list_expired_videos(self, now_us: int, limit: int) -> Sequence[Video]:
        """See `Reader`."""
        return self._list(Video, "list_expired_videos", now_us=now_us, limit=limit)

    def list_expired_uploads(
        self, active_before_us: int, finished_before_us: int, limit: int
    ) -> Sequence[Upload]:
        """See `Reader`."""
        return self._list(
            Upload,
            "list_expired_uploads",
            active_before_us=active_before_us,
            finished_before_us=finished_before_us,
            limit=limit,
        )

    def list_stale_plans(self, before_us: int, limit: int) -> Sequence[PlanRecord]:
        """See `Reader`."""
        return self._list(PlanRecord, "list_stale_plans", before_us=before_us, limit=limit)

    def list_tombstones(self, limit: int) -> Sequence[Tombstone]:
        """See `Reader`."""
        return self._list(Tombstone, "list_tombstones", limit=limit)

    def list_replicas(self) -> Sequence[Replica]:
        """See `Reader`."""
        return self._list(Replica, "list_replicas")

    def stored_bytes(self, user_id: int | None = None) -> int:
        """See `Reader`."""
        if user_id is None:
            return self._number("stored_bytes")
        return self._number("stored_bytes_of_user", user_id=user_id)

    def event_bounds(self, user_id: int) -> tuple[int, int]:
        """See `Reader`."""
        (bounds,) = self._rows("event_bounds", user_id=user_id)
        oldest, newest = bounds["oldest"], bounds["newest"]
        return (newest + 1 if oldest is None else oldest), newest

    def list_events(self, user_id: int, after_sequence: int, limit: int) -> Sequence[Event]:
        """See `Reader`."""
        return self._list(Event, "list_events", user_id=user_id, after_sequence=after_sequence, limit=limit)

    def get_request(self, user_id: int, method: str, request_id: str) -> Request | None:
        """See `Reader`."""
        return self._find(Request, "get_request", user_id=user_id, method=method, request_id=request_id)

    def _find(self, kind: type[R], query: str, **parameters: SqlValue) -> R | None:
        """Return the record of the only row, if there is one."""
        return next(iter(self._list(kind, query, **parameters)), None)

    def _list(self, kind: type[R], query: str, **parameters: SqlValue) -> list[R]:
        return [from_row(kind, row) for row in self._rows(query, **parameters)]

    def _number(self, query: str, **parameters: SqlValue) -> int:
        """Return the only value of the only row."""
        ((number,),) = (row.values() for row in self._rows(query, **parameters))
        return int(number)

    def _rows(self, query: str, **parameters: SqlValue) -> Sequence[Row]:
        with self._guard():
            return self._statements.rows(query, parameters)

    def _rows_in_states(
        self, query: str, states: Collection[VideoState], page: Mapping[str, SqlValue], limit: int
    ) -> Sequence[Row]:
        with self._guard():
            return self._statements.rows_in_states(query, {state.value for state in states}, page, limit)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Refuse all that follows a failure: it may have ended the transaction, and what follows would be its own."""
        self.raise_swallowed()
        try:
            yield
        except Exception as error:
            self._refusal = error
            raise


def _end_of_prefix(prefix: str) -> str | None:
    """Return the first string after all that start with the prefix, None for no end. Code points order as their UTF-8 does."""
    kept = prefix.rstrip(chr(0x10FFFF))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are no characters
