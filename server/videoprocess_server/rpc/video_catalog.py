"""VideoCatalogService: looks at videos without a session."""

from __future__ import annotations

from videoprocess.v1 import video_catalog_pb2 as pb
from videoprocess.v1 import video_catalog_pb2_grpc as pb_grpc
from videoprocess_server.rpc.caller import Context, caller_of
from videoprocess_server.rpc.catalog import Catalog
from videoprocess_server.rpc.convert.fields import user_id_of
from videoprocess_server.rpc.services import Services


class VideoCatalogService(pb_grpc.VideoCatalogServiceServicer):
    """Translates its calls for the engine."""

    def __init__(self, services: Services, catalog: Catalog) -> None:
        self._calls = services.pools.calls
        self._removals = services.removals
        self._catalog = catalog

    async def GetVideo(self, request: pb.GetVideoRequest, context: Context) -> pb.GetVideoResponse:
        """Tell everything about one video."""
        user_id = user_id_of(request)
        video = await self._calls.run(self._catalog.get, caller_of(context), user_id, request.video_id)
        return pb.GetVideoResponse(video=video)

    async def ListVideos(self, request: pb.ListVideosRequest, context: Context) -> pb.ListVideosResponse:
        """List videos, oldest first."""
        return await self._calls.run(self._catalog.page, caller_of(context), request)

    async def RestoreVideo(
        self, request: pb.RestoreVideoRequest, context: Context
    ) -> pb.RestoreVideoResponse:
        """Bring a video back from the trash."""
        user_id = user_id_of(request)
        restored = await self._calls.run(
            self._removals.restore, caller_of(context), user_id, request.video_id
        )
        return pb.RestoreVideoResponse(video=await self._calls.run(self._catalog.show, restored))
