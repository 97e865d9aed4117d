"""What the repository's tests are made of: implementations by name, plain records, and any record at all."""

from __future__ import annotations

import hashlib
import os
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from postgres_server import VARIABLE
from soaking import SOAKING
from videoprocess_server.model.hdi import ErrorCode, ExecutionMode, StreamIntent
from videoprocess_server.model.media_info import Colour
from videoprocess_server.model.plan import EncoderPlan, FilterPlan, NoiseEstimate, Plan, Rendition
from videoprocess_server.model.quality import (
    CodingFigures,
    MotionFigures,
    PictureFigures,
    SegmentMeasures,
)
from videoprocess_server.model.records import (
    Artifact,
    ArtifactKind,
    Event,
    EventKind,
    Fault,
    Job,
    PlanRecord,
    Priority,
    Replica,
    Request,
    SegmentRecord,
    Session,
    Source,
    SourceKind,
    Tombstone,
    Upload,
    Video,
)
from videoprocess_server.model.states import JobState, SegmentState, UploadState, VideoState
from videoprocess_server.store.memory import MemoryRepository
from videoprocess_server.store.postgres import PostgresRepository
from videoprocess_server.store.repository import Repository, Transaction
from videoprocess_server.store.sqlite import SqliteRepository


def open_sqlite(directory: Path) -> Repository:
    return SqliteRepository(directory / "database.sqlite3", busy_timeout_seconds=20)


def open_memory(_: Path) -> Repository:
    return MemoryRepository(busy_timeout_seconds=20)


def open_postgres(directory: Path) -> Repository:
    """A schema of its own for each directory, on the server of the fixture `postgres`."""
    return PostgresRepository(
        os.environ[VARIABLE], schema=schema_of(directory), busy_timeout_seconds=20, reader_count=8
    )


def schema_of(directory: Path) -> str:
    return f"test_{hashlib.sha256(bytes(directory)).hexdigest()[:16]}"


IMPLEMENTATIONS: dict[str, Callable[[Path], Repository]] = {
    "sqlite": open_sqlite,
    "memory": open_memory,
    "postgres": open_postgres,
}
#: those whose rows outlive the process
DURABLE = ["sqlite", "postgres"]

# The repository stays the same over a property's examples: each undoes what it did.
ONE_REPOSITORY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=50 if SOAKING else 15,
)


@pytest.fixture(name="implementation", params=IMPLEMENTATIONS)
def implementation_fixture(request: pytest.FixtureRequest) -> str:
    if request.param == "postgres":
        request.getfixturevalue("postgres")
    return request.param


@pytest.fixture(name="repository")
def repository_fixture(implementation: str, tmp_path: Path) -> Iterator[Repository]:
    repository = IMPLEMENTATIONS[implementation](tmp_path)
    yield repository
    repository.close()


class UndoError(Exception):
    """Raised to undo a transaction."""


@contextmanager
def undone(repository: Repository) -> Iterator[Transaction]:
    """A transaction that is undone at its end."""
    with suppress(UndoError), repository.transaction() as transaction:
        yield transaction
        raise UndoError


RECORDS = (
    Session, Video, Job, PlanRecord, SegmentRecord, Upload, Artifact, Event, Request, Tombstone, Replica,
)  # fmt: skip

_INT64 = st.integers(-(2**63), 2**63 - 1)
_LEAVES = {
    str: st.text(),
    bytes: st.binary(max_size=64),
    int: _INT64,
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    Fraction: st.fractions(),
}


