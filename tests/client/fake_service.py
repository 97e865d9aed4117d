"""A small service in this process, faithful where the client looks, that can be made to fail at will."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import (
    file_transfer_pb2_grpc,
    hdi_enums_pb2,
    job_pb2,
    report_pb2,
    types_pb2,
    video_catalog_pb2_grpc,
    video_pb2,
    video_process_callback_pb2_grpc,
    video_process_service_pb2_grpc,
    video_process_session_pb2_grpc,
)
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_process_callback_pb2 as callback
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session


@dataclass
class Refusal:
    """An error the fake answers a call with."""

    status: grpc.StatusCode
    reason: str | None
    message: str = "It went wrong."
    cam_ret_code: int = -3
    violations: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None

    async def abort(self, context: Any) -> None:
        details = [] if self.reason is None else list(self._details())
        packed = []
        for detail in details:
            packed.append(AnyMessage())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=self.status.value[0], message=self.message, details=packed)
        trailing = (("grpc-status-details-bin", status.SerializeToString()),) if packed else ()
        await context.abort(self.status, self.message, trailing)

    def _details(self) -> Any:
        metadata = {"cam_ret_code": str(self.cam_ret_code), **self.metadata}
        yield error_details_pb2.ErrorInfo(reason=self.reason, domain="videoprocess", metadata=metadata)
        if self.violations:
            entries = [
                error_details_pb2.BadRequest.FieldViolation(field=name, description=what)
                for name, what in self.violations.items()
            ]
            yield error_details_pb2.BadRequest(field_violations=entries)
        if self.retry_after is not None:
            delay = Duration()
            delay.FromNanoseconds(int(self.retry_after * 1e9))
            yield error_details_pb2.RetryInfo(retry_delay=delay)


def busy(reason: str = "DRAINING") -> Refusal:
    return Refusal(grpc.StatusCode.UNAVAILABLE, reason, cam_ret_code=-1, retry_after=0.01)


def cut() -> Refusal:
    """What a client sees when the connection goes away: a status that no service made."""
    return Refusal(grpc.StatusCode.UNAVAILABLE, None, "Socket closed")


def session_closed() -> Refusal:
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION, "SESSION_CLOSED", "The session is closed.", cam_ret_code=-5
    )


@dataclass
class State:
    """What the fake keeps, over its restarts too."""

    uploads: dict[str, bytearray] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    received_bytes: int = 0
    #: committed size -> an upload that has reached it waits for this
    hold_upload_at: dict[int, asyncio.Event] = field(default_factory=dict)
    shared_paths: list[types_pb2.SharedPath] = field(default_factory=list)
    sessions: dict[str, set[int]] = field(default_factory=dict)
    #: session -> what it has committed
    committed: dict[str, session.CommitStreamsRequest] = field(default_factory=dict)
    videos: dict[str, video_pb2.Video] = field(default_factory=dict)
    trash: dict[str, video_pb2.Video] = field(default_factory=dict)
    #: jobs that have not ended -> the session and video they are of
    active: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: the requests that were accepted, in order
    processed: list[session.ProcessVideoRequest] = field(default_factory=list)
    settings: list[session.CommitStreamsRequest] = field(default_factory=list)
    streams: list[types_pb2.StreamInfo] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    #: files that jobs make beside the video -> their bytes
    further: dict[str, bytes] = field(default_factory=dict)
    #: whether jobs make a video
    has_video: bool = True
    events: list[callback.CallbackEvent] = field(default_factory=list)
    requests: dict[str, session.ProcessVideoResponse] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    #: method name -> refusals of its next calls
    faults: dict[str, list[Refusal]] = field(default_factory=dict)
    #: called when a job is accepted; by default it is done at once
    work: Callable[[State, str], None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self, method: str) -> None:
        self.calls.append(method)
        self.called.set()
        self.called = asyncio.Event()

    async def until_called(self, method: str, times: int = 1) -> None:
        while self.calls.count(method) < times:
            await self.called.wait()

    def fail_next(self, method: str, *refusals: Refusal) -> None:
        self.faults.setdefault(method, []).extend(refusals)

    def publish(self, **values: Any) -> callback.CallbackEvent:
        """Keep an event with the next number."""
        event = callback.CallbackEvent(sequence=len(self.events) + 1, **values)
        self.events.append(event)
        self.changed.set()
        self.changed = asyncio.Event()
        return event

    def add_artifact(
        self, data: bytes, kind: int = report_pb2.ARTIFACT_KIND_VIDEO, file_name: str = "a_enhanced.mp4"
    ) -> report_pb2.Artifact:
        artifact_id = hashlib.sha256(data).hexdigest()[:32]
        self.artifacts[artifact_id] = data
        return report_pb2.Artifact(
            artifact_id=artifact_id,
            kind=kind,
            file_name=file_name,
            media_type="video/mp4",
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )

    def finish(self, job_id: str) -> None:
        """Complete a job: its result is the source backwards."""
        session_id, _ = self.active.pop(job_id, ("", ""))
        video = next(video for video in self.videos.values() if video.job.job_id == job_id)
        upload_id = video.sources[0].upload_id if video.sources else ""
        source = bytes(self.uploads.get(upload_id, b"shared"))
        made = [self.add_artifact(source[::-1])] if self.has_video else []
        further = self.further.items()
        made += [self.add_artifact(data, report_pb2.ARTIFACT_KIND_STILL, name) for name, data in further]
        report = report_pb2.ProcessReport(
            artifacts=made,
            frames=report_pb2.FrameCounts(source=300, decoded=300, encoded=300, enhanced=300),
            quality=[
                report_pb2.QualityScore(name="sharpness_before", value=8.0),
                report_pb2.QualityScore(name="sharpness_after", value=9.0),
                report_pb2.QualityScore(name="ssim", value=0.98765),
                report_pb2.QualityScore(name="xpsnr", value=41.26, unit="dB"),
            ],
            noise=report_pb2.NoiseReport(
                planes=[report_pb2.PlaneNoise(plane="Y", sigma_before=4, sigma_after=1)]
            ),
            stages=[report_pb2.StageDuration(phase=job_pb2.JOB_PHASE_ENHANCE, wall_seconds=2)],
            not_kept=[
                report_pb2.NotKept(
                    what=report_pb2.NOT_KEPT_CATEGORY_CHAPTER, count=2, reason="[red]No[/red]."
                )
            ],
            source_size_bytes=len(source),
            output_size_bytes=len(source),
        )
        video.state = video_pb2.VIDEO_STATE_COMPLETED
        del video.artifacts[:]
        video.artifacts.extend(made)
        video.report.CopyFrom(report)
        done = callback.OnProcessDone(report=report)
        done.meta_data.entries["scalingFactor"].double_value = 1.5
        head = {"session_id": session_id, "video_id": video.video_id, "job_id": job_id}
        self.publish(**head, on_process_done=done)

    def fail(self, job_id: str, code: int, reason: str) -> None:
        """End a job in OnError."""
        session_id, _ = self.active.pop(job_id, ("", ""))
        video = next(video for video in self.videos.values() if video.job.job_id == job_id)
        error = callback.OnError(error_code=code, reason=reason, message="Not \x1b[31m[b]possible[/b].")
        head = {"session_id": session_id, "video_id": video.video_id, "job_id": job_id}
        self.publish(**head, on_error=error)

    def abort(self, reason: str, session_id: str = "", video_ids: Sequence[str] = ()) -> list[str]:
        """End the active jobs of a session or of videos."""
        job_ids = [
            job_id
            for job_id, (owner, video_id) in self.active.items()
            if (video_id in video_ids if video_ids else owner == session_id)
        ]
        for job_id in job_ids:
            self.videos[self.active[job_id][1]].state = video_pb2.VIDEO_STATE_PAUSED
            self.fail(job_id, 5, reason)
        return job_ids

    def slip(self, job: job_pb2.Job, code: int, reason: str) -> None:
        """End a job that was accepted only to be answered by OnError."""
        job.state = job_pb2.JOB_STATE_FAILED
        job.error.error_code, job.error.reason, job.error.message = code, reason, "That cannot be."
        error = callback.OnError(error_code=code, reason=reason, message="That cannot be.")
        self.publish(session_id=job.session_id, video_id=job.video_id, job_id=job.job_id, on_error=error)

    def close_sessions(self) -> None:
        """Forget all sessions, as a service does that was idle for long."""
        self.sessions.clear()
        self.committed.clear()


class FakeService(
    video_process_service_pb2_grpc.VideoProcessServiceServicer,
    video_process_session_pb2_grpc.VideoProcessSessionServiceServicer,
    video_process_callback_pb2_grpc.VideoProcessCallbackServiceServicer,
    file_transfer_pb2_grpc.FileTransferServiceServicer,
    video_catalog_pb2_grpc.VideoCatalogServiceServicer,
):
    """All five services over one `State`."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._server = aio.server()
        self.port = 0

    async def start(self, port: int = 0) -> FakeService:
        video_process_service_pb2_grpc.add_VideoProcessServiceServicer_to_server(self, self._server)
        video_process_session_pb2_grpc.add_VideoProcessSessionServiceServicer_to_server(self, self._server)
        video_process_callback_pb2_grpc.add_VideoProcessCallbackServiceServicer_to_server(self, self._server)
        file_transfer_pb2_grpc.add_FileTransferServiceServicer_to_server(self, self._server)
        video_catalog_pb2_grpc.add_VideoCatalogServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return self

    async def stop(self) -> None:
        await self._server.stop(None)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _enter(self, method: str, context: Any, session_id: str | None = None) -> None:
        self.state.enter(method)
        faults = self.state.faults.get(method)
        if faults:
            await faults.pop(0).abort(context)
        if session_id is not None and session_id not in self.state.sessions:
            await session_closed().abort(context)

    # sessions

    async def CreateVideoProcessSession(self, request: Any, context: Any) -> Any:
        await self._enter("CreateVideoProcessSession", context)
        session_id = f"session-{len(self.state.calls)}"
        self.state.sessions[session_id] = set()
        return service.CreateVideoProcessSessionResponse(
            session_id=session_id, event_sequence=len(self.state.events)
        )

    async def CloseVideoProcessSession(self, request: Any, context: Any) -> Any:
        await self._enter("CloseVideoProcessSession", context, request.session_id)
        return service.CloseVideoProcessSessionResponse()

    async def GetCapabilities(self, request: Any, context: Any) -> Any:
        await self._enter("GetCapabilities", context)
        versions = [report_pb2.SoftwareVersion(name="videoprocess", version="0.1.0")]
        limits = {"upload_commit_bytes": 1 << 20}
        return service.GetCapabilitiesResponse(versions=versions, decoders=["h264"], limits=limits)

    async def GetPendingVideos(self, request: Any, context: Any) -> Any:
        await self._enter("GetPendingVideos", context, request.session_id)
        ids = [v.video_id for v in self.state.videos.values() if v.state != video_pb2.VIDEO_STATE_COMPLETED]
        return session.GetPendingVideosResponse(**_page(ids, "video_ids", request.page_token))

    async def Prepare(self, request: Any, context: Any) -> Any:
        await self._enter("Prepare", context, request.session_id)
        video = self.state.videos.setdefault(request.video_id, video_pb2.Video(video_id=request.video_id))
        video.state = video_pb2.VIDEO_STATE_PENDING
        del video.sources[:]
        for fd in request.fds:
            if fd.upload_id and fd.upload_id not in self.state.finished:
                await Refusal(grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_UPLOAD").abort(context)
            if fd.HasField("shared_path"):
                self.state.shared_paths.append(fd.shared_path)
            video.sources.add(upload_id=fd.upload_id, file_name="a.mp4")
        description = types_pb2.StreamDescription(stream_id=0, type=hdi_enums_pb2.MEDIA_STREAM_TYPE_VIDEO)
        return session.PrepareResponse(stream_descs=[description], video=video)

    async def CreateStreams(self, request: Any, context: Any) -> Any:
        await self._enter("CreateStreams", context, request.session_id)
        known = self.state.sessions[request.session_id]
        asked = {info.v1_0.stream_id for info in request.stream_infos}
        if asked & known:
            await Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD").abort(context)
        known |= asked
        self.state.streams += [info.v1_0 for info in request.stream_infos]
        faults = self.state.faults.get("CreateStreams answer")
        if faults:
            await faults.pop(0).abort(context)
        return session.CreateStreamsResponse()

    async def CommitStreams(self, request: Any, context: Any) -> Any:
        await self._enter("CommitStreams", context, request.session_id)
        self.state.settings.append(request)
        self.state.committed[request.session_id] = request
        return session.CommitStreamsResponse()

    async def ReleaseStreams(self, request: Any, context: Any) -> Any:
        await self._enter("ReleaseStreams", context, request.session_id)
        self.state.sessions[request.session_id] -= {info.v1_0.stream_id for info in request.stream_infos}
        return session.ReleaseStreamsResponse()

    async def ProcessVideo(self, request: Any, context: Any) -> Any:
        await self._enter("ProcessVideo", context, request.session_id)
        state = self.state
        response = state.requests.get(request.request_id)
        if response is None:
            response = state.requests[request.request_id] = self._accept(request)
        faults = state.faults.get("ProcessVideo answer")
        if faults:
            await faults.pop(0).abort(context)
        return response

    def _accept(self, request: session.ProcessVideoRequest) -> session.ProcessVideoResponse:
        state, head = self.state, {"session_id": request.session_id, "video_id": request.video_id}
        state.processed.append(request)
        job = job_pb2.Job(job_id=f"job-{len(state.requests) + 1}", state=job_pb2.JOB_STATE_QUEUED, **head)
        response = session.ProcessVideoResponse(job_id=job.job_id, event_sequence=len(state.events), job=job)
        video = state.videos.get(request.video_id)
        if video is None:
            state.slip(response.job, 0, "UNKNOWN_VIDEO_ID")
        elif request.session_id not in state.committed:
            state.slip(response.job, 1, "NO_COMMITTED_STREAMS")
        else:
            video.job.CopyFrom(job)
            video.state = video_pb2.VIDEO_STATE_RUNNING
            state.active[job.job_id] = (request.session_id, request.video_id)
            (state.work or State.finish)(state, job.job_id)
        return response

    async def RemoveVideo(self, request: Any, context: Any) -> Any:
        await self._enter("RemoveVideo", context, request.session_id)
        self.state.abort("REMOVED", video_ids=[request.video_id])
        video = self.state.videos.pop(request.video_id, None)
        if video is None or not request.restorable:
            return session.RemoveVideoResponse()
        video.state = video_pb2.VIDEO_STATE_DELETED
        self.state.trash[request.video_id] = video
        return session.RemoveVideoResponse(expire_time=Timestamp(seconds=1_800_000_000))

    async def Interrupt(self, request: Any, context: Any) -> Any:
        await self._enter("Interrupt", context, request.session_id)
        job_ids = self.state.abort("INTERRUPTED", request.session_id, request.video_ids)
        return session.InterruptResponse(job_ids=job_ids)

    async def Reset(self, request: Any, context: Any) -> Any:
        await self._enter("Reset", context, request.session_id)
        return session.ResetResponse()

    # events

    async def Subscribe(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._enter("Subscribe", context)
        state, sent = self.state, request.after_sequence
        if sent > len(state.events):
            metadata = {"oldest_sequence": "1", "newest_sequence": str(len(state.events))}
            await Refusal(grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE", metadata=metadata).abort(
                context
            )
        ready = callback.OnStatusChanged(status=hdi_enums_pb2.SESSION_STATUS_READY)
        yield callback.SubscribeResponse(event=callback.CallbackEvent(on_status_changed=ready))
        while True:
            changed = state.changed
            for event in state.events[sent:]:
                if request.session_id not in ("", event.session_id):
                    continue
                yield callback.SubscribeResponse(event=event)
                sent = event.sequence
                faults = state.faults.get("Subscribe event")
                if faults:
                    await faults.pop(0).abort(context)
            await changed.wait()

    # files

    async def Upload(self, requests: AsyncIterator[Any], context: Any) -> Any:
        await self._enter("Upload", context)
        upload_id, data = "", bytearray()
        async for request in requests:
            if request.HasField("header"):
                upload_id = request.header.upload_id
                data = self.state.uploads.setdefault(upload_id, bytearray())
                await context.send_initial_metadata((("upload-id", upload_id),))
            if request.offset != len(data):
                await Refusal(grpc.StatusCode.OUT_OF_RANGE, "UPLOAD_OFFSET").abort(context)
            if request.crc32c != google_crc32c.value(request.data):
                await Refusal(grpc.StatusCode.DATA_LOSS, "CHECKSUM_MISMATCH").abort(context)
            data += request.data
            self.state.received_bytes += len(request.data)
            if len(data) in self.state.hold_upload_at:
                self.state.enter("Upload held")
                await self.state.hold_upload_at[len(data)].wait()
            faults = self.state.faults.get(f"Upload at {len(data)}")
            if faults:
                await faults.pop(0).abort(context)
            if request.HasField("finish"):
                if request.finish.sha256 != hashlib.sha256(data).hexdigest():
                    await Refusal(grpc.StatusCode.DATA_LOSS, "DIGEST_MISMATCH").abort(context)
                self.state.finished.add(upload_id)
                return transfer.UploadResponse(**self._upload(upload_id))
        return transfer.UploadResponse(**self._upload(upload_id))

    async def QueryUpload(self, request: Any, context: Any) -> Any:
        await self._enter("QueryUpload", context)
        if request.upload_id not in self.state.uploads:
            await Refusal(grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND").abort(context)
        return transfer.QueryUploadResponse(**self._upload(request.upload_id))

    def _upload(self, upload_id: str) -> dict[str, Any]:
        data = self.state.uploads[upload_id]
        complete = upload_id in self.state.finished
        values = {"upload_id": upload_id, "committed_size_bytes": len(data), "complete": complete}
        return {
            **values,
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest() if complete else "",
        }

    async def Download(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._enter("Download", context)
        data = self.state.artifacts.get(request.artifact_id)
        if data is None:
            await Refusal(grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND").abort(context)
        artifact = self.state.add_artifact(data)
        artifact.artifact_id = request.artifact_id
        yield transfer.DownloadResponse(artifact=artifact, offset=request.offset)
        for offset in range(request.offset, len(data), 1 << 20):
            faults = self.state.faults.get(f"Download at {offset}")
            if faults:
                await faults.pop(0).abort(context)
            chunk = data[offset : offset + (1 << 20)]
            crc32c = google_crc32c.value(chunk)
            if self.state.faults.pop(f"damage at {offset}", None) is not None:
                chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
            yield transfer.DownloadResponse(offset=offset, data=chunk, crc32c=crc32c)

    # catalog

    async def GetVideo(self, request: Any, context: Any) -> Any:
        await self._enter("GetVideo", context)
        video = self.state.videos.get(request.video_id) or self.state.trash.get(request.video_id)
        if video is None:
            await Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_VIDEO", "There is no such video.").abort(
                context
            )
        return catalog.GetVideoResponse(video=video)

    async def ListVideos(self, request: Any, context: Any) -> Any:
        await self._enter("ListVideos", context)
        videos = [*self.state.videos.values(), *self.state.trash.values()]
        states = set(request.states) or set(video_pb2.VideoState.values()) - {video_pb2.VIDEO_STATE_DELETED}
        listed = [video for video in videos if video.state in states]
        return catalog.ListVideosResponse(**_page(listed, "videos", request.page_token))

    async def RestoreVideo(self, request: Any, context: Any) -> Any:
        await self._enter("RestoreVideo", context)
        video = self.state.trash.pop(request.video_id, None) or self.state.videos.get(request.video_id)
        if video is None:
            await Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_VIDEO", "There is no such video.").abort(
                context
            )
        if video.state == video_pb2.VIDEO_STATE_DELETED:
            video.state = video_pb2.VIDEO_STATE_PENDING
        self.state.videos[request.video_id] = video
        return catalog.RestoreVideoResponse(video=video)


def _page(items: list[Any], name: str, token: str, size: int = 2) -> dict[str, Any]:
    start = int(token or "0")
    after = start + size
    return {name: items[start:after], "next_page_token": str(after) if after < len(items) else ""}
