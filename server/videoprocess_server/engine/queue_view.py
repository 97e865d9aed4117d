"""What the scheduling policy gets to see of rows and drivers: never the whole queue, only its heads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from videoprocess_server.engine.driver import JobDriver
from videoprocess_server.engine.limits import Limits
from videoprocess_server.model.cadence import may_interpolate
from videoprocess_server.model.hdi import StreamIntent, VideoStabilisation
from videoprocess_server.model.records import Job, Priority, Video
from videoprocess_server.model.scheduling import Candidate, next_overtakes, oldest_first
from videoprocess_server.model.settings_snapshot import StreamInfo
from videoprocess_server.model.states import BlockReason, JobState
from videoprocess_server.model.worker_costs import estimate_worker_bytes, most_neighbours
from videoprocess_server.store.repository import Reader

#: intents of streams that are encoded; ANALYZE and CUSTOM tell of the others' frames
_PICTURE_INTENTS = frozenset(StreamIntent) - {StreamIntent.ANALYZE, StreamIntent.CUSTOM}
#: those whose pictures are small unless a size is asked for, and how many pixels that is at most
_SMALL_INTENTS = frozenset({StreamIntent.PREVIEW, StreamIntent.POST_VIEW})
_SMALL_PIXELS = 640 * 640

#: users looked at in one pass beyond those who may run at once: those who have had least
USERS_AHEAD = 8


@dataclass(frozen=True)
class Seen:
    """What one look found."""

    candidates: list[Candidate]
    #: by job_id, of the candidates
    jobs: Mapping[str, Job]
    #: jobs that are no candidates now, and why
    excluded: Mapping[str, BlockReason]
    #: jobs that run, but not here
    elsewhere: Sequence[Job]

    @property
    def high_elsewhere(self) -> Sequence[Job]:
        """HIGH jobs that run, but not here."""
        return [job for job in self.elsewhere if job.priority is Priority.HIGH]


@dataclass(frozen=True)
class Driven:
    """A running job as the scheduler has it."""

    driver: JobDriver
    workers: int
    turn: bool


class QueueView:
    """Looks at the queue, and counts whom it passed over.

    Args:
        limits: how many jobs run at once.
        over_quota: whether a user's NORMAL work must wait until there is space again.
    """

    def __init__(self, limits: Limits, over_quota: Callable[[int], bool]) -> None:
        self._limits = limits
        self._over_quota = over_quota
        #: user → starts in which an older queued job was passed over
        self._overtakes: dict[int, int] = {}

    def started(self, user_id: int, *, was_oldest: bool) -> None:
        """Note that a queued job of the user was started."""
        self._overtakes[user_id] = next_overtakes(
            self._overtakes.get(user_id, 0), started_is_oldest=was_oldest
        )

    def look(
        self,
        reader: Reader,
        usage: Mapping[int, float],
        driven: Mapping[str, Driven],
        paused: Collection[str],
        is_parked_alone: Callable[[Job], bool],
    ) -> Seen:
        """Return the running jobs and those that may be next.

        Args:
            reader: a consistent view.
            usage: what the users with work have had.
            driven: job_id → driver of running jobs.
            paused: jobs that are not to be tried yet.
            is_parked_alone: whether what a queued job would go on with must run alone.
        """
        self._overtakes = {user: count for user, count in self._overtakes.items() if user in usage}
        jobs: dict[str, Job] = {}
        candidates: list[Candidate] = []
        excluded: dict[str, BlockReason] = {}
        elsewhere: list[Job] = []
        for job in reader.list_running_jobs():
            entry = driven.get(job.job_id)
            if entry is None:
                elsewhere.append(job)
            else:
                jobs[job.job_id] = job
                candidates.append(_running(job, entry))
        neediest = sorted(usage, key=lambda user_id: (usage[user_id], user_id))
        seen = Seen(candidates, jobs, excluded, elsewhere)
        busy = {job.user_id for job in (*jobs.values(), *seen.high_elsewhere)}
        ahead = self._limits.max_running_jobs + USERS_AHEAD
        for user_id in sorted(busy | set(neediest[:ahead])):
            for job, turn in self._heads(reader, user_id, len(paused)):
                video = reader.get_video(user_id, job.video_id)
                if job.job_id not in paused and video is not None:
                    jobs[job.job_id] = job
                    candidates.append(_queued(job, video, turn=turn, alone=is_parked_alone(job)))
        over = {user_id for user_id in {job.user_id for job in jobs.values()} if self._over_quota(user_id)}
        for candidate in candidates:
            if candidate.user_id in over and candidate.priority is Priority.NORMAL:
                excluded[candidate.job_id] = BlockReason.SPACE_LIMIT
        ordered = sorted(candidates, key=lambda candidate: _in_order(candidate, jobs))
        return replace(seen, candidates=[each for each in ordered if each.job_id not in excluded])

    def _heads(self, reader: Reader, user_id: int, paused_count: int) -> list[tuple[Job, bool]]:
        """Return the user's first queued jobs, the oldest before all others where it has its turn."""
        head = list(reader.list_queue_head(user_id, self._limits.max_running_jobs + paused_count))
        if not oldest_first(self._overtakes.get(user_id, 0)):
            return [(job, False) for job in head]
        oldest = reader.get_oldest_queued(user_id)
        if oldest is None:
            return []
        return [(oldest, True), *((job, False) for job in head if job.job_id != oldest.job_id)]


