"""VideoProcessService: sessions and capabilities."""

from __future__ import annotations

from videoprocess.v1 import video_process_service_pb2 as pb
from videoprocess.v1 import video_process_service_pb2_grpc as pb_grpc
from videoprocess_server.engine.authorisation import Caller, authorise
from videoprocess_server.model.hdi import ExecutionMode
from videoprocess_server.rpc.caller import Context, caller_of
from videoprocess_server.rpc.convert.capabilities import capabilities
from videoprocess_server.rpc.convert.fields import member, request_id_of, user_id_of
from videoprocess_server.rpc.convert.times import timestamp
from videoprocess_server.rpc.services import Services
from videoprocess_server.rpc.subscriptions import Subscriptions


class VideoProcessService(pb_grpc.VideoProcessServiceServicer):
    """Translates its calls for the engine."""

    def __init__(self, services: Services, subscriptions: Subscriptions) -> None:
        self._calls = services.pools.calls
        self._sessions = services.sessions
        self._policy = services.policy
        self._facts = services.facts
        self._subscriptions = subscriptions

    async def CreateVideoProcessSession(
        self, request: pb.CreateVideoProcessSessionRequest, context: Context
    ) -> pb.CreateVideoProcessSessionResponse:
        """Open a session."""
        user_id, request_id = user_id_of(request), request_id_of(request.request_id)
        mode = ExecutionMode.DEFAULT
        if request.HasField("execution_mode"):
            mode = member(ExecutionMode, request.execution_mode, "execution_mode")
        session = await self._calls.run(self._sessions.create, caller_of(context), user_id, mode, request_id)
        idle_us = self._facts.limits.session_idle_timeout_us
        return pb.CreateVideoProcessSessionResponse(
            session_id=session.session_id,
            expire_time=timestamp(session.last_used_time_us + idle_us),
            event_sequence=await self._calls.run(self._subscriptions.newest_sequence, user_id),
        )

    async def CloseVideoProcessSession(
        self, request: pb.CloseVideoProcessSessionRequest, context: Context
    ) -> pb.CloseVideoProcessSessionResponse:
        """Close a session."""
        await self._calls.run(self._sessions.close, caller_of(context), request.session_id)
        return pb.CloseVideoProcessSessionResponse()

    async def GetCapabilities(
        self, request: pb.GetCapabilitiesRequest, context: Context
    ) -> pb.GetCapabilitiesResponse:
        """Tell what the service can do."""
        return await self._calls.run(self._capabilities, caller_of(context), user_id_of(request))

    def _capabilities(self, caller: Caller, user_id: int) -> pb.GetCapabilitiesResponse:
        authorise(self._policy, caller, user_id)
        return capabilities(self._facts, user_id, is_local=caller.is_local)
