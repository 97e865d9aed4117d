"""Videos of users: prepared, listed, removed."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.authorisation import Caller, Policy, authorise
from videoprocess_server.engine.checkpoints import discard_plans
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.sources import SourceChangedError, Sources
from videoprocess_server.engine.sweeper import Sweeper, bury
from videoprocess_server.engine.video_ids import check_video_id
from videoprocess_server.engine.work import Work
from videoprocess_server.errors import CATALOGUE, Status, VideoProcessError
from videoprocess_server.execution.executor import (
    Executor,
    Slot,
    TaskCancelledError,
    TaskFailedError,
    TaskHandle,
    TaskStalledError,
    WorkerCrashedError,
)
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
from videoprocess_server.model.tasks import MediaLimits, ProbeTask, TaskResult
from videoprocess_server.store.repository import Reader, Repository, Transaction

PENDING_PAGE = 10_000  # contract §3: GetPendingVideos without paging


@dataclass(frozen=True, kw_only=True)
class UploadReference:
    """A FileDescriptor that names an upload."""

    upload_id: str


@dataclass(frozen=True, kw_only=True)
class SharedReference:
    """A FileDescriptor that names a file below a shared root."""

    root: str
    path: str


FileReference = UploadReference | SharedReference


@dataclass(frozen=True, kw_only=True)
class VideoView:
    """A video with what belongs to it."""

    video: Video
    #: the newest job, running ones with their progress of this moment
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
        executor: Executor,
        policy: Policy,
        clock: Clock,
        limits: Limits,
        media_limits: MediaLimits,
        work: Work,
        sweeper: Sweeper,
    ) -> None:
        self._repository = repository
        self._sessions = sessions
        self._sources = sources
        self._executor = executor
        self._policy = policy
        self._clock = clock
        self._limits = limits
        self._media_limits = media_limits
        self._work = work
        self._sweeper = sweeper
        self._probes = threading.BoundedSemaphore(limits.max_concurrent_probes)

    def prepare(
        self, caller: Caller, session_id: str, video_id: str, files: Sequence[FileReference]
    ) -> VideoView:
        """Register a file under an id and probe it; return the video as it then is.

        Raises:
            VideoProcessError: any of the reasons under "what Prepare refuses".
        """
        session = self._sessions.use(caller, session_id)
        check_video_id(video_id, self._limits)
        source = self._resolve(session.user_id, video_id, files)
        with self._repository.read() as reader:
            video = reader.get_video(session.user_id, video_id)
            before = view_of(reader, video) if video else None
        if video is not None and before is not None:
            self._refuse_conflict(video, source)
            if (
                self._is_same(video, source)
                and video.media is not None
                and video.state is not VideoState.ERROR
            ):
                self._check_source(session.user_id, source)
                return before
        media = self._probe(session.user_id, source)
        with self._repository.transaction() as tx:
            prepared, is_anew = self._keep_prepared(tx, session.user_id, video_id, source, media)
            view = view_of(tx, prepared)
        if is_anew:
            self._work.evict(session.user_id, video_id)
            self._sweeper.sweep()
        return view

    def _resolve(self, user_id: int, video_id: str, files: Sequence[FileReference]) -> Source:
        if len(files) == 3:
            raise VideoProcessError(
                "METHOD_NOT_SUPPORTED", "three files are not supported by this version: give one"
            )
        if len(files) > 1:
            raise VideoProcessError(
                "BAD_FD_COUNT", f"{len(files)} files given", {"fds": "give no file, one, or three"}
            )
        with self._repository.read() as reader:
            if files:
                return self._source_of(reader, user_id, files[0])
            video = reader.get_video(user_id, video_id)
        if video is None or video.source is None:
            raise VideoProcessError(
                "NO_FILE", f"there is no file for video {video_id!r} yet", {"fds": "is empty"}
            )
        return video.source

    def _source_of(self, reader: Reader, user_id: int, file: FileReference) -> Source:
        if isinstance(file, UploadReference):
            return self._sources.of_upload(reader, user_id, file.upload_id)
        return self._sources.of_shared_path(user_id, file.root, file.path)

    @staticmethod
    def _is_same(video: Video, source: Source) -> bool:
        return video.source is not None and video.source.identity == source.identity

    def _refuse_conflict(self, video: Video, source: Source) -> None:
        busy = video.state in ACTIVE_VIDEO_STATES or video.state is VideoState.DELETED
        if busy and not self._is_same(video, source):
            raise VideoProcessError(
                "SOURCE_IN_USE", f"video {video.video_id!r} is {video.state.value} with another source"
            )

    def _check_source(self, user_id: int, source: Source) -> None:
        try:
            self._sources.check(user_id, source)
        except SourceChangedError as error:
            raise VideoProcessError("NO_SUCH_PATH", error.message) from error

    def _probe(self, user_id: int, source: Source) -> MediaInfo:
        if not self._probes.acquire(blocking=False):
            raise VideoProcessError("PROBE_BUSY", "too many files are being probed", retry_after_seconds=1)
        try:
            handle = self._executor.submit(
                ProbeTask(limits=self._media_limits),
                source_fd=self._sources.open(user_id, source),
                slot=Slot.PROBE,
                stall_seconds=self._limits.probe_stall_seconds,
            )
            media = self._wait_for(handle)
        except SourceChangedError as error:
            raise VideoProcessError("NO_SUCH_PATH", error.message) from error
        except TaskFailedError as error:
            raise _refused(error) from error
        except (WorkerCrashedError, TaskStalledError) as error:
            raise VideoProcessError(
                "PROBE_FAILED", "the prober did not survive this file, or took too long"
            ) from error
        except TaskCancelledError as error:
            raise VideoProcessError("DRAINING", "the service is stopping", retry_after_seconds=2) from error
        finally:
            self._probes.release()
        assert isinstance(media, MediaInfo)
        return media

    def _wait_for(self, handle: TaskHandle) -> TaskResult:
        """Return a probe's answer; one that waits too long behind others is given up."""
        ended = threading.Event()
        handle.add_done_callback(lambda _: ended.set())
        if not ended.wait(self._limits.prepare_seconds):
            handle.cancel()
            raise VideoProcessError("PROBE_BUSY", "other files are being probed", retry_after_seconds=5)
        return handle.result()

    def _keep_prepared(
        self, tx: Transaction, user_id: int, video_id: str, source: Source, media: MediaInfo
    ) -> tuple[Video, bool]:
        """Write the row; return it, and whether earlier work on the video is nobody's now."""
        if source.kind is SourceKind.UPLOAD:  # RemoveVideo may have deleted it meanwhile
            self._sources.of_upload(tx, user_id, source.upload_id)
        now = self._clock.now_us()
        video = tx.get_video(user_id, video_id) or Video(
            user_id=user_id,
            video_id=video_id,
            state=VideoState.PENDING,
            create_time_us=now,
            update_time_us=now,
            source=source,
        )
        self._refuse_conflict(video, source)
        is_another = not self._is_same(video, source)
        is_anew = is_another or video.state is VideoState.ERROR  # whose checkpoints may be why
        if is_another:
            _drop_results(tx, video, now)
            video = replace(video, result_fingerprint="", result_job_id="", attempt_count=0)
        if is_anew:
            discard_plans(tx, user_id, video_id, now)
            state = next_state(video.state, Trigger.PREPARE_ANEW)
            video = replace(video, state=state, last_fault=None)
        video = replace(video, source=source, media=media, update_time_us=now)
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
    return VideoView(
        video=video,
        job=reader.get_job(video.last_job_id) if video.last_job_id else None,
        artifacts=reader.list_artifacts_of_job(video.result_job_id) if video.result_job_id else (),
        result_job=result_job,
    )


def _drop_results(tx: Transaction, video: Video, now_us: int) -> None:
    """Delete what was made of a source that is replaced; the time of an upload that nobody uses then begins."""
    for artifact in tx.list_artifacts_of_video(video.user_id, video.video_id):
        tx.delete_artifact(artifact.artifact_id)
        bury(tx, BlobKind.RESULT, artifact.artifact_id, now_us)
    upload = tx.get_upload(video.source.upload_id) if video.source else None
    if upload is not None:
        tx.put_upload(replace(upload, update_time_us=now_us))


def _refused(error: TaskFailedError) -> VideoProcessError:
    row = CATALOGUE.get(error.reason)
    if row is not None and row.retryable:
        return VideoProcessError("PROBE_BUSY", error.message, retry_after_seconds=5)
    if row is None or row.status is not Status.INVALID_ARGUMENT:
        return VideoProcessError("PROBE_FAILED", "the prober failed on this file")
    return VideoProcessError(error.reason, error.message)