def _running(job: Job, entry: Driven) -> Candidate:
    return Candidate(
        job_id=job.job_id,
        user_id=job.user_id,
        priority=job.priority,
        execution_mode=job.execution_mode,
        running=True,
        demand=entry.driver.demand,
        worker_bytes=_worker_bytes(job, entry.driver.video),
        alone=entry.driver.alone,
        turn=entry.turn,
        workers=entry.workers,
    )


def _queued(job: Job, video: Video, *, turn: bool, alone: bool) -> Candidate:
    assert job.state is JobState.QUEUED
    return Candidate(
        job_id=job.job_id,
        user_id=job.user_id,
        priority=job.priority,
        execution_mode=job.execution_mode,
        running=False,
        demand=1,
        worker_bytes=_worker_bytes(job, video),
        alone=alone,
        turn=turn,
        blocked_by=job.blocked_by,
    )


def _worker_bytes(job: Job, video: Video) -> int:
    """Estimate by the larger of the source's picture and the largest that was asked for, and those beside it."""
    if video.media is None or job.snapshot is None:
        return 0
    source = video.media.video
    whole = source.width * source.height
    asked = sorted(
        _pixels(stream, whole) for stream in job.snapshot.streams if stream.intent in _PICTURE_INTENTS
    )
    return estimate_worker_bytes(
        max([whole, *asked[-1:]]),
        source.bit_depth,
        further_pixels=asked[:-1],
        has_watermark=job.snapshot.mode_setting.watermark is not None,
        neighbours=most_neighbours(job.snapshot.mode_setting),
        stabilises=job.snapshot.mode_setting.stabilisation is not VideoStabilisation.OFF,
        interpolates=may_interpolate(job.snapshot.mode_setting, source.average_frame_rate),
    )


def _pixels(stream: StreamInfo, whole: int) -> int:
    """Of a stream's picture; of the small ones, whose sizes the plan chooses, what a proxy has at most."""
    if stream.width and stream.height:
        return stream.width * stream.height
    return min(whole, _SMALL_PIXELS) if stream.intent in _SMALL_INTENTS else whole


def _in_order(candidate: Candidate, jobs: Mapping[str, Job]) -> tuple[bool, int]:
    """HIGH jobs, the newest first, running or not; NORMAL ones stay as they come: those that run, then the queue."""
    is_high = candidate.priority is Priority.HIGH
    return not is_high, -jobs[candidate.job_id].accept_number if is_high else 0
