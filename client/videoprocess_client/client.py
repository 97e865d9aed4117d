"""`Client`: the way into this library."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import grpc

from videoprocess.v1 import hdi_enums_pb2, types_pb2, video_catalog_pb2, video_pb2, video_process_service_pb2
from videoprocess.v1.report_pb2 import Artifact
from videoprocess_client.channel import default_target, open_channel
from videoprocess_client.credentials import Bearer, Tls, Token, is_private
from videoprocess_client.downloads import Download
from videoprocess_client.enhancement import Enhancement, EnhanceOptions, EnhanceResult, ProgressListener
from videoprocess_client.enums import ExecutionMode
from videoprocess_client.errors import SessionClosed, VideoProcessError
from videoprocess_client.events import Event
from videoprocess_client.link import Link
from videoprocess_client.passed_files import OpenFile
from videoprocess_client.retry import RetryPolicy
from videoprocess_client.session import Session
from videoprocess_client.signed_urls import SignedUrls
from videoprocess_client.subscription import Subscription
from videoprocess_client.transfer_progress import TransferProgress
from videoprocess_client.uploads import Upload, UploadResult

# A goodbye is not worth waiting for.
CLOSE_SECONDS = 2.0


class Client:
    """A connection to the service for one user. Use it as an async context manager.

    Calls are repeated while the service is away or busy, as the retry policy allows, so that a restart of the
    service is not noticed. Not made for use from several event loops.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        user_id: int = 100,
        credentials: grpc.ChannelCredentials | Tls | None = None,
        token: Token | None = None,
        retry: RetryPolicy | None = None,
        on_retry: Callable[[VideoProcessError], None] | None = None,
        direct: bool = False,
        on_detour: Callable[[str], None] | None = None,
    ) -> None:
        """Connect when first used.

        Args:
            target: Address in gRPC's notation; `grpcs://host:port` asks for TLS. Several, `host:port,host:port`, are replicas
                of one service: calls are spread over them, and go on at another when one is gone. None: VIDEOPROCESS_TARGET
                of the environment, else 127.0.0.1:50051.
            user_id: The user who owns videos, sessions, uploads and events.
            credentials: For TLS, with files or ready-made. None: plain text, unless the target asks for TLS.
            token: What calls carry to say who this is, or what tells it before each call. It is sent over TLS, or to this
                machine, only.
            retry: How patient the client is. None: 60 s, and 2 s before the first answer.
            on_retry: Called with the error each time the client waits for a service that it had reached before.
            direct: Whether files go past the service, to and from the store that it keeps them in, where it offers that and
                the store can be reached; else through it. Needs the extra `direct`.
            on_detour: Called with the reason when a file, or the rest of one, goes through the service all the same.

        Raises:
            OSError: A file of the credentials cannot be read.
            ValueError: The credentials do not fit together, or a token would travel in plain text.
            ConnectionFailed: None of several hosts is known.
            Unsupported: The extra `direct` is not installed.
        """
        self.target = target or default_target()
        self.user_id = user_id
        if token is not None and credentials is None and not is_private(self.target):
            raise ValueError("a token is sent over TLS or to this machine only: use grpcs://, or credentials")
        bearer = None if token is None else Bearer(token)
        self._channel = open_channel(self.target, credentials)
        self._signed_urls = SignedUrls() if direct else None
        self._link = Link(
            self._channel,
            user_id,
            retry or RetryPolicy(),
            on_retry,
            bearer,
            signed_urls=self._signed_urls,
            on_detour=on_detour,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; calls under way end too."""
        await self._channel.close()
        if self._signed_urls is not None:
            self._signed_urls.close()

    async def capabilities(self) -> video_process_service_pb2.GetCapabilitiesResponse:
        """Limits, codecs, filters, settings and versions of the running service."""
        request = video_process_service_pb2.GetCapabilitiesRequest(user_id=self.user_id)
        return await self._link.call(self._link.service.GetCapabilities, request)

    @asynccontextmanager
    async def session(self, execution_mode: ExecutionMode = ExecutionMode.DEFAULT) -> AsyncIterator[Session]:
        """Open a session, and close it at the end; accepted work goes on.

        Args:
            execution_mode: How hard the machine is driven for its jobs.
        """
        session = await self.open_session(execution_mode)
        try:
            yield session
        finally:
            await self.close_session_quietly(session.session_id)

    async def open_session(self, execution_mode: ExecutionMode = ExecutionMode.DEFAULT) -> Session:
        """Open a session that stays open until it is closed or idle for too long."""
        request = video_process_service_pb2.CreateVideoProcessSessionRequest(
            user_id=self.user_id,
            execution_mode=hdi_enums_pb2.ExecutionMode.ValueType(execution_mode),
            request_id=str(uuid.uuid4()),
        )
        response = await self._link.call(self._link.service.CreateVideoProcessSession, request)
        return Session(self._link, response.session_id, response.event_sequence)

    def attach_session(self, session_id: str) -> Session:
        """A session that was opened before, also by another process; its first call tells whether it is still open.

        Args:
            session_id: Its id. `Session.event_sequence` is 0, because only the opening tells it.
        """
        return Session(self._link, session_id, 0)

    async def close_session(self, session_id: str) -> None:
        """Close a session; closing it again is no error."""
        request = video_process_service_pb2.CloseVideoProcessSessionRequest(session_id=session_id)
        with suppress(SessionClosed):
            await self._link.call(self._link.service.CloseVideoProcessSession, request)

    async def close_session_quietly(self, session_id: str) -> None:
        """Close a session if that works at once; otherwise the service closes it when it is idle for too long."""
        with suppress(VideoProcessError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.close_session(session_id)

    async def upload(
        self,
        file: str | Path | BinaryIO,
        *,
        video_id: str | None = None,
        upload_id: str | None = None,
        on_progress: TransferProgress | None = None,
    ) -> UploadResult:
        """Upload a file; after a cut only what is missing is sent again.

        Args:
            file: A path, or a file open for reading that can be sought in.
            video_id: Registers a video under this id when the upload is finished; it still needs Prepare.
            upload_id: An earlier upload of the same file to go on with, also of another process. None: a new one.
            on_progress: Called with bytes sent so far and bytes in all.

        Raises:
            DataLoss: The file changed while it was uploaded.
        """
        if isinstance(file, str | Path):
            with await asyncio.to_thread(Path(file).open, "rb") as opened:
                return await self.upload(
                    opened, video_id=video_id, upload_id=upload_id, on_progress=on_progress
                )
        upload = Upload(
            self._link,
            file,
            file_name=Path(str(getattr(file, "name", ""))).name,
            video_id=video_id or "",
            upload_id=upload_id or "",
            on_progress=on_progress,
        )
        return await upload.run()

    async def download(
        self,
        artifact_id: str,
        path: str | Path,
        *,
        overwrite: bool = False,
        on_progress: TransferProgress | None = None,
    ) -> Artifact:
        """Fetch a result into a file, which appears whole and with the right SHA-256, or not at all.

        Args:
            artifact_id: From a report or a video.
            path: Where it goes; a temporary file lies beside it meanwhile.
            overwrite: Whether a file that is there is replaced.
            on_progress: Called with bytes fetched so far and bytes in all.

        Raises:
            FileExistsError: There is a file at `path`, and it may not be replaced.
            NotFound: The user has no such result, or it has expired.
            DataLoss: What arrived is not what its SHA-256 says.
        """
        return await Download(
            self._link, artifact_id, Path(path), overwrite=overwrite, on_progress=on_progress
        ).run()

    async def get_video(self, video_id: str) -> video_pb2.Video:
        """Everything about one video, also of one in the trash. Raises NotFound."""
        request = video_catalog_pb2.GetVideoRequest(user_id=self.user_id, video_id=video_id)
        return (await self._link.call(self._link.catalog.GetVideo, request)).video

    async def list_videos(
        self, *, states: Sequence[video_pb2.VideoState.ValueType] = (), prefix: str = ""
    ) -> AsyncIterator[video_pb2.Video]:
        """Yield the user's videos, oldest first, without their reports.

        Args:
            states: Only videos in these states. Empty: in all but DELETED.
            prefix: Only videos whose id begins with this.
        """
        token = ""
        while True:
            request = video_catalog_pb2.ListVideosRequest(
                user_id=self.user_id, states=states, video_id_prefix=prefix, page_token=token
            )
            page = await self._link.call(self._link.catalog.ListVideos, request)
            for video in page.videos:
                yield video
            token = page.next_page_token
            if not token:
                return

    async def restore_video(self, video_id: str) -> video_pb2.Video:
        """Bring a video back from the trash. Raises NotFound."""
        request = video_catalog_pb2.RestoreVideoRequest(user_id=self.user_id, video_id=video_id)
        return (await self._link.call(self._link.catalog.RestoreVideo, request)).video

    def subscribe(
        self, after_sequence: int | None = None, session_id: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """Events of the user, without end; comes back by itself and neither loses nor repeats a numbered one.

        Args:
            after_sequence: Begin with the events after this number; 0: all that are kept. None: live ones only.
            session_id: Only events of this session; they end when it is closed.

        Raises:
            OutOfRange: The event after this number is not kept any more.
        """
        return Subscription(self._link, after_sequence=after_sequence, session_id=session_id or "").events()

    async def enhance(
        self,
        source: str | Path | types_pb2.FileDescriptor | OpenFile,
        output: str | Path,
        options: EnhanceOptions | None = None,
        *,
        on_progress: ProgressListener | None = None,
    ) -> EnhanceResult:
        """Make an enhanced copy of a video: upload, prepare, process, fetch, verify, clean up.

        Goes on by itself over cuts and restarts of the service. When the task is cancelled the work is paused on the
        server and nothing is left beside `output`.

        Args:
            source: A file of this machine, which is uploaded; an open one, which is passed, see `opened`; or a descriptor, see
                `shared`.
            output: Where the enhanced video goes; further files go beside it. A directory: all files go into it.
            options: What is asked for. None: the defaults.
            on_progress: Called with the stage and how far it is.

        Raises:
            FileExistsError: There is a file at `output`, and `options.overwrite` is not set.
            InvalidArgument: The source cannot be used; `.reason` says why.
            JobFailed: The job ended without a result.
        """
        return await Enhancement(self, source, Path(output), options or EnhanceOptions(), on_progress).run()
