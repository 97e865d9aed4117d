"""VideoProcessSessionService: work on videos within a session."""

from __future__ import annotations

from videoprocess.v1 import video_process_session_pb2 as pb
from videoprocess.v1 import video_process_session_pb2_grpc as pb_grpc
from videoprocess_server.rpc.call_pool import until_over
from videoprocess_server.rpc.caller import Context, caller_of
from videoprocess_server.rpc.catalog import Catalog
from videoprocess_server.rpc.convert import fields, jobs, times
from videoprocess_server.rpc.convert.files import file_references
from videoprocess_server.rpc.convert.settings import mode_setting, watermark_image
from videoprocess_server.rpc.convert.streams import stream_ids, stream_infos
from videoprocess_server.rpc.services import Services

#: ids that one Interrupt may name; without any it means all of the session
MAX_NAMED_VIDEOS = 1000


class VideoProcessSessionService(pb_grpc.VideoProcessSessionServiceServicer):
    """Translates its calls for the engine.

    A call whose arguments can be wrong asks for the session first: on a closed one the answer is SESSION_CLOSED,
    whatever the arguments are.
    """

    def __init__(self, services: Services, catalog: Catalog) -> None:
        self._calls = services.pools.calls
        self._prepares = services.pools.prepare
        self._sessions = services.sessions
        self._videos = services.videos
        self._watermarks = services.watermarks
        self._deliveries = services.deliveries
        self._jobs = services.jobs
        self._stops = services.stops
        self._removals = services.removals
        self._work = services.work
        self._facts = services.facts
        self._catalog = catalog

    async def GetPendingVideos(
        self, request: pb.GetPendingVideosRequest, context: Context
    ) -> pb.GetPendingVideosResponse:
        """List the ids of videos without a result."""
        caller = caller_of(context)
        session = await self._calls.run(self._sessions.use, caller, request.session_id)
        return await self._calls.run(self._catalog.pending, caller, session.user_id, request)

    async def Prepare(self, request: pb.PrepareRequest, context: Context) -> pb.PrepareResponse:
        """Register a file under an id and probe it."""
        caller = caller_of(context)
        await self._calls.run(self._sessions.use, caller, request.session_id)
        files = file_references(request.fds)
        with until_over() as is_over:
            view = await self._prepares.run(
                self._videos.prepare, caller, request.session_id, request.video_id, files, is_over
            )
        video = await self._calls.run(self._catalog.show, view)
        return pb.PrepareResponse(stream_descs=video.stream_descs, video=video)

    async def CreateStreams(
        self, request: pb.CreateStreamsRequest, context: Context
    ) -> pb.CreateStreamsResponse:
        """Add streams to the session."""
        caller = caller_of(context)
        session = await self._calls.run(self._sessions.use, caller, request.session_id)
        streams = stream_infos(request.stream_infos)
        if any(stream.directory for stream in streams):  # a shared root may be a slow one
            await self._prepares.run(self._deliveries.check_streams, session.user_id, streams)
        await self._calls.run(self._sessions.create_streams, caller, request.session_id, streams)
        return pb.CreateStreamsResponse()

    async def CommitStreams(
        self, request: pb.CommitStreamsRequest, context: Context
    ) -> pb.CommitStreamsResponse:
        """Freeze the created streams with the settings."""
        caller = caller_of(context)
        await self._calls.run(self._sessions.use, caller, request.session_id)
        build = self._facts.build_info()
        setting = await self._calls.run(mode_setting, request, build.extras, build.filters)
        image = watermark_image(request)
        if image is not None:
            with until_over() as is_over:
                setting = await self._prepares.run(
                    self._watermarks.read, caller, request.session_id, setting, image, is_over
                )
        await self._calls.run(self._sessions.commit_streams, caller, request.session_id, setting)
        return pb.CommitStreamsResponse()

    async def ReleaseStreams(
        self, request: pb.ReleaseStreamsRequest, context: Context
    ) -> pb.ReleaseStreamsResponse:
        """Drop streams from the session."""
        caller = caller_of(context)
        await self._calls.run(self._sessions.use, caller, request.session_id)
        ids = stream_ids(request.stream_infos)
        await self._calls.run(self._sessions.release_streams, caller, request.session_id, ids)
        return pb.ReleaseStreamsResponse()

    async def ProcessVideo(
        self, request: pb.ProcessVideoRequest, context: Context
    ) -> pb.ProcessVideoResponse:
        """Accept work on a video."""
        caller = caller_of(context)
        await self._calls.run(self._sessions.use, caller, request.session_id)
        asked = jobs.process_request(request)
        accepted = await self._calls.run(self._jobs.process, caller, request.session_id, asked)
        view = accepted.view
        return pb.ProcessVideoResponse(
            job_id=accepted.job.job_id,
            event_sequence=accepted.job.event_sequence,
            video=await self._calls.run(self._catalog.show, view) if view else None,
            job=jobs.job(self._work.live(accepted.job)),
        )

    async def RemoveVideo(self, request: pb.RemoveVideoRequest, context: Context) -> pb.RemoveVideoResponse:
        """Stop the work on a video and remove it."""
        expire_time_us = await self._calls.run(
            self._removals.remove,
            caller_of(context),
            request.session_id,
            request.video_id,
            restorable=request.restorable,
        )
        return pb.RemoveVideoResponse(expire_time=times.optional_timestamp(expire_time_us))

    async def Interrupt(self, request: pb.InterruptRequest, context: Context) -> pb.InterruptResponse:
        """Pause work."""
        caller = caller_of(context)
        await self._calls.run(self._sessions.use, caller, request.session_id)
        fields.at_most(len(request.video_ids), MAX_NAMED_VIDEOS, "video_ids")
        job_ids = await self._calls.run(self._stops.interrupt, caller, request.session_id, request.video_ids)
        return pb.InterruptResponse(job_ids=job_ids)

    async def Reset(self, request: pb.ResetRequest, context: Context) -> pb.ResetResponse:
        """Interrupt, and make the session as new."""
        job_ids = await self._calls.run(self._stops.reset, caller_of(context), request.session_id)
        return pb.ResetResponse(job_ids=job_ids)
