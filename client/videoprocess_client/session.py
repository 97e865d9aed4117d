"""A session: streams and settings, and the calls that work on a user's videos. One method per HDI method."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from videoprocess.v1 import job_pb2, mode_setting_pb2, types_pb2
from videoprocess.v1 import video_process_session_pb2 as pb
from videoprocess_client.enums import Priority
from videoprocess_client.errors import ConnectionFailed, InvalidArgument, VideoProcessError
from videoprocess_client.jobs import Job
from videoprocess_client.link import Link
from videoprocess_client.passed_files import FilePassing, OpenFile, Source

_T = TypeVar("_T")

# How often an open file is passed before its token is good: the answer to an earlier one may have been lost.
PASSES = 3


class Session:
    """An open session. Every method raises `SessionClosed` once the service has closed it.

    Attributes:
        session_id: Its id.
        event_sequence: The user's newest event number when the session was opened.
    """

    def __init__(self, link: Link, session_id: str, event_sequence: int) -> None:
        self._link = link
        self._passing = FilePassing(link)
        self._stub = link.session
        self._stream_ids: set[int] = set()
        self.session_id = session_id
        self.event_sequence = event_sequence

    async def get_pending(self) -> AsyncIterator[str]:
        """Yield the ids of the user's videos without a result, oldest first."""
        token = ""
        while True:
            request = pb.GetPendingVideosRequest(session_id=self.session_id, page_token=token)
            page = await self._link.call(self._stub.GetPendingVideos, request)
            for video_id in page.video_ids:
                yield video_id
            token = page.next_page_token
            if not token:
                return

    async def prepare(
        self,
        video_id: str,
        source: Source | Sequence[Source] | None = None,
    ) -> pb.PrepareResponse:
        """Register a file under an id and learn which streams it has.

        Args:
            video_id: The caller's id, 1 to 256 bytes of UTF-8.
            source: One file, three as in v1_5, or None for what the id already has. See `uploaded`, `shared` and `opened`.

        Raises:
            InvalidArgument: The file cannot be used; `.reason` says why, e.g. NOT_A_VIDEO.
            Conflict: Another file for a video that is queued, running or in the trash.
        """
        if source is None:
            source = ()
        elif isinstance(source, types_pb2.FileDescriptor | OpenFile):
            source = (source,)
        return await self._with_tokens(source, lambda fds: self._prepare(video_id, fds))

    async def _prepare(self, video_id: str, fds: Sequence[types_pb2.FileDescriptor]) -> pb.PrepareResponse:
        request = pb.PrepareRequest(session_id=self.session_id, video_id=video_id, fds=fds)
        return await self._link.call(self._stub.Prepare, request)

    async def _with_tokens(
        self, sources: Sequence[Source], call: Callable[[Sequence[types_pb2.FileDescriptor]], Awaitable[_T]]
    ) -> _T:
        """Make a call with open files named by tokens, which are for one use: a call whose answer was lost needs others."""
        for _ in range(PASSES - 1):
            try:
                return await call(await self._passing.named(sources))
            except InvalidArgument as error:
                is_open = any(isinstance(source, OpenFile) for source in sources)
                if error.reason != "UNKNOWN_FD_TOKEN" or not is_open:
                    raise
        return await call(await self._passing.named(sources))

    async def create_streams(self, streams: Sequence[types_pb2.StreamInfoV11]) -> None:
        """Add streams to the session; they count from the next `commit_streams` on. See `stream`."""
        asked = {info.v1_0.stream_id for info in streams}
        is_new = not asked & self._stream_ids

        async def undo(error: VideoProcessError) -> None:
            # The lost answer may have been a yes: the same ids again would be refused as duplicates.
            if is_new and isinstance(error, ConnectionFailed):
                await self.release_streams(sorted(asked))

        request = pb.CreateStreamsRequest(session_id=self.session_id, stream_infos=streams)
        await self._link.call(self._stub.CreateStreams, request, before_retry=undo)
        self._stream_ids |= asked

    async def commit_streams(self, settings: bytes | mode_setting_pb2.ModeSetting | None = None) -> None:
        """Freeze the created streams together with the settings.

        Args:
            settings: OpenHarmony's serialised camera metadata, the typed form, or None for the defaults.

        Raises:
            FailedPrecondition: No stream was created.
            Unsupported: This build cannot do what a setting asks for.
        """
        request = pb.CommitStreamsRequest(session_id=self.session_id)
        if isinstance(settings, bytes):
            request.serialized = settings
        elif settings is not None:
            request.typed.CopyFrom(settings)
        await self._link.call(self._stub.CommitStreams, request)

    async def release_streams(self, stream_ids: Sequence[int]) -> None:
        """Drop streams from the session; accepted jobs keep theirs. Unknown ids are ignored."""
        infos = [
            types_pb2.StreamInfoV11(v1_0=types_pb2.StreamInfo(stream_id=number)) for number in stream_ids
        ]
        request = pb.ReleaseStreamsRequest(session_id=self.session_id, stream_infos=infos)
        await self._link.call(self._stub.ReleaseStreams, request)
        self._stream_ids -= set(stream_ids)

    async def process(
        self,
        video_id: str,
        timestamp_us: int = 0,
        *,
        priority: Priority = Priority.UNSPECIFIED,
        request_id: str = "",
    ) -> Job:
        """Have work on a video accepted; `Job.wait` follows it to its end.

        Args:
            video_id: The video.
            timestamp_us: Where enhancement starts: media time in microseconds from the first frame.
            priority: How urgent it is.
            request_id: A UUID; the same one with the same arguments gets the same job. Empty: one is drawn.

        Raises:
            ResourceExhausted: Too many jobs wait.
        """
        request = pb.ProcessVideoRequest(
            session_id=self.session_id,
            video_id=video_id,
            timestamp_us=timestamp_us,
            request_id=request_id or str(uuid.uuid4()),
        )
        if priority:
            request.priority = job_pb2.Priority.ValueType(priority)
        return Job(self._link, video_id, await self._link.call(self._stub.ProcessVideo, request))

    async def remove(self, video_id: str, *, restorable: bool = False) -> pb.RemoveVideoResponse:
        """Stop the work on a video and remove it. An unknown id is no error.

        Args:
            video_id: The video.
            restorable: True: into the trash, from where it can come back. False: for good.
        """
        request = pb.RemoveVideoRequest(session_id=self.session_id, video_id=video_id, restorable=restorable)
        return await self._link.call(self._stub.RemoveVideo, request)

    async def interrupt(self, video_ids: Sequence[str] = ()) -> list[str]:
        """Pause the session's work, or that on the named videos of the user; what is done is kept.

        Returns:
            Ids of the jobs that were told to stop; each gets its terminal event.
        """
        request = pb.InterruptRequest(session_id=self.session_id, video_ids=video_ids)
        return list((await self._link.call(self._stub.Interrupt, request)).job_ids)

    async def reset(self) -> list[str]:
        """Interrupt, then make the session as new; checkpoints of its unfinished work are dropped.

        Returns:
            Ids of the jobs that were told to stop; each gets its terminal event.
        """
        job_ids = (
            await self._link.call(self._stub.Reset, pb.ResetRequest(session_id=self.session_id))
        ).job_ids
        self._stream_ids.clear()
        return list(job_ids)
