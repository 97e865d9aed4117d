"""One short job as a patient client does it: every call is repeated until it is answered, and the answers are kept.

Two videos of one upload, whose results are written into a shared root too. The first is processed, fetched, put into the trash
and brought back. The second is processed, interrupted, processed again and removed while it is worked on. Then the first is removed too. What a call is answered with is a
promise: see `broken_answers`.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from data_directory import Files, Rows
from media_factory import make_clip
from service_harness import USER, Api
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session

#: three segments of 12 frames, and one worker, so that few steps come in another order the next time
FLAGS = ("--segment-seconds", "0.4", "--longest-gop-seconds", "1", "--workers", "1")
SEGMENTS = 3
#: a shared root that results are written to, and its folder beside the data directory
ROOT, SHARED = "out", "shared"
MESSAGE_BYTES = 8192
KEPT, DROPPED = "kept", "dropped"
LAST_STAGE = "events"


def flags(shared: Path) -> tuple[str, ...]:
    """Those of a service that may write to this folder."""
    return (*FLAGS, "--shared-root", f"{ROOT},rw={shared}")


def short_clip(folder: Path) -> bytes:
    """The bytes of a clip that takes a fifth of a second to process."""
    path = folder / "clip.mp4"
    make_clip(path, frames=36, gop=12, width=64, height=48, noise_sigma=6.0)
    return path.read_bytes()


@dataclass(frozen=True)
class Answer:
    """What a call was answered with, and when."""

    value: Any
    time_seconds: float


@dataclass
class ShortJob:
    """A client with its memory; `go_on` may be called again on another connection."""

    clip: bytes
    upload_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    request_ids: Mapping[str, str] = field(
        default_factory=lambda: {name: str(uuid.uuid4()) for name in STAGES}
    )
    #: of each stage, in the order of the answers
    answers: dict[str, Answer] = field(default_factory=dict)
    #: stages whose call was sent, answered or not
    begun: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, stage: str) -> Any:
        return self.answers[stage].value

    async def go_on(self, api: Api, last_stage: str = LAST_STAGE) -> None:
        """Does what is not answered yet, up to a stage. AioRpcError: the service is gone, or refuses."""
        for stage, do in STAGES.items():
            if stage not in self.answers:
                self.begun.setdefault(stage, time.time())
                value = await do(self, api)
                self.answers[stage] = Answer(value, time.time())
            if stage == last_stage:
                return

    @property
    def job_ids(self) -> set[str]:
        """The accepted jobs."""
        return {self[stage].job_id for stage in ("process", "process dropped", "process again", "mark")}

    @property
    def result_sha256(self) -> str:
        return str(self["done"].on_process_done.report.artifacts[0].sha256)

    # -- the stages

    async def _committed_size(self, api: Api) -> int:
        try:
            request = transfer.QueryUploadRequest(user_id=USER, upload_id=self.upload_id)
            return int((await api.transfer.QueryUpload(request)).committed_size_bytes)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return 0

    async def _send(self, api: Api, end: int, **finish: Any) -> transfer.UploadResponse:
        """Sends what the service has not got yet, from message to message."""
        begin = await self._committed_size(api)

        async def messages() -> AsyncIterator[transfer.UploadRequest]:
            header = transfer.UploadHeader(user_id=USER, upload_id=self.upload_id, file_name="clip.mp4")
            yield transfer.UploadRequest(header=header)
            for offset in range(begin, end, MESSAGE_BYTES):
                data = self.clip[offset : min(offset + MESSAGE_BYTES, end)]
                yield transfer.UploadRequest(offset=offset, data=data)
            if finish:
                yield transfer.UploadRequest(offset=max(begin, end), finish=transfer.UploadFinish(**finish))

        return await api.transfer.Upload(messages())

    async def upload_half(self, api: Api) -> transfer.UploadResponse:
        return await self._send(api, len(self.clip) // 2)

    async def upload(self, api: Api) -> transfer.UploadResponse:
        sha256 = hashlib.sha256(self.clip).hexdigest()
        return await self._send(api, len(self.clip), size_bytes=len(self.clip), sha256=sha256)

    async def open_session(self, api: Api) -> str:
        request = service.CreateVideoProcessSessionRequest(
            user_id=USER, request_id=self.request_ids["session"]
        )
        return str((await api.service.CreateVideoProcessSession(request)).session_id)

    async def _prepare(self, api: Api, video_id: str) -> Any:
        file = types.FileDescriptor(upload_id=self.upload_id)
        request = session.PrepareRequest(session_id=self["session"], video_id=video_id, fds=[file])
        return await api.session.Prepare(request)

    async def prepare(self, api: Api) -> Any:
        return await self._prepare(api, KEPT)

    async def commit(self, api: Api) -> None:
        """An answer may have been lost: the stream may be there."""
        known = types.StreamInfoV11(v1_0=types.StreamInfo(stream_id=1))
        await api.session.ReleaseStreams(
            session.ReleaseStreamsRequest(session_id=self["session"], stream_infos=[known])
        )
        directory = types.SharedDirectory(root=ROOT, name_template="{job_id}.{ext}")
        await api.commit_video(self["session"], buffer_queue=types.BufferQueue(directory=directory))

    async def process(self, api: Api) -> Any:
        return await api.process(self["session"], KEPT, request_id=self.request_ids["process"])

    async def wait(self, api: Api) -> Any:
        return await api.terminal(self["process"])

    async def fetch(self, api: Api) -> str:
        artifact = self["done"].on_process_done.report.artifacts[0]
        return hashlib.sha256(await api.download(artifact.artifact_id)).hexdigest()

    async def put_in_trash(self, api: Api) -> Any:
        return await self._remove(api, KEPT, restorable=True)

    async def restore(self, api: Api) -> Any:
        return await api.catalog.RestoreVideo(catalog.RestoreVideoRequest(user_id=USER, video_id=KEPT))

    async def prepare_dropped(self, api: Api) -> Any:
        return await self._prepare(api, DROPPED)

    async def process_dropped(self, api: Api) -> Any:
        return await api.process(self["session"], DROPPED, request_id=self.request_ids["process dropped"])

    async def interrupt_dropped(self, api: Api) -> Any:
        return await api.session.Interrupt(
            session.InterruptRequest(session_id=self["session"], video_ids=[DROPPED])
        )

    async def wait_interrupted(self, api: Api) -> Any:
        return await api.terminal(self["process dropped"])

    async def process_again(self, api: Api) -> Any:
        return await api.process(self["session"], DROPPED, request_id=self.request_ids["process again"])

    async def _remove(self, api: Api, video_id: str, *, restorable: bool = False) -> Any:
        return await api.session.RemoveVideo(
            session.RemoveVideoRequest(session_id=self["session"], video_id=video_id, restorable=restorable)
        )

    async def remove_dropped(self, api: Api) -> Any:
        return await self._remove(api, DROPPED)

    async def wait_dropped(self, api: Api) -> Any:
        return await api.terminal(self["process again"])

    async def remove(self, api: Api) -> Any:
        return await self._remove(api, KEPT)

    async def mark(self, api: Api) -> Any:
        """A job that ends at once, so that whoever reads events knows where they end."""
        return await api.process(self["session"], "unknown", request_id=self.request_ids["mark"])

    async def read_events(self, api: Api) -> list[Any]:
        """All events that are kept, up to the mark."""
        read = []
        async for event in api.events(USER, 0):
            if event.sequence:
                read.append(event)
            if event.job_id == self["mark"].job_id:
                return read
        raise AssertionError("the subscription ended")


#: in order
STAGES: Mapping[str, Callable[[ShortJob, Api], Awaitable[Any]]] = {
    "upload half": ShortJob.upload_half,
    "upload": ShortJob.upload,
    "session": ShortJob.open_session,
    "prepare": ShortJob.prepare,
    "commit": ShortJob.commit,
    "process": ShortJob.process,
    "done": ShortJob.wait,
    "fetch": ShortJob.fetch,
    "trash": ShortJob.put_in_trash,
    "restore": ShortJob.restore,
    "prepare dropped": ShortJob.prepare_dropped,
    "process dropped": ShortJob.process_dropped,
    "interrupt dropped": ShortJob.interrupt_dropped,
    "interrupted": ShortJob.wait_interrupted,
    "process again": ShortJob.process_again,
    "remove dropped": ShortJob.remove_dropped,
    "dropped": ShortJob.wait_dropped,
    "remove": ShortJob.remove,
    "mark": ShortJob.mark,
    LAST_STAGE: ShortJob.read_events,
}


def broken_answers(client: ShortJob, rows: Rows) -> Iterator[str]:
    """What the client was answered that the rows know nothing of."""
    for stage, (holds, released_by) in _PROMISES.items():
        if stage in client.answers and released_by not in client.begun and not holds(client, rows):
            yield f"what the client was answered to {stage!r} is gone"


def _has_video(video_id: str, states: Collection[str] = ()) -> Callable[[ShortJob, Rows], bool]:
    def holds(_: ShortJob, rows: Rows) -> bool:
        video = rows.find("videos", user_id=USER, video_id=video_id)
        if video is None or video["media"] is None or video["source"] is None:
            return False
        return not states or video["state"] in states

    return holds


def _has_no_video(video_id: str) -> Callable[[ShortJob, Rows], bool]:
    return lambda _, rows: rows.find("videos", user_id=USER, video_id=video_id) is None


def _has_job(stage: str) -> Callable[[ShortJob, Rows], bool]:
    return lambda client, rows: rows.find("jobs", job_id=client[stage].job_id) is not None


def _has_event(stage: str) -> Callable[[ShortJob, Rows], bool]:
    def holds(client: ShortJob, rows: Rows) -> bool:
        event = client[stage]
        return rows.find("events", user_id=USER, sequence=event.sequence, job_id=event.job_id) is not None

    return holds


def _has_upload(client: ShortJob, rows: Rows) -> bool:
    return rows.find("uploads", upload_id=client.upload_id, state="finished") is not None


def _has_result(client: ShortJob, rows: Rows) -> bool:
    artifact = client["done"].on_process_done.report.artifacts[0]
    return rows.find("artifacts", artifact_id=artifact.artifact_id, sha256=artifact.sha256) is not None


def _has_session(client: ShortJob, rows: Rows) -> bool:
    return rows.find("sessions", session_id=client["session"], close_time_us=None) is not None


def _has_streams(client: ShortJob, rows: Rows) -> bool:
    row = rows.find("sessions", session_id=client["session"])
    return row is not None and row["committed"] is not None


#: what the answer to a stage promises, and the stage from whose beginning on that no longer counts; "" for ever
_PROMISES: Mapping[str, tuple[Callable[[ShortJob, Rows], bool], str]] = {
    "upload": (_has_upload, "remove"),
    "session": (_has_session, ""),
    "prepare": (_has_video(KEPT), "remove"),
    "commit": (_has_streams, ""),
    "process": (_has_job("process"), ""),
    "done": (_has_event("done"), ""),
    "fetch": (_has_result, ""),
    "trash": (_has_video(KEPT, {"deleted"}), "restore"),
    "restore": (_has_video(KEPT, {"completed"}), "remove"),
    "prepare dropped": (_has_video(DROPPED), "remove dropped"),
    "process dropped": (_has_job("process dropped"), ""),
    "interrupted": (_has_event("interrupted"), ""),
    "process again": (_has_job("process again"), ""),
    "remove dropped": (_has_no_video(DROPPED), ""),
    "dropped": (_has_event("dropped"), ""),
    "remove": (_has_no_video(KEPT), ""),
    "mark": (_has_job("mark"), ""),
}


def broken_publications(rows: Rows, shared: Files) -> Iterator[str]:
    """What rows say was written into the shared root and is not there, or is there with other bytes."""
    for artifact in rows["artifacts"]:
        path = artifact["published_path"]
        assert path == f"{artifact['job_id']}.mp4"
        if path not in shared:
            yield f"{path} is not in the shared root"
        elif shared[path].sha256 != artifact["sha256"]:
            yield f"{path} in the shared root has other bytes than its row says"


def half_done(shared: Files, sha256: str) -> Iterator[str]:
    """What a reader of the shared root finds there that is not a whole result."""
    for path, file in shared.items():
        if not path.startswith(".") and file.sha256 != sha256:
            yield f"{path} has a name and is not whole"


def left_in_shared_root(rows: Rows, shared: Files) -> Iterator[str]:
    """What is in the shared root though no job has brought it there, and nothing says that it is to go."""
    known = {artifact["published_path"] for artifact in rows["artifacts"]}
    buried = [json.loads(stone["key"]) for stone in rows["tombstones"] if stone["kind"] == "published"]
    known |= {stone[key] for stone in buried for key in ("name", "temporary_name")}
    yield from (f"{path} is left in the shared root" for path in shared if path not in known)


async def check_to_the_end(client: ShortJob, api: Api) -> None:
    """What must be so once all stages are answered, whatever came between."""
    events = await client.read_events(api)
    assert sorted(client.job_ids) == sorted(event.job_id for event in events), "one terminal event per job"
    assert list(range(1, 1 + len(events))) == [event.sequence for event in events]
    assert [event.sequence for event in client["events"]] == [event.sequence for event in events]
    assert client["done"] in events
    assert client["interrupted"] in events
    assert client["dropped"] in events
    assert await client.fetch(api) == client.result_sha256 == client["fetch"]
