"""Videos of users: prepared, listed, removed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.authorisation import Caller, Policy, authorise
from videoprocess_server.engine.checkpoints import discard_plans
from videoprocess_server.engine.copied_files import CopiedFiles, IsOver, never
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.probes import Probes
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.source_files import (
    FileReference,
    SourceFiles,
    check_count,
    check_durations,
    files_of,
    resolve,
)
from videoprocess_server.engine.sources import SourceChangedError, Sources
from videoprocess_server.engine.sweeper import Sweeper, bury
from videoprocess_server.engine.video_ids import check_video_id
from videoprocess_server.engine.work import Work
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.records import Artifact, Job, Source, SourceKind, Video
from videoprocess_server.model.states import (
    ACTIVE_VIDEO_STATES,
    UNFINISHED_VIDEO_STATES,
    Trigger,
    VideoState,
    next_state,
)
from videoprocess_server.model.tasks import MediaLimits, ProbeTask
from videoprocess_server.store.repository import Reader, Repository, Transaction

PENDING_PAGE = 10_000  # contract §3: GetPendingVideos without paging


@dataclass(frozen=True, kw_only=True)
class VideoView:
    """A video with what belongs to it."""

    video: Video
    #: the newest job, running ones with their progress of this moment; without its snapshot, whose picture may be large
    job: Job | None
    artifacts: Sequence[Artifact]
    #: of the newest result
    result_job: Job | None


class Videos:
    """Keeps videos."""

    def __init__(
        self,
        repository: Repository,
        sessions: Sessions,
        sources: Sources,
        probes: Probes,
        policy: Policy,
        clock: Clock,
        limits: Limits,
        media_limits: MediaLimits,
        work: Work,
        sweeper: Sweeper,
        copies: CopiedFiles,
    ) -> None:
        self._repository = repository
        self._sessions = sessions
        self._sources = sources
        self._probes = probes
        self._policy = policy
        self._clock = clock
        self._limits = limits
        self._media_limits = media_limits
        self._work = work
        self._sweeper = sweeper
        self._copies = copies

    def prepare(
        self,
        caller: Caller,
        session_id: str,
        video_id: str,
        files: Sequence[FileReference],
        is_over: IsOver = never,
    ) -> VideoView:
        """Register a file under an id and probe it; return the video as it then is.

        Args:
            caller: who asks.
            session_id: of the user whose video it is.
            video_id: new, or of a video that is there.
            files: none, one or three.
            is_over: whether the answer is of no use any more; stops the copying of passed files.

        Raises:
            VideoProcessError: any of the reasons under "what Prepare refuses".
        """
        session = self._sessions.use(caller, session_id)
        check_video_id(video_id, self._limits)
        if files:
            check_count(files)
        with self._copies.of(caller, session.user_id, files, is_over=is_over) as given:
            return self._prepare(session.user_id, video_id, given)

    def _prepare(self, user_id: int, video_id: str, files: Sequence[FileReference]) -> VideoView:
        named = self._resolve(user_id, video_id, files)
        with self._repository.read() as reader:
            video = reader.get_video(user_id, video_id)
            before = view_of(reader, video) if video else None
        if video is not None and before is not None:
            _refuse_conflict(video, named)
            if named.are_of(video) and video.media is not None and video.state is not VideoState.ERROR:
                self._check_files(user_id, named)
                return before
        media = self._probe(user_id, named)
        with self._repository.transaction() as tx:
            prepared, is_anew = self._keep_prepared(tx, user_id, video_id, named, media)
            view = view_of(tx, prepared)
        if is_anew:
            self._work.evict(user_id, video_id)
            self._sweeper.sweep()
        return view

    def _resolve(self, user_id: int, video_id: str, files: Sequence[FileReference]) -> SourceFiles:
        with self._repository.read() as reader:
            if files:
                return resolve(self._sources, reader, user_id, files)
            video = reader.get_video(user_id, video_id)
        if video is None or video.source is None:
            raise VideoProcessError(
                "NO_FILE", f"there is no file for video {video_id!r} yet", {"fds": "is empty"}
            )
        return SourceFiles(pictures=video.source, companion=video.companion)

    def _check_files(self, user_id: int, files: SourceFiles) -> None:
        try:
            for file in files.all:
                self._sources.check(user_id, file)
        except SourceChangedError as error:
            raise VideoProcessError("NO_SUCH_PATH", error.message) from error

    def _probe(self, user_id: int, files: SourceFiles) -> list[MediaInfo]:
        """Return what each of the files is."""
        with self._probes.place():
            media = [self._probe_one(user_id, file) for file in files.all]
        if len(media) > 1:
            check_durations(*media)
        return media

    def _probe_one(self, user_id: int, file: Source) -> MediaInfo:
        try:
            fd = self._sources.open(user_id, file)
        except SourceChangedError as error:
            raise VideoProcessError("NO_SUCH_PATH", error.message) from error
        media = self._probes.run(ProbeTask(limits=self._media_limits), fd)
        assert isinstance(media, MediaInfo)
        return media

    def _keep_prepared(
        self, tx: Transaction, user_id: int, video_id: str, files: SourceFiles, media: Sequence[MediaInfo]
    ) -> tuple[Video, bool]:
        """Write the row; return it, and whether earlier work on the video is nobody's now."""
        for file in files.all:
            if file.kind is not SourceKind.SHARED:  # RemoveVideo may have deleted it meanwhile
                self._sources.of_upload(tx, user_id, file.upload_id)
        now = self._clock.now_us()
        video = tx.get_video(user_id, video_id) or Video(
            user_id=user_id,
            video_id=video_id,
            state=VideoState.PENDING,
            create_time_us=now,
            update_time_us=now,
            source=files.pictures,
            companion=files.companion,
        )
        _refuse_conflict(video, files)
        is_another = not files.are_of(video)
        is_anew = is_another or video.state is VideoState.ERROR  # whose checkpoints may be why
        if is_another:
            _drop_results(tx, video, now)
            video = replace(video, result_fingerprint="", result_job_id="", attempt_count=0)
        if is_anew:
            discard_plans(tx, user_id, video_id, now)
            state = next_state(video.state, Trigger.PREPARE_ANEW)
            video = replace(video, state=state, last_fault=None)
        video = replace(
            video,
            source=files.pictures,
            media=media[0],
            companion=files.companion,
            companion_media=media[1] if files.companion else None,
            update_time_us=now,
        )
        tx.put_video(video)
        return video, is_anew

    def pending(
        self, caller: Caller, session_id: str, after: tuple[int, str] | None, limit: int
    ) -> Sequence[tuple[int, str]]:
        """Return (create_time_us, video_id) of the user's videos without a result, oldest first.

        Raises:
            VideoProcessError: SESSION_CLOSED.
        """
        session = self._sessions.use(caller, session_id)
        with self._repository.read() as reader:
            return reader.list_video_positions(
                session.user_id, states=UNFINISHED_VIDEO_STATES, after=after, limit=limit
            )

    def get(self, caller: Caller, user_id: int, video_id: str) -> VideoView:
        """Return a video.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, UNKNOWN_VIDEO.
        """
        authorise(self._policy, caller, user_id)
        with self._repository.read() as reader:
            video = reader.get_video(user_id, video_id)
            if video is None:
                raise VideoProcessError("UNKNOWN_VIDEO", f"user {user_id} has no video {video_id!r}")
            return view_of(reader, video)

    def expire_time_us(self, view: VideoView) -> int | None:
        """Return when what the video's state keeps is dropped: results, checkpoints, or all of it; None where nothing is."""
        video = view.video
        match video.state:
            case VideoState.COMPLETED:
                ends = [file.expire_time_us for file in view.artifacts if file.expire_time_us is not None]
                return min(ends, default=None)
            case VideoState.PAUSED | VideoState.FAILED:
                return video.update_time_us + self._limits.retention.checkpoints_us
            case _:
                return video.expire_time_us

    def list(
        self,
        caller: Caller,
        user_id: int,
        states: Collection[VideoState] | None,
        id_prefix: str,
        after: tuple[int, str] | None,
        limit: int,
    ) -> Sequence[VideoView]:
        """Return a page of videos by creation.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED.
        """
        authorise(self._policy, caller, user_id)
        with self._repository.read() as reader:
            videos = reader.list_videos(user_id, states=states, id_prefix=id_prefix, after=after, limit=limit)
            return [view_of(reader, video) for video in videos]


