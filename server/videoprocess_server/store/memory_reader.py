"""A consistent view of the repository in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from videoprocess_server.model.records import (
    ActiveUser,
    Artifact,
    Event,
    Job,
    PlanRecord,
    Priority,
    Replica,
    Request,
    ResumePoint,
    SegmentRecord,
    Session,
    Tombstone,
    Upload,
    Video,
)
from videoprocess_server.model.states import (
    ACTIVE_VIDEO_STATES,
    TERMINAL_JOB_STATES,
    JobState,
    SegmentState,
    UploadState,
    VideoState,
)
from videoprocess_server.store.memory_tables import Tables


class MemoryReader:
    """Reads tables lent for one `with` block."""

    def __init__(self, tables: Tables) -> None:
        self._lent = tables
        self._refusal: Exception | None = None

    @property
    def _tables(self) -> Tables:
        self.raise_swallowed()
        return self._lent

    def end(self) -> None:
        """Refuse everything from now on."""
        self._refusal = RuntimeError("its `with` block has ended")

    def raise_swallowed(self) -> None:
        """Raise what went wrong before, if anything did: half a change must not be committed."""
        if self._refusal is not None:
            raise self._refusal

    def get_session(self, session_id: str) -> Session | None:
        """See `Reader`."""
        return self._tables.sessions.get(session_id)

    def count_open_sessions(self, user_id: int | None = None) -> int:
        """See `Reader`."""
        return sum(
            session.close_time_us is None and user_id in (None, session.user_id)
            for session in self._tables.sessions.values()
        )

    def list_idle_sessions(self, last_used_before_us: int, limit: int) -> Sequence[Session]:
        """See `Reader`."""
        idle = [
            session
            for session in self._tables.sessions.values()
            if session.close_time_us is None and session.last_used_time_us < last_used_before_us
        ]
        return sorted(idle, key=lambda session: (session.last_used_time_us, session.session_id))[:limit]

    def get_video(self, user_id: int, video_id: str) -> Video | None:
        """See `Reader`."""
        return self._tables.videos.get((user_id, video_id))

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
        listed = [
            video
            for video in self._tables.videos.values()
            if video.user_id == user_id
            and (states is None or video.state in states)
            and video.video_id.startswith(id_prefix)
            and (after is None or (video.create_time_us, video.video_id) > after)
        ]
        return sorted(listed, key=lambda video: (video.create_time_us, video.video_id))[:limit]

    def list_video_positions(
        self,
        user_id: int,
        *,
        states: Collection[VideoState],
        after: tuple[int, str] | None = None,
        limit: int,
    ) -> Sequence[tuple[int, str]]:
        """See `Reader`."""
        listed = self.list_videos(user_id, states=states, after=after, limit=limit)
        return [(video.create_time_us, video.video_id) for video in listed]

    def get_job(self, job_id: str) -> Job | None:
        """See `Reader`."""
        return self._tables.jobs.get(job_id)

    def get_active_job(self, user_id: int, video_id: str) -> Job | None:
        """See `Reader`."""
        return next((job for job in self._active_jobs(user_id) if job.video_id == video_id), None)

    def list_active_jobs(
        self, *, user_id: int | None = None, session_id: str | None = None, limit: int | None = None
    ) -> Sequence[Job]:
        """See `Reader`."""
        active = [job for job in self._active_jobs(user_id) if session_id in (None, job.session_id)]
        return sorted(active, key=_by_acceptance)[:limit]

    def count_active_jobs(self, user_id: int | None = None) -> int:
        """See `Reader`."""
        return len(self._active_jobs(user_id))

    def list_running_jobs(self) -> Sequence[Job]:
        """See `Reader`."""
        running = [job for job in self._tables.jobs.values() if job.state is JobState.RUNNING]
        return sorted(running, key=_by_acceptance)

    def list_active_users(self) -> Sequence[ActiveUser]:
        """See `Reader`."""
        states: dict[int, list[JobState]] = {}
        for job in self._active_jobs():
            states.setdefault(job.user_id, []).append(job.state)
        return [
            ActiveUser(
                user_id=user_id,
                queued_count=states[user_id].count(JobState.QUEUED),
                running_count=states[user_id].count(JobState.RUNNING),
            )
            for user_id in sorted(states)
        ]

    def list_queue_head(self, user_id: int, limit: int) -> Sequence[Job]:
        """See `Reader`."""
        return sorted(self._queued_jobs(user_id), key=_by_turn)[:limit]

    def get_oldest_queued(self, user_id: int) -> Job | None:
        """See `Reader`."""
        return min(self._queued_jobs(user_id), key=_by_acceptance, default=None)

    def get_plan(self, plan_id: str) -> PlanRecord | None:
        """See `Reader`."""
        return self._tables.plans.get(plan_id)

    def find_plan(self, user_id: int, video_id: str, settings_fingerprint: str) -> PlanRecord | None:
        """See `Reader`."""
        worked_off = {job.plan_id for job in self._tables.jobs.values() if job.state is JobState.COMPLETED}
        unfinished = [
            plan
            for plan in self.list_plans(user_id, video_id)
            if plan.settings_fingerprint == settings_fingerprint and plan.plan_id not in worked_off - {""}
        ]
        return unfinished[-1] if unfinished else None

    def find_resume_point(self, user_id: int, video_id: str, settings_fingerprint: str) -> ResumePoint | None:
        """See `Reader`."""
        record = self.find_plan(user_id, video_id, settings_fingerprint)
        if record is None:
            return None
        plan = record.plan
        starts = {segment.index: segment.start_pts for segment in plan.segments}
        rows = self.list_segments(record.plan_id)
        first = next((row.index for row in rows if row.state is not SegmentState.DONE), None)
        pts = plan.end_pts if first is None else starts.get(first, plan.end_pts)
        return ResumePoint(pts=pts, first_pts=plan.first_pts, time_base=plan.time_base)

    def list_plans(self, user_id: int, video_id: str) -> Sequence[PlanRecord]:
        """See `Reader`."""
        plans = [
            plan
            for plan in self._tables.plans.values()
            if (plan.user_id, plan.video_id) == (user_id, video_id)
        ]
        return sorted(plans, key=lambda plan: (plan.create_time_us, plan.plan_id))

    def list_all_plan_ids(self) -> Sequence[str]:
        """See `Reader`."""
        return sorted(self._tables.plans)

    def list_segments(self, plan_id: str) -> Sequence[SegmentRecord]:
        """See `Reader`."""
        segments = [segment for segment in self._tables.segments.values() if segment.plan_id == plan_id]
        return sorted(segments, key=lambda segment: segment.index)

    def count_segments(self, plan_id: str, state: SegmentState) -> int:
        """See `Reader`."""
        return sum(segment.state is state for segment in self.list_segments(plan_id))

    def get_upload(self, upload_id: str) -> Upload | None:
        """See `Reader`."""
        return self._tables.uploads.get(upload_id)

    def list_all_uploads(self) -> Sequence[Upload]:
        """See `Reader`."""
        return [upload for _, upload in sorted(self._tables.uploads.items())]

    def list_active_uploads_among(self, upload_ids: Collection[str]) -> Collection[str]:
        """See `Reader`."""
        uploads = map(self._tables.uploads.get, upload_ids)
        return [each.upload_id for each in uploads if each and each.state is UploadState.ACTIVE]

    def count_videos_of_upload(self, upload_id: str) -> int:
        """See `Reader`."""
        return self._upload_ids_of_videos().count(upload_id)

    def get_artifact(self, artifact_id: str) -> Artifact | None:
        """See `Reader`."""
        return self._tables.artifacts.get(artifact_id)

    def list_artifacts_of_job(self, job_id: str) -> Sequence[Artifact]:
        """See `Reader`."""
        artifacts = [artifact for artifact in self._tables.artifacts.values() if artifact.job_id == job_id]
        return sorted(artifacts, key=lambda artifact: (artifact.stream_id, artifact.artifact_id))

    def list_artifacts_of_video(self, user_id: int, video_id: str) -> Sequence[Artifact]:
        """See `Reader`."""
        artifacts = [
            artifact
            for artifact in self._tables.artifacts.values()
            if (artifact.user_id, artifact.video_id, artifact.detached) == (user_id, video_id, False)
        ]
        return sorted(artifacts, key=lambda artifact: (artifact.create_time_us, artifact.artifact_id))

    def list_expired_artifacts(self, now_us: int, limit: int) -> Sequence[Artifact]:
        """See `Reader`."""
        expired = [
            (artifact.expire_time_us, artifact.artifact_id)
            for artifact in self._tables.artifacts.values()
            if artifact.expire_time_us is not None and artifact.expire_time_us <= now_us
        ]
        return [self._tables.artifacts[artifact_id] for _, artifact_id in sorted(expired)[:limit]]

    def list_all_artifact_ids(self) -> Sequence[str]:
        """See `Reader`."""
        return sorted(self._tables.artifacts)

    def list_expired_videos(self, now_us: int, limit: int) -> Sequence[Video]:
        """See `Reader`."""
        expired = [
            (video.expire_time_us, key)
            for key, video in self._tables.videos.items()
            if video.state is VideoState.DELETED
            and video.expire_time_us is not None
            and video.expire_time_us <= now_us
        ]
        return [self._tables.videos[key] for _, key in sorted(expired)[:limit]]

    def list_expired_uploads(
        self, active_before_us: int, finished_before_us: int, limit: int
    ) -> Sequence[Upload]:
        """See `Reader`."""
        before_us = {UploadState.ACTIVE: active_before_us, UploadState.FINISHED: finished_before_us}
        referred = set(self._upload_ids_of_videos())
        expired = [
            upload
            for upload in self._tables.uploads.values()
            if upload.update_time_us < before_us[upload.state]
            and (upload.state is UploadState.ACTIVE or upload.upload_id not in referred)
        ]
        return sorted(expired, key=lambda upload: (upload.update_time_us, upload.upload_id))[:limit]

    def list_stale_plans(self, before_us: int, limit: int) -> Sequence[PlanRecord]:
        """See `Reader`."""
        idle = {
            key
            for key, video in self._tables.videos.items()
            if video.update_time_us < before_us
            and video.state not in ACTIVE_VIDEO_STATES | {VideoState.DELETED}
        }
        stale = [plan for plan in self._tables.plans.values() if (plan.user_id, plan.video_id) in idle]
        return sorted(
            stale, key=lambda plan: (plan.user_id, plan.video_id, plan.create_time_us, plan.plan_id)
        )[:limit]

    def list_tombstones(self, limit: int) -> Sequence[Tombstone]:
        """See `Reader`."""
        tombstones = self._tables.tombstones.values()
        return sorted(
            tombstones, key=lambda tombstone: (tombstone.create_time_us, tombstone.kind, tombstone.key)
        )[:limit]

    def list_replicas(self) -> Sequence[Replica]:
        """See `Reader`."""
        return sorted(self._tables.replicas.values(), key=lambda replica: replica.replica_id)

    def stored_bytes(self, user_id: int | None = None) -> int:
        """See `Reader`."""
        tables = self._tables
        sizes = [
            *((upload.user_id, upload.size_bytes) for upload in tables.uploads.values()
              if upload.state is UploadState.FINISHED),
            *((tables.plans[segment.plan_id].user_id, segment.size_bytes) for segment in tables.segments.values()
              if segment.state is SegmentState.DONE),
            *((artifact.user_id, artifact.size_bytes) for artifact in tables.artifacts.values()),
        ]  # fmt: skip
        return sum(size_bytes for owner, size_bytes in sizes if user_id in (None, owner))

    def event_bounds(self, user_id: int) -> tuple[int, int]:
        """See `Reader`."""
        newest = self._tables.event_sequences.get(user_id, 0)
        kept = (sequence for owner, sequence in self._tables.events if owner == user_id)
        return min(kept, default=newest + 1), newest

    def list_events(self, user_id: int, after_sequence: int, limit: int) -> Sequence[Event]:
        """See `Reader`."""
        keys = [key for key in self._tables.events if key[0] == user_id and key[1] > after_sequence]
        return [self._tables.events[key] for key in sorted(keys)[:limit]]

    def get_request(self, user_id: int, method: str, request_id: str) -> Request | None:
        """See `Reader`."""
        return self._tables.requests.get((user_id, method, request_id))

    def _active_jobs(self, user_id: int | None = None) -> list[Job]:
        return [
            job
            for job in self._tables.jobs.values()
            if job.state not in TERMINAL_JOB_STATES and user_id in (None, job.user_id)
        ]

    def _queued_jobs(self, user_id: int) -> list[Job]:
        return [job for job in self._active_jobs(user_id) if job.state is JobState.QUEUED]

    def _upload_ids_of_videos(self) -> list[str]:
        return [
            file.upload_id
            for video in self._tables.videos.values()
            for file in (video.source, video.companion)
            if file is not None
        ]


def _by_acceptance(job: Job) -> tuple[int, str]:
    return job.accept_number, job.job_id


def _by_turn(job: Job) -> tuple[bool, int, int, str]:
    """Return what orders a user's queue."""
    is_high = job.priority is Priority.HIGH
    return not is_high, job.queue_class, -job.accept_number if is_high else job.accept_number, job.job_id
