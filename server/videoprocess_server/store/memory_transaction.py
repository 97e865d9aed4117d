"""A change of the repository in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

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
from videoprocess_server.model.states import TERMINAL_JOB_STATES, JobState, SegmentState
from videoprocess_server.store.codec import R, to_row
from videoprocess_server.store.memory_reader import MemoryReader
from videoprocess_server.store.memory_tables import Tables
from videoprocess_server.store.repository import ConflictError

K = TypeVar("K")


class MemoryTransaction(MemoryReader):
    """Reads and writes tables of its own. After a conflict it can only be undone, whoever catches that error."""

    @property
    def tables(self) -> Tables:
        """What to commit."""
        return self._tables

    def put_session(self, session: Session) -> None:
        """See `Transaction`."""
        self._tables.sessions[session.session_id] = _kept(session)

    def put_video(self, video: Video) -> None:
        """See `Transaction`."""
        self._require(video.video_id != "", "a video without an id")
        self._tables.videos[video.user_id, video.video_id] = _kept(video)

    def delete_video(self, user_id: int, video_id: str) -> None:
        """See `Transaction`."""
        self._tables.videos.pop((user_id, video_id), None)

    def put_job(self, job: Job) -> None:
        """See `Transaction`."""
        if job.state not in TERMINAL_JOB_STATES:
            other = self.get_active_job(job.user_id, job.video_id)
            self._require(other is None or other.job_id == job.job_id, "a second active job of a video")
        self._tables.jobs[job.job_id] = _kept(job)

    def next_accept_number(self) -> int:
        """See `Transaction`."""
        number = self._tables.counters.get("accept_number", 0) + 1
        self._tables.counters["accept_number"] = number
        return number

    def add_plan(self, plan: PlanRecord, segments: Sequence[SegmentRecord]) -> None:
        """See `Transaction`."""
        self._require(plan.plan_id not in self._tables.plans, "a plan that is there")
        self._tables.plans[plan.plan_id] = _kept(plan)
        for segment in segments:
            self._require(
                (segment.plan_id, segment.index) not in self._tables.segments, "a segment that is there"
            )
            self._put_segment(segment)

    def put_plan(self, plan: PlanRecord) -> None:
        """See `Transaction`."""
        known = self.get_plan(plan.plan_id)
        if known is not None:
            self._tables.plans[plan.plan_id] = _kept(replace(known, stages=plan.stages))

    def delete_plan(self, plan_id: str) -> None:
        """See `Transaction`."""
        for segment in self.list_segments(plan_id):
            del self._tables.segments[plan_id, segment.index]
        self._tables.plans.pop(plan_id, None)

    def lease_segments(self, plan_id: str, indices: Sequence[int], lease_token: str) -> bool:
        """See `Transaction`."""
        segments = [self._tables.segments.get((plan_id, index)) for index in set(indices)]
        waiting = [segment for segment in segments if segment and segment.state is SegmentState.WAITING]
        if len(waiting) != len(segments):
            return False
        for segment in waiting:
            leased = replace(segment, state=SegmentState.LEASED, lease_token=lease_token)
            self._put_segment(replace(leased, attempt_count=segment.attempt_count + 1))
        return True

    def finish_segment(self, segment: SegmentRecord, lease_token: str) -> bool:
        """See `Transaction`."""
        known = self._tables.segments.get((segment.plan_id, segment.index))
        if known is None or known.state is not SegmentState.LEASED or known.lease_token != lease_token:
            return False
        self._put_segment(_counted_on(replace(segment, state=SegmentState.DONE, lease_token=""), known))
        return True

    def release_segments(
        self, plan_id: str, *, lease_token: str | None = None, crashed_index: int | None = None
    ) -> None:
        """See `Transaction`."""
        for segment in self.list_segments(plan_id):
            if segment.state is SegmentState.LEASED and lease_token in (None, segment.lease_token):
                crash_count = segment.crash_count + (segment.index == crashed_index)
                waiting = replace(
                    segment, state=SegmentState.WAITING, lease_token="", crash_count=crash_count
                )
                self._put_segment(waiting)

    def reset_segment(self, plan_id: str, index: int) -> None:
        """See `Transaction`."""
        known = self._tables.segments.get((plan_id, index))
        if known is not None and known.state is SegmentState.DONE:
            self._put_segment(_counted_on(SegmentRecord(plan_id=plan_id, index=index), known))

    def put_upload(self, upload: Upload) -> None:
        """See `Transaction`."""
        self._tables.uploads[upload.upload_id] = _kept(upload)

    def delete_upload(self, upload_id: str) -> None:
        """See `Transaction`."""
        self._tables.uploads.pop(upload_id, None)

    def put_artifact(self, artifact: Artifact) -> None:
        """See `Transaction`."""
        self._tables.artifacts[artifact.artifact_id] = _kept(artifact)

    def delete_artifact(self, artifact_id: str) -> None:
        """See `Transaction`."""
        self._tables.artifacts.pop(artifact_id, None)

    def append_event(self, event: Event) -> Event:
        """See `Transaction`."""
        taken = {kept.job_id for kept in self._tables.events.values()} - {""}
        self._require(event.job_id not in taken, "a second event of a job")
        numbered = replace(event, sequence=self._tables.event_sequences.get(event.user_id, 0) + 1)
        self._tables.events[event.user_id, numbered.sequence] = _kept(numbered)
        self._tables.event_sequences[event.user_id] = numbered.sequence
        return numbered

    def put_request(self, request: Request) -> None:
        """See `Transaction`."""
        self._tables.requests[request.user_id, request.method, request.request_id] = _kept(request)

    def put_tombstone(self, tombstone: Tombstone) -> None:
        """See `Transaction`."""
        self._tables.tombstones[tombstone.kind, tombstone.key] = _kept(tombstone)

    def delete_tombstone(self, kind: str, key: str) -> None:
        """See `Transaction`."""
        self._tables.tombstones.pop((kind, key), None)

    def put_replica(self, replica: Replica) -> None:
        """See `Transaction`."""
        self._tables.replicas[replica.replica_id] = _kept(replica)

    def delete_replica(self, replica_id: str) -> None:
        """See `Transaction`."""
        self._tables.replicas.pop(replica_id, None)

    def delete_events_before(self, create_time_before_us: int, limit: int) -> int:
        """See `Transaction`."""
        expired: list[tuple[int, int]] = []
        held: set[int] = set()  # users whose next event is kept
        for (user_id, sequence), event in sorted(self._tables.events.items(), key=lambda item: item[0]):
            if event.create_time_us >= create_time_before_us:
                held.add(user_id)
            if user_id not in held:
                expired.append((user_id, sequence))
        return _delete(self._tables.events, expired[:limit])

    def delete_requests_before(self, create_time_before_us: int, limit: int) -> int:
        """See `Transaction`."""
        expired = [
            (request.create_time_us, key)
            for key, request in self._tables.requests.items()
            if request.create_time_us < create_time_before_us
        ]
        return _delete(self._tables.requests, [key for _, key in sorted(expired)[:limit]])

    def delete_ended_jobs_before(self, end_time_before_us: int, limit: int) -> int:
        """See `Transaction`."""
        named = self._named_job_ids()
        expired = [
            (job.end_time_us, job.job_id)
            for job in self._tables.jobs.values()
            if job.state in TERMINAL_JOB_STATES
            and job.end_time_us is not None
            and job.end_time_us < end_time_before_us
            and job.job_id not in named
        ]
        return _delete(self._tables.jobs, [job_id for _, job_id in sorted(expired)[:limit]])

    def delete_closed_sessions_before(self, close_time_before_us: int, limit: int) -> int:
        """See `Transaction`."""
        named = {job.session_id for job in self._active_jobs()}
        expired = [
            (session.close_time_us, session.session_id)
            for session in self._tables.sessions.values()
            if session.close_time_us is not None
            and session.close_time_us < close_time_before_us
            and session.session_id not in named
        ]
        return _delete(self._tables.sessions, [session_id for _, session_id in sorted(expired)[:limit]])

    def _named_job_ids(self) -> Collection[str]:
        """Return the ids of the jobs that something kept names."""
        tables = self._tables
        return {
            *(video.last_job_id for video in tables.videos.values()),
            *(video.result_job_id for video in tables.videos.values()),
            *(artifact.job_id for artifact in tables.artifacts.values()),
            *(event.job_id for event in tables.events.values()),
            *(request.answer_id for request in tables.requests.values()),
            *(
                job.job_id
                for job in tables.jobs.values()
                if job.state is JobState.COMPLETED and job.plan_id in tables.plans
            ),
        }

    def _put_segment(self, segment: SegmentRecord) -> None:
        """Insert or replace a segment of a plan that is there."""
        self._require(segment.plan_id in self._tables.plans, "a segment of no plan")
        self._require(segment.index >= 0, "a negative index")
        self._require(min(segment.attempt_count, segment.crash_count) >= 0, "a negative count")
        is_leased, is_done = segment.state is SegmentState.LEASED, segment.state is SegmentState.DONE
        self._require(is_leased == bool(segment.lease_token), "a lease without its token, or a token without")
        self._require(is_done == bool(segment.path), "a segment done without its file, or a file without")
        self._tables.segments[segment.plan_id, segment.index] = _kept(segment)

    def _require(self, lawful: bool, what: str) -> None:
        """Refuse what breaks an invariant, and all that follows."""
        if not lawful:
            self._refusal = ConflictError(what)
            raise self._refusal


def _counted_on(segment: SegmentRecord, known: SegmentRecord) -> SegmentRecord:
    """Return the segment with the counters it had."""
    return replace(segment, attempt_count=known.attempt_count, crash_count=known.crash_count)


def _kept(record: R) -> R:
    """Return the record.

    Raises:
        ValueError: a database could not keep it.
    """
    to_row(record)
    return record


def _delete(table: dict[K, R], keys: Iterable[K]) -> int:
    """Delete rows that are there; return how many."""
    return len([table.pop(key) for key in keys])
