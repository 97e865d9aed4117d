"""Videos as messages, with everything that belongs to them. Every method may wait for the store."""

from __future__ import annotations

from dataclasses import dataclass, replace

from videoprocess.v1 import video_catalog_pb2, video_pb2, video_process_session_pb2
from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.engine.videos import PENDING_PAGE, Videos, VideoView
from videoprocess_server.engine.work import Work
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.records import Job, ResumePoint, Video
from videoprocess_server.model.states import VideoState
from videoprocess_server.rpc.convert import fields, videos
from videoprocess_server.rpc.convert.capability_limits import LIST_PAGE, MAX_LIST_PAGE
from videoprocess_server.rpc.page_tokens import page_token, position_of
from videoprocess_server.store.repository import Repository, StoreUnavailableError


@dataclass(frozen=True)
class Catalog:
    """Reads videos and pages of them."""

    videos: Videos
    work: Work
    repository: Repository

    def get(self, caller: Caller, user_id: int, video_id: str) -> video_pb2.Video:
        """Return a user's video.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, UNKNOWN_VIDEO.
        """
        return self.show(self.videos.get(caller, user_id, video_id))

    def show(self, view: VideoView) -> video_pb2.Video:
        """Return the message of a video, its job with the progress of this moment."""
        return videos.video(
            self._live(view), resume_us=self._resume_us(view), expire_us=self.videos.expire_time_us(view)
        )

    def page(
        self, caller: Caller, request: video_catalog_pb2.ListVideosRequest
    ) -> video_catalog_pb2.ListVideosResponse:
        """Return a page of a user's videos; what needs their plans or reports is left out.

        Raises:
            VideoProcessError: MISSING_FIELD, INVALID_FIELD, INVALID_PAGE_TOKEN, USER_NOT_ALLOWED.
        """
        user_id = fields.user_id_of(request)
        states = videos.video_states(request.states)
        size = fields.page_size_of(request.page_size, LIST_PAGE, MAX_LIST_PAGE)
        filters = ("ListVideos", user_id, sorted(state.value for state in states), request.video_id_prefix)
        after = position_of(request.page_token, filters)
        found = self.videos.list(caller, user_id, states, request.video_id_prefix, after, size + 1)
        return video_catalog_pb2.ListVideosResponse(
            videos=[self._listed(view) for view in found[:size]],
            next_page_token=page_token(_position(found[size - 1]), filters) if len(found) > size else "",
        )

    def pending(
        self, caller: Caller, user_id: int, request: video_process_session_pb2.GetPendingVideosRequest
    ) -> video_process_session_pb2.GetPendingVideosResponse:
        """Return a page of ids without a result, of the session's user.

        Raises:
            VideoProcessError: INVALID_FIELD, INVALID_PAGE_TOKEN, SESSION_CLOSED.
        """
        size = fields.page_size_of(request.page_size, PENDING_PAGE, PENDING_PAGE)
        filters = ("GetPendingVideos", user_id)
        after = position_of(request.page_token, filters)
        found = self.videos.pending(caller, request.session_id, after, size + 1)
        return video_process_session_pb2.GetPendingVideosResponse(
            video_ids=[video_id for _, video_id in found[:size]],
            next_page_token=page_token(found[size - 1], filters) if len(found) > size else "",
        )

    def _listed(self, view: VideoView) -> video_pb2.Video:
        expire_us = self.videos.expire_time_us(view)
        return videos.video(self._live(view), expire_us=expire_us, with_report=False)

    def _live(self, view: VideoView) -> VideoView:
        return view if view.job is None else replace(view, job=self.work.live(view.job))

    def _resume_us(self, view: VideoView) -> int | None:
        """Return the media time that an unfinished plan goes on at: all before it is done."""
        job, video = view.job, view.video
        if job is None or video.state in (VideoState.COMPLETED, VideoState.DELETED):
            return None
        try:
            return self._resume_of_plan(video, job)
        except StoreUnavailableError:
            return None  # what the video was asked for with is done: this is only a hint

    def _resume_of_plan(self, video: Video, job: Job) -> int | None:
        with self.repository.read() as reader:
            point = reader.find_resume_point(video.user_id, video.video_id, job.settings_fingerprint)
        return None if point is None else _media_time_us(point)


def _media_time_us(point: ResumePoint) -> int:
    return round(max(point.pts - point.first_pts, 0) * point.time_base * MICROSECONDS_PER_SECOND)


def _position(view: VideoView) -> tuple[int, str]:
    return view.video.create_time_us, view.video.video_id
