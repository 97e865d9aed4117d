"""Random calls of every method, with what is right, wrong, closed, somebody else's or no id at all."""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc

from rpc.odd_texts import BAD_IDS, ODD_IDS, PLANTED, junk, random_id
from service_harness import Api
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_process_callback_pb2 as callback
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session

#: the ends of int32, so that no arithmetic on them goes unseen
USERS = (-(2**31), 2**31 - 1)
CLIPS = ("short.mp4", "long.mp4", "sound.mp4")
#: what lies in the shared root besides the clips, and what does not
PATHS = (
    "text.mp4",
    "empty.mp4",
    "folder",
    "pipe.mp4",
    "leaving.mp4",
    "cut.mp4",
    "absent.mp4",
    f"../{PLANTED}",
)
SHARED_IDS = ("a video", *ODD_IDS[:4])
STREAM_IDS = (1, 1, 1, 1, 2, 0, -(2**31))
#: in place of the service's answer (grpc/grpc#36066); what the service answered stands in its log
LOST_ANSWER = "Internal error from Core"
NO_USER = ("MISSING_FIELD",)
LISTEN_SECONDS = 0.2
CALLS_OF_A_RANDOM_KIND = 1 / 16

#: a setting of each kind: fine, impossible for the clips, not supported, no setting
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"serialized": b""},
    {"typed": mode.ModeSetting(zoom_ratio=2)},
    {"typed": mode.ModeSetting(frame_rate_range=mode.FrameRateRange(min_fps=240, max_fps=240))},
    {"typed": mode.ModeSetting(zoom_ratio=2, zoom_crop_region=mode.Rect(x=0, y=0, width=9000, height=9000))},
    {"typed": mode.ModeSetting(operation_mode=hdi.OPERATION_MODE_PORTRAIT)},
    {"typed": mode.ModeSetting(mirror=True, orientation_degrees=90, quality=mode.Quality(crf=30))},
    {"typed": mode.ModeSetting(zoom_ratio=float("nan"))},
    {"typed": mode.ModeSetting(orientation_degrees=-(2**31))},
    {"typed": mode.ModeSetting(damage=mode.DAMAGE_HANDLING_CONCEAL, moov_first=True)},
    {"typed": mode.ModeSetting(watermark=mode.Watermark())},
    {
        "typed": mode.ModeSetting(
            watermark=mode.Watermark(image=types.FileDescriptor(upload_id="no"), width=-1)
        )
    },
    {"typed": mode.ModeSetting(watermark=mode.Watermark(image=types.FileDescriptor(upload_id="no")))},
    {
        "typed": mode.ModeSetting(
            watermark=mode.Watermark(
                image=types.FileDescriptor(shared_path=types.SharedPath(root="media", path="short.mp4"))
            )
        )
    },
    {"serialized": b"\0"},
    {"serialized": b"\xff" * 100},
)


class LostAnswerError(Exception):
    """The caller's own gRPC lost the answer: it does when the service refuses a stream that is still being sent."""


@dataclass
class Known:
    """What one user's callers have got."""

    #: ids that may have become a video of this user
    named: set[str] = field(default_factory=set)
    own_ids: Sequence[str] = ()
    sessions: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    #: of ProcessVideo's answers
    jobs: set[str] = field(default_factory=set)
    #: of everybody's answers and events
    told_jobs: set[str] = field(default_factory=set)
    told_videos: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Call:
    """A call that can be made as often as one likes."""

    method: str
    make: Callable[[], Awaitable[Any]]
    #: it must be refused, for one of these reasons; empty: it may be answered
    must: tuple[str, ...] = ()