def anything(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Any value of an annotated type; integers are those a database has."""
    if kind in _LEAVES:
        return _LEAVES[kind]
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{field.name: anything(hints[field.name]) for field in fields(kind)})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([st.none() if part is types.NoneType else anything(part) for part in arguments])
    if origin is tuple and arguments[-1] is not ...:
        return st.tuples(*map(anything, arguments))
    if origin is tuple:
        return st.lists(anything(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(anything(arguments[0]), anything(arguments[1]), max_size=3)
    raise TypeError(kind)


def any_record(kind: type) -> st.SearchStrategy[typing.Any]:
    """Any record that breaks no invariant."""
    return anything(kind).map(_made_lawful)


def _made_lawful(record: typing.Any) -> typing.Any:
    if isinstance(record, Video):
        return replace(record, video_id=record.video_id or "v")
    if isinstance(record, SegmentRecord):
        return replace(
            record,
            index=abs(record.index) % 2**62,
            attempt_count=abs(record.attempt_count) % 2**62,
            crash_count=abs(record.crash_count) % 2**62,
            lease_token=(record.lease_token or "t") if record.state is SegmentState.LEASED else "",
            path=(record.path or "p") if record.state is SegmentState.DONE else "",
        )
    return record


def a_session(session_id: str = "s", **changes: typing.Any) -> Session:
    session = Session(
        session_id=session_id,
        user_id=1,
        execution_mode=ExecutionMode.BALANCED,
        create_time_us=0,
        last_used_time_us=0,
    )
    return replace(session, **changes)


def a_video(video_id: str = "v", **changes: typing.Any) -> Video:
    video = Video(user_id=1, video_id=video_id, state=VideoState.PENDING, create_time_us=0, update_time_us=0)
    return replace(video, **changes)


def an_uploaded_video(video_id: str, upload_id: str) -> Video:
    source = Source(kind=SourceKind.UPLOAD, identity="sha", size_bytes=1, upload_id=upload_id)
    return a_video(video_id, source=source)


def a_job(job_id: str = "j", **changes: typing.Any) -> Job:
    job = Job(
        job_id=job_id,
        user_id=1,
        video_id="v",
        session_id="s",
        state=JobState.QUEUED,
        priority=Priority.NORMAL,
        accept_number=1,
        create_time_us=0,
    )
    return replace(job, **changes)


def a_plan(plan_id: str = "p", **changes: typing.Any) -> PlanRecord:
    noise = NoiseEstimate(sigma_y=1.5, sigma_u=0.5, sigma_v=0.25, frame_count=3)
    encoder = EncoderPlan(
        encoder="libx264",
        codec="h264",
        options={"crf": "20"},
        pixel_format="yuv420p",
        width=64,
        height=48,
        frame_rate=Fraction(30000, 1001),
        sample_aspect_ratio=Fraction(1),
        colour=Colour(primaries=1, transfer=1, matrix=1, range=1),
        codec_tag="avc1",
    )
    plan = Plan(
        video_track_index=0,
        time_base=Fraction(1, 90000),
        first_pts=0,
        last_pts=0,
        end_pts=3003,
        source_frame_count=1,
        frame_count=1,
        pts_sha256="",
        segments=(),
        renditions=(
            Rendition(
                stream_id=0,
                intent=StreamIntent.VIDEO,
                encoder=encoder,
                geometry=("format=pix_fmts=yuv420p",),
                container="mp4",
                file_extension=".mp4",
            ),
        ),
        filters=FilterPlan(pixel_format="yuv420p", enhancement=(), pre_roll_frames=0, post_roll_frames=0),
        grid=None,
        noise=noise,
        output_time_base=Fraction(1, 90000),
        not_kept=(),
    )
    record = PlanRecord(
        plan_id=plan_id,
        user_id=1,
        video_id="v",
        settings_fingerprint="f",
        fingerprint="ff",
        enhance_from_us=0,
        plan=plan,
        stages=(),
        create_time_us=0,
    )
    return replace(record, **changes)


#: of a segment
_PICTURES = PictureFigures(width=2, height=1, sigma_y=8.25, sigma_u=0.0, sigma_v=1.5, sharpness=4.75)
MEASURES = SegmentMeasures(
    sample_count=4,
    size_bytes=7,
    before=None,
    after=_PICTURES,
    coding=CodingFigures(frame_count=4, ssim=0.9876, xpsnr_db=41.25, least_xpsnr_db=39.5),
    at_seams=None,
    elsewhere=None,
    changed_ssim=0.5,
    motion_after=MotionFigures(pair_count=3, jitter_px=0.125),
)


def some_segments(count: int, plan_id: str = "p") -> list[SegmentRecord]:
    return [SegmentRecord(plan_id=plan_id, index=index) for index in range(count)]


def an_upload(upload_id: str = "u", **changes: typing.Any) -> Upload:
    upload = Upload(
        upload_id=upload_id, user_id=1, state=UploadState.ACTIVE, create_time_us=0, update_time_us=0
    )
    return replace(upload, **changes)


def an_artifact(artifact_id: str = "a", **changes: typing.Any) -> Artifact:
    artifact = Artifact(
        artifact_id=artifact_id,
        user_id=1,
        video_id="v",
        job_id="j",
        stream_id=0,
        kind=ArtifactKind.VIDEO,
        media_type="video/mp4",
        file_name="v.mp4",
        size_bytes=1,
        sha256="",
        create_time_us=0,
    )
    return replace(artifact, **changes)


def an_event(job_id: str = "j", **changes: typing.Any) -> Event:
    event = Event(
        sequence=0,
        user_id=1,
        session_id="s",
        video_id="v",
        job_id=job_id,
        create_time_us=0,
        kind=EventKind.ERROR,
        fault=Fault(error_code=ErrorCode.ABORT, reason="INTERRUPTED", message="interrupted"),
    )
    return replace(event, **changes)


def a_replica(replica_id: str = "r", **changes: typing.Any) -> Replica:
    return replace(Replica(replica_id=replica_id, expire_time_us=0), **changes)


def a_tombstone(key: str = "k", **changes: typing.Any) -> Tombstone:
    return replace(Tombstone(kind="segments", key=key, create_time_us=0), **changes)


def a_request(request_id: str = "r", **changes: typing.Any) -> Request:
    request = Request(
        user_id=1,
        method="ProcessVideo",
        request_id=request_id,
        arguments_sha256="",
        answer_id="j",
        create_time_us=0,
    )
    return replace(request, **changes)
