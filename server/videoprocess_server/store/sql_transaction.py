"""A change of a database that speaks SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from videoprocess_server.model.records import (
    Artifact,
    Event,
    Job,
    PlanRecord,
    Replica,
    Request,
    SegmentRecord,
    Session,
    Tombstone,
    Upload,
    Video,
)
from videoprocess_server.model.states import TERMINAL_JOB_STATES
from videoprocess_server.store.codec import Record, SqlValue, to_row
from videoprocess_server.store.sql_reader import SqlReader, Statements


class SqlTransaction(SqlReader):
    """Reads and writes on one connection. After an error it can only be undone, whoever catches that error."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._ended_jobs: dict[str, Job] = {}

    def ended_jobs(self) -> Sequence[Job]:
        """Return the jobs that this change ended."""
        return tuple(self._ended_jobs.values())

    def put_session(self, session: Session) -> None:
        """See `Transaction`."""
        self._put("put_session", session)

    def put_video(self, video: Video) -> None:
        """See `Transaction`."""
        self._put("put_video", video)

    def delete_video(self, user_id: int, video_id: str) -> None:
        """See `Transaction`."""
        self._run("delete_video", user_id=user_id, video_id=video_id)

    def put_job(self, job: Job) -> None:
        """See `Transaction`."""
        self._put("put_job", job)
        if job.state in TERMINAL_JOB_STATES:
            self._ended_jobs[job.job_id] = job

    def next_accept_number(self) -> int:
        """See `Transaction`."""
        return self.count_up("accept_number")

    def count_up(self, name: str) -> int:
        """Return the next number of a service-wide counter."""
        return self._number("count_up", name=name)

    def add_plan(self, plan: PlanRecord, segments: Sequence[SegmentRecord]) -> None:
        """See `Transaction`."""
        self._put("add_plan", plan)
        with self._guard():
            self._statements.run_each("add_segment", [to_row(segment) for segment in segments])

    def put_plan(self, plan: PlanRecord) -> None:
        """See `Transaction`."""
        self._put("put_plan", plan)

    def delete_plan(self, plan_id: str) -> None:
        """See `Transaction`."""
        self._run("delete_plan", plan_id=plan_id)

    def lease_segments(self, plan_id: str, indices: Sequence[int], lease_token: str) -> bool:
        """See `Transaction`."""
        wanted = sorted(set(indices))
        leased = self._run(
            "lease_segments",
            plan_id=plan_id,
            indices=json.dumps(wanted),
            count=len(wanted),
            lease_token=lease_token,
        )
        return leased == len(wanted)

    def finish_segment(self, segment: SegmentRecord, lease_token: str) -> bool:
        """See `Transaction`."""
        return self._run("finish_segment", **to_row(segment), expected_token=lease_token) == 1

    def release_segments(
        self, plan_id: str, *, lease_token: str | None = None, crashed_index: int | None = None
    ) -> None:
        """See `Transaction`."""
        self._run("release_segments", plan_id=plan_id, lease_token=lease_token, crashed_index=crashed_index)

    def reset_segment(self, plan_id: str, index: int) -> None:
        """See `Transaction`."""
        self._run("reset_segment", plan_id=plan_id, index=index)

    def put_upload(self, upload: Upload) -> None:
        """See `Transaction`."""
        self._put("put_upload", upload)

    def delete_upload(self, upload_id: str) -> None:
        """See `Transaction`."""
        self._run("delete_upload", upload_id=upload_id)

    def put_artifact(self, artifact: Artifact) -> None:
        """See `Transaction`."""
        self._put("put_artifact", artifact)

    def delete_artifact(self, artifact_id: str) -> None:
        """See `Transaction`."""
        self._run("delete_artifact", artifact_id=artifact_id)

    def append_event(self, event: Event) -> Event:
        """See `Transaction`."""
        numbered = replace(event, sequence=self._number("next_event_sequence", user_id=event.user_id))
        self._put("append_event", numbered)
        return numbered

    def put_request(self, request: Request) -> None:
        """See `Transaction`."""
        self._put("put_request", request)

    def put_tombstone(self, tombstone: Tombstone) -> None:
        """See `Transaction`."""
        self._put("put_tombstone", tombstone)

    def delete_tombstone(self, kind: str, key: str) -> None:
        """See `Transaction`."""
        self._run("delete_tombstone", kind=kind, key=key)

    def put_replica(self, replica: Replica) -> None:
        """See `Transaction`."""
        self._put("put_replica", replica)

    def delete_replica(self, replica_id: str) -> None:
        """See `Transaction`."""
        self._run("delete_replica", replica_id=replica_id)

    def delete_events_before(self, create_time_before_us: int, limit: int) -> int:
        """See `Transaction`."""
        return self._run("delete_events_before", create_time_before_us=create_time_before_us, limit=limit)

    def delete_requests_before(self, create_time_before_us: int, limit: int) -> int:
        """See `Transaction`."""
        return self._run("delete_requests_before", create_time_before_us=create_time_before_us, limit=limit)

    def delete_ended_jobs_before(self, end_time_before_us: int, limit: int) -> int:
        """See `Transaction`."""
        return self._run("delete_ended_jobs_before", end_time_before_us=end_time_before_us, limit=limit)

    def delete_closed_sessions_before(self, close_time_before_us: int, limit: int) -> int:
        """See `Transaction`."""
        return self._run(
            "delete_closed_sessions_before", close_time_before_us=close_time_before_us, limit=limit
        )

    def _put(self, query: str, record: Record) -> None:
        self._run(query, **to_row(record))

    def _run(self, query: str, **parameters: SqlValue) -> int:
        """Run a statement that changes rows; return how many it changed."""
        with self._guard():
            return self._statements.run(query, parameters)