class RandomCalls:
    """Draws calls, and learns from their answers."""

    def __init__(self, api: Api, rng: random.Random) -> None:
        self._api = api
        self._rng = rng
        self.known = {user: Known() for user in USERS}
        self.closed: list[str] = []
        for of_user in self.known.values():
            of_user.own_ids = [*rng.sample(ODD_IDS[4:], 6), *(random_id(rng) for _ in range(4))]
        first, second = self.known.values()
        second.own_ids = [name for name in second.own_ids if name not in first.own_ids]

    def draw(self) -> Call:
        """Draw a call of a method, each as often as its weight says."""
        names, weights = zip(*WEIGHTS.items(), strict=True)
        (name,) = self._rng.choices(names, weights)
        return self.draw_of(name)

    def draw_of(self, method: str) -> Call:
        """Draw a call of this method."""
        made: Call = getattr(self, "_" + method)()
        return made

    def draw_work(self) -> list[Call]:
        """Draw what it takes to have a video processed, if nobody comes between."""
        user = self._user()
        known = self.known[user]
        if not known.sessions:
            return [self._CreateVideoProcessSession()]
        session_id, video_id = self._rng.choice(known.sessions[-8:]), self._rng.choice(known.own_ids)
        known.named.add(video_id)
        others = [types.StreamInfoV11(v1_0=types.StreamInfo(stream_id=n)) for n in STREAM_IDS if n != 1]
        video = types.StreamInfoV11(v1_0=types.StreamInfo(stream_id=1, intent=hdi.STREAM_INTENT_VIDEO))
        clip = types.SharedPath(root="media", path=self._rng.choice(CLIPS))
        made = {
            "ReleaseStreams": session.ReleaseStreamsRequest(session_id=session_id, stream_infos=others),
            "CreateStreams": session.CreateStreamsRequest(session_id=session_id, stream_infos=[video]),
            "CommitStreams": session.CommitStreamsRequest(session_id=session_id),
            "Prepare": session.PrepareRequest(
                session_id=session_id, video_id=video_id, fds=[types.FileDescriptor(shared_path=clip)]
            ),
        }
        ready = [
            Call(name, partial(getattr(self._api.session, name), request)) for name, request in made.items()
        ]
        return [
            *ready,
            self._process(user, session.ProcessVideoRequest(session_id=session_id, video_id=video_id)),
        ]

    # -- what calls are given

    def _user(self) -> int:
        return self._rng.choice(USERS)

    def _is_odd(self) -> bool:
        return self._rng.random() < 2 * CALLS_OF_A_RANDOM_KIND

    def _session(self) -> tuple[str, int | None]:
        """A session and whose it is; None where it must be refused."""
        if self._is_odd():
            return (
                self._rng.choice(self.closed) if self.closed and self._rng.random() < 0.5 else junk(self._rng)
            ), None
        user = self._user()
        sessions = self.known[user].sessions[-8:]
        return (self._rng.choice(sessions), user) if sessions else ("", None)

    def _new_id(self, user: int | None) -> str:
        """An id under which the user may get a video."""
        if self._is_odd():
            return self._rng.choice(BAD_IDS)
        name = self._rng.choice([*SHARED_IDS, *self.known[user if user is not None else USERS[0]].own_ids])
        if user is not None:
            self.known[user].named.add(name)
        return name

    def _any_id(self) -> str:
        """An id of anybody, or of nobody."""
        return self._rng.choice(
            [*SHARED_IDS, *self.known[USERS[0]].own_ids, *self.known[USERS[1]].own_ids, junk(self._rng)]
        )

    def _some(self, mine: Sequence[str], theirs: Sequence[str]) -> str:
        """One of the user's, of the other's, or none at all."""
        found = self._rng.choice([mine, mine, mine, theirs, [junk(self._rng)]]) or [junk(self._rng)]
        return self._rng.choice(found[-8:])

    def _user_fields(self, user: int) -> dict[str, int]:
        return {} if self._is_odd() else {"user_id": user}

    def _others(self, user: int) -> Known:
        (other,) = (known for of_user, known in self.known.items() if of_user != user)
        return other

    def _request_id(self, user: int | None) -> str:
        if user is None or self._rng.random() < 0.6:
            return ""
        known = self.known[user].request_ids
        if self._rng.random() < 0.5 or not known:
            known.append(str(uuid.UUID(int=self._rng.getrandbits(128))))
        return self._rng.choice([*known[-4:], *([junk(self._rng)] if self._is_odd() else [])])

    # -- VideoProcessService

    def _CreateVideoProcessSession(self) -> Call:
        user = self._user()
        fields = self._user_fields(user)
        if self._is_odd():
            fields["execution_mode"] = self._rng.choice([*range(-1, 5), 2**31 - 1])
        request = service.CreateVideoProcessSessionRequest(
            **fields,  # type: ignore[arg-type]
            request_id=self._request_id(user) if fields else "",
        )

        async def make() -> Any:
            answer = await self._api.service.CreateVideoProcessSession(request)
            self.known[user].sessions.append(answer.session_id)
            return answer

        return Call("CreateVideoProcessSession", make, () if "user_id" in fields else NO_USER)

    def _CloseVideoProcessSession(self) -> Call:
        session_id, user = self._session()
        request = service.CloseVideoProcessSessionRequest(session_id=session_id)

        async def make() -> Any:
            answer = await self._api.service.CloseVideoProcessSession(request)
            self.closed.append(session_id)
            return answer

        if user is not None:
            self.known[user].sessions.remove(session_id)
        return Call("CloseVideoProcessSession", make)  # closing again is no error

    def _GetCapabilities(self) -> Call:
        fields = self._user_fields(self._user())
        request = service.GetCapabilitiesRequest(**fields)
        must = () if fields else NO_USER
        return Call("GetCapabilities", lambda: self._api.service.GetCapabilities(request), must)

    # -- VideoProcessSessionService

    def _in_session(self, method: str, kind: type[Any], **fields: Any) -> tuple[Call, int | None]:
        """A call that needs nothing of the session's user but the session."""
        session_id, user = self._session()
        request = kind(session_id=session_id, **fields)
        stub = getattr(self._api.session, method)
        return Call(method, lambda: stub(request), _must(user)), user

    def _GetPendingVideos(self) -> Call:
        session_id, user = self._session()
        request = session.GetPendingVideosRequest(session_id=session_id, **self._page(user))

        async def make() -> Any:
            answer = await self._api.session.GetPendingVideos(request)
            if user is not None:
                self.known[user].told_videos.update(answer.video_ids)
                self._keep_token(user, answer.next_page_token)
            return answer

        return Call("GetPendingVideos", make, _must(user))

    def _page(self, user: int | None) -> dict[str, Any]:
        tokens = self.known[user].tokens[-4:] if user is not None else []
        return {
            "page_size": self._rng.choice([0, 0, 1, 2, 2**31 - 1, -1]),
            "page_token": self._rng.choice(["", "", "", junk(self._rng), *tokens]),
        }

    def _keep_token(self, user: int, token: str) -> None:
        if token:
            self.known[user].tokens.append(token)

    def _Prepare(self) -> Call:
        session_id, user = self._session()
        video_id = self._new_id(user)
        count = self._rng.choice([0, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4])
        files = [self._file(user) for _ in range(count)]
        request = session.PrepareRequest(session_id=session_id, video_id=video_id, fds=files)
        return Call("Prepare", lambda: self._api.session.Prepare(request), _must(user))

    def _file(self, user: int | None) -> types.FileDescriptor:
        if not self._is_odd():
            path = self._rng.choice([*CLIPS, *CLIPS, *PATHS])
            return types.FileDescriptor(shared_path=types.SharedPath(root="media", path=path))
        mine = self.known[user].uploads if user is not None else []
        theirs = self._others(user).uploads if user is not None else []
        return self._rng.choice(
            [
                types.FileDescriptor(upload_id=self._some(mine, theirs)),
                types.FileDescriptor(upload_id=self._some(mine, theirs)),
                types.FileDescriptor(shared_path=types.SharedPath(root="media", path=junk(self._rng))),
                types.FileDescriptor(shared_path=types.SharedPath(root=junk(self._rng), path="short.mp4")),
                types.FileDescriptor(fd_token=junk(self._rng)),
                types.FileDescriptor(),
            ]
        )

    def _CreateStreams(self) -> Call:
        streams = [self._stream() for _ in range(self._rng.choice([0, 1, 1, 1, 1, 1, 1, 2, 17]))]
        return self._in_session("CreateStreams", session.CreateStreamsRequest, stream_infos=streams)[0]

    def _stream(self) -> types.StreamInfoV11:
        if self._is_odd():
            return types.StreamInfoV11()
        stream_id = self._rng.choice(STREAM_IDS)
        if not self._is_odd():
            return types.StreamInfoV11(
                v1_0=types.StreamInfo(stream_id=stream_id, intent=hdi.STREAM_INTENT_VIDEO)
            )
        stream = types.StreamInfo(
            stream_id=stream_id,
            intent=self._rng.randrange(-1, 7),  # type: ignore[arg-type]
            encode_type=self._rng.randrange(-1, 7),  # type: ignore[arg-type]
            width=self._rng.choice([0, 1, 64, 63, -1, 2**31 - 1]),
            height=self._rng.choice([0, 1, 48, 47, 2**31 - 1]),
            format=self._rng.choice([0, 24, 35, -1, 2**31 - 1]),
            dataspace=self._rng.choice([0, 8, -1, 2**31 - 1]),
            min_frame_duration=self._rng.choice([0, -1]),
        )
        further = [types.ExtendedStreamInfo(type=self._rng.randrange(-1, 9))]  # type: ignore[arg-type]
        return types.StreamInfoV11(v1_0=stream, extended_stream_infos=further if self._is_odd() else [])

    def _CommitStreams(self) -> Call:
        fields = self._rng.choice(SETTINGS)
        return self._in_session("CommitStreams", session.CommitStreamsRequest, **fields)[0]

    def _ReleaseStreams(self) -> Call:
        streams = [self._stream() for _ in range(self._rng.randrange(3))]
        return self._in_session("ReleaseStreams", session.ReleaseStreamsRequest, stream_infos=streams)[0]

    def _ProcessVideo(self) -> Call:
        session_id, user = self._session()
        request = session.ProcessVideoRequest(
            session_id=session_id,
            video_id=self._new_id(user),
            timestamp_us=self._rng.choice([0, 0, 0, 0, 33_000, 10**9, 2**63, 2**64 - 1]),
            request_id=self._request_id(user),
        )
        if self._rng.random() < 0.3:
            request.priority = self._rng.choice([0, 1, 2, 3, -1])  # type: ignore[assignment]

        return self._process(user, request)

    def _process(self, user: int | None, request: session.ProcessVideoRequest) -> Call:
        async def make() -> Any:
            answer = await self._api.session.ProcessVideo(request)
            if user is not None:
                self.known[user].jobs.add(answer.job_id)
            return answer

        return Call("ProcessVideo", make, _must(user))

    def _RemoveVideo(self) -> Call:
        fields = {"video_id": self._any_id(), "restorable": self._rng.random() < 0.5}
        return self._in_session("RemoveVideo", session.RemoveVideoRequest, **fields)[0]

    def _Interrupt(self) -> Call:
        names = [self._any_id() for _ in range(self._rng.choice([0, 0, 1, 3, 1001]))]
        return self._stop("Interrupt", session.InterruptRequest, video_ids=names)

    def _Reset(self) -> Call:
        return self._stop("Reset", session.ResetRequest)

    def _stop(self, method: str, kind: type[Any], **fields: Any) -> Call:
        call, user = self._in_session(method, kind, **fields)

        async def make() -> Any:
            answer = await call.make()
            if user is not None:
                self.known[user].told_jobs.update(answer.job_ids)
            return answer

        return Call(method, make, call.must)

    # -- VideoProcessCallbackService

    def _Subscribe(self) -> Call:
        user = self._user()
        fields = self._user_fields(user)
        request = callback.SubscribeRequest(**fields)
        if self._rng.random() < 0.7:
            request.after_sequence = self._rng.choice([0, 0, 0, 1, 5, -1, 2**63 - 1, -(2**63)])
        if self._rng.random() < 0.3:
            request.session_id = self._some(self.known[user].sessions, self._others(user).sessions)

        async def make() -> Any:
            stream = self._api.callback.Subscribe(request)
            try:
                async with asyncio.timeout(LISTEN_SECONDS):
                    async for response in stream:
                        self._learn(user, response.event)
            except TimeoutError:
                return None
            finally:
                stream.cancel()

        return Call("Subscribe", make, () if fields else NO_USER)

    def _learn(self, user: int, event: callback.CallbackEvent) -> None:
        known = self.known[user]
        if event.video_id:
            known.told_videos.add(event.video_id)
            known.told_jobs.add(event.job_id)
        known.artifacts += [found.artifact_id for found in event.on_process_done.report.artifacts]

    # -- FileTransferService

    def _Upload(self) -> Call:
        user = self._user()
        fields: dict[str, Any] = self._user_fields(user)
        must = () if fields else (*NO_USER, "INVALID_FIELD")
        fields["upload_id"] = self._upload_id(user)
        if self._is_odd():
            fields["video_id"] = self._new_id(user)
        if self._is_odd():
            fields["file_name"] = junk(self._rng)
        if self._is_odd():
            fields["size_bytes"] = self._rng.choice([0, 10, 2**63 - 1, -1])
        messages = self._messages(transfer.UploadHeader(**fields))

        async def make() -> Any:
            try:
                answer = await self._api.transfer.Upload(_each(messages))
            except grpc.aio.AioRpcError as error:
                raise LostAnswerError if error.details() == LOST_ANSWER else error from None
            self.known[user].uploads.append(answer.upload_id)
            return answer

        return Call("Upload", make, must)

    def _upload_id(self, user: int) -> str:
        if self._rng.random() < 0.5:
            return ""
        fresh = f"{self._rng.getrandbits(128):032x}"
        return self._rng.choice([fresh, self._some(self.known[user].uploads, self._others(user).uploads)])

    def _messages(self, header: transfer.UploadHeader) -> list[transfer.UploadRequest]:
        data = self._rng.choice([b"", b"no video", b"no video", b"\0" * 70_000])
        finish = transfer.UploadFinish(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        if self._is_odd():
            finish = transfer.UploadFinish(size_bytes=self._rng.choice([0, 7, -1]), sha256=junk(self._rng))
        body = transfer.UploadRequest(offset=self._rng.choice([0, 0, 0, 0, 0, 7, -1, 2**63 - 1]), data=data)
        if self._is_odd():
            body.crc32c = self._rng.getrandbits(32)
        messages = [transfer.UploadRequest(header=header), body, transfer.UploadRequest(finish=finish)]
        return messages[: self._rng.choice([1, 2, 3, 3, 3, 3])]

    def _QueryUpload(self) -> Call:
        user = self._user()
        fields = self._user_fields(user)
        upload_id = self._some(self.known[user].uploads, self._others(user).uploads)
        request = transfer.QueryUploadRequest(**fields, upload_id=upload_id)
        is_theirs = upload_id in self._others(user).uploads
        must = NO_USER if not fields else ("UPLOAD_NOT_FOUND",) if is_theirs else ()
        return Call("QueryUpload", lambda: self._api.transfer.QueryUpload(request), must)

    def _GetDownloadUrl(self) -> Call:
        user = self._user()
        fields = self._user_fields(user)
        request = transfer.GetDownloadUrlRequest(**fields, artifact_id=junk(self._rng))
        must = NO_USER if not fields else ("METHOD_NOT_SUPPORTED",)
        return Call("GetDownloadUrl", lambda: self._api.transfer.GetDownloadUrl(request), must)

    def _GetUploadUrls(self) -> Call:
        user = self._user()
        fields = self._user_fields(user)
        request = transfer.GetUploadUrlsRequest(header=transfer.UploadHeader(**fields, size_bytes=7))
        must = NO_USER if not fields else ("METHOD_NOT_SUPPORTED",)
        return Call("GetUploadUrls", lambda: self._api.transfer.GetUploadUrls(request), must)

    def _Download(self) -> Call:
        user = self._user()
        fields = self._user_fields(user)
        artifact_id = self._some(self.known[user].artifacts, self._others(user).artifacts)
        limit = self._rng.choice([0, 0, 0, 1, 2**63 - 1, -1])
        request = transfer.DownloadRequest(
            **fields,
            artifact_id=artifact_id,
            offset=self._rng.choice([0, 0, 0, 100, -1, 2**63 - 1]),
            limit=limit,
        )

        async def make() -> Any:
            return [message async for message in self._api.transfer.Download(request)]

        is_mine = artifact_id in self.known[user].artifacts
        must = ("INVALID_FIELD",) if limit < 0 else () if is_mine else ("ARTIFACT_NOT_FOUND",)
        return Call("Download", make, must if fields else NO_USER)

    # -- VideoCatalogService

    def _GetVideo(self) -> Call:
        return self._look("GetVideo", catalog.GetVideoRequest)

    def _RestoreVideo(self) -> Call:
        return self._look("RestoreVideo", catalog.RestoreVideoRequest)

    def _look(self, method: str, kind: type[Any]) -> Call:
        user = self._user()
        fields = self._user_fields(user)
        video_id = self._any_id()
        request = kind(**fields, video_id=video_id)
        must = () if video_id in self.known[user].named else ("UNKNOWN_VIDEO",)

        async def make() -> Any:
            answer = await getattr(self._api.catalog, method)(request)
            assert (answer.video.user_id, answer.video.video_id) == (user, video_id)
            self._look_at(user, answer.video)
            return answer

        return Call(method, make, must if fields else NO_USER)

    def _look_at(self, user: int, video: Any) -> None:
        known = self.known[user]
        known.artifacts += [file.artifact_id for file in video.artifacts]
        known.told_videos.add(video.video_id)
        if video.job.job_id:
            known.told_jobs.add(video.job.job_id)

    def _ListVideos(self) -> Call:
        user = self._user()
        fields = self._user_fields(user)
        request = catalog.ListVideosRequest(
            **fields,
            **self._page(user),
            states=self._rng.choice([[], [], [8], [1, 5, 5], [0], [9], [-1]]),  # type: ignore[arg-type]
            video_id_prefix=self._rng.choice(["", "", self._any_id(), junk(self._rng)]),
        )

        async def make() -> Any:
            answer = await self._api.catalog.ListVideos(request)
            for video in answer.videos:
                assert video.user_id == user
                assert video.video_id.startswith(request.video_id_prefix)
                self._look_at(user, video)
            self._keep_token(user, answer.next_page_token)
            return answer

        return Call("ListVideos", make, () if fields else NO_USER)


#: how often each method is called, in parts
#: what a service whose blobs are files refuses
NEEDS_S3 = frozenset({"GetDownloadUrl", "GetUploadUrls"})
WEIGHTS = {
    "CreateVideoProcessSession": 4,
    "CloseVideoProcessSession": 2,
    "GetCapabilities": 1,
    "GetPendingVideos": 4,
    "Prepare": 14,
    "CreateStreams": 10,
    "CommitStreams": 10,
    "ReleaseStreams": 3,
    "ProcessVideo": 16,
    "RemoveVideo": 4,
    "Interrupt": 3,
    "Reset": 1,
    "Subscribe": 4,
    "Upload": 6,
    "QueryUpload": 3,
    "Download": 5,
    "GetDownloadUrl": 1,
    "GetUploadUrls": 1,
    "GetVideo": 5,
    "ListVideos": 6,
    "RestoreVideo": 4,
}


def _must(user: int | None) -> tuple[str, ...]:
    return () if user is not None else ("SESSION_CLOSED",)


async def _each(messages: Sequence[transfer.UploadRequest]) -> AsyncIterator[transfer.UploadRequest]:
    for message in messages:
        yield message