def view_of(reader: Reader, video: Video) -> VideoView:
    """Return a video with its newest job and result."""
    result_job = reader.get_job(video.result_job_id) if video.result_job_id else None
    job = reader.get_job(video.last_job_id) if video.last_job_id else None
    return VideoView(
        video=video,
        job=replace(job, snapshot=None) if job else None,
        artifacts=reader.list_artifacts_of_job(video.result_job_id) if video.result_job_id else (),
        result_job=result_job,
    )


def _drop_results(tx: Transaction, video: Video, now_us: int) -> None:
    """Delete what was made of a source that is replaced; the time of an upload that nobody uses then begins."""
    for artifact in tx.list_artifacts_of_video(video.user_id, video.video_id):
        tx.delete_artifact(artifact.artifact_id)
        bury(tx, BlobKind.RESULT, artifact.artifact_id, now_us)
    for file in files_of(video):
        upload = tx.get_upload(file.upload_id)
        if upload is not None:
            tx.put_upload(replace(upload, update_time_us=now_us))


def _refuse_conflict(video: Video, files: SourceFiles) -> None:
    busy = video.state in ACTIVE_VIDEO_STATES or video.state is VideoState.DELETED
    if busy and not files.are_of(video):
        raise VideoProcessError(
            "SOURCE_IN_USE", f"video {video.video_id!r} is {video.state.value} with another source"
        )
