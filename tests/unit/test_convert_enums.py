"""Every member of every enum crosses the wire, in both directions where it goes both ways."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Any

import pytest

from videoprocess.v1 import hdi_enums_pb2 as pb
from videoprocess.v1 import job_pb2, report_pb2, video_pb2
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model import hdi
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import TrackKind
from videoprocess_server.model.records import ArtifactKind, Phase, Priority, SourceKind
from videoprocess_server.model.states import BlockReason, JobState, VideoState
from videoprocess_server.rpc.convert import enums
from videoprocess_server.rpc.convert.fields import member

MIRRORED: list[tuple[type[IntEnum], Any, str]] = [
    (hdi.CamRetCode, pb.CamRetCode, "CAM_RET_CODE_"),
    (hdi.MediaStreamType, pb.MediaStreamType, "MEDIA_STREAM_TYPE_"),
    (hdi.StreamIntent, pb.StreamIntent, "STREAM_INTENT_"),
    (hdi.EncodeType, pb.EncodeType, "ENCODE_TYPE_"),
    (hdi.SessionStatus, pb.SessionStatus, "SESSION_STATUS_"),
    (hdi.ErrorCode, pb.ErrorCode, "ERROR_CODE_"),
    (hdi.ExecutionMode, pb.ExecutionMode, "EXECUTION_MODE_"),
    (hdi.OperationMode, pb.OperationMode, "OPERATION_MODE_"),
    (hdi.ExtendedStreamInfoType, pb.ExtendedStreamInfoType, "EXTENDED_STREAM_INFO_TYPE_"),
]

TABLES: list[tuple[type[Enum], Mapping[Any, int]]] = [
    (Loss, enums.LOSSES),
    (VideoState, enums.VIDEO_STATES),
    (JobState, enums.JOB_STATES),
    (Priority, enums.PRIORITIES),
    (BlockReason, enums.BLOCK_REASONS),
    (Phase, enums.PHASES),
    (SourceKind, enums.SOURCE_KINDS),
    (ArtifactKind, enums.ARTIFACT_KINDS),
    (TrackKind, enums.TRACK_KINDS),
]


@pytest.mark.parametrize(("ours", "theirs", "prefix"), MIRRORED)
def test_mirrored_enums_have_the_same_names_and_numbers(
    ours: type[IntEnum], theirs: Any, prefix: str
) -> None:
    assert {prefix + item.name: item.value for item in ours} == dict(theirs.items())
    for item in ours:
        assert item is member(ours, int(theirs.Value(prefix + item.name)), "f")


@pytest.mark.parametrize(("ours", "theirs", "prefix"), MIRRORED)
def test_numbers_of_no_member_are_refused_by_the_fields_name(
    ours: type[IntEnum],
    theirs: Any,
    prefix: str,
) -> None:
    for number in (max(ours) + 1, min(ours) - 1, 2**31 - 1, -(2**31)):
        with pytest.raises(VideoProcessError) as refusal:
            member(ours, number, "stream_infos[0].v1_0.intent")
        assert refusal.value.reason == "INVALID_FIELD"
        assert list(refusal.value.violations) == ["stream_infos[0].v1_0.intent"]


@pytest.mark.parametrize(("ours", "table"), TABLES, ids=lambda value: getattr(value, "__name__", ""))
def test_tables_are_complete(ours: type[Enum], table: Mapping[Any, int]) -> None:
    assert set(ours) == set(table)


@pytest.mark.parametrize(
    "table", [enums.VIDEO_STATES, enums.JOB_STATES, enums.PRIORITIES, enums.BLOCK_REASONS, enums.PHASES]
)
def test_no_two_members_become_one(table: Mapping[Any, int]) -> None:
    assert len(table) == len(set(table.values()))


def test_states_are_never_unspecified() -> None:
    assert 0 not in enums.VIDEO_STATES.values()
    assert 0 not in enums.JOB_STATES.values()
    assert set(video_pb2.VideoState.values()) == {0, *enums.VIDEO_STATES.values()}
    assert set(job_pb2.JobState.values()) == {0, *enums.JOB_STATES.values()}


def test_every_priority_can_be_asked_for_and_none_leaves_it_to_the_service() -> None:
    assert {number: enums.PRIORITY_OF_NUMBER[number] for number in job_pb2.Priority.values()} == {
        job_pb2.PRIORITY_UNSPECIFIED: None,
        job_pb2.PRIORITY_NORMAL: Priority.NORMAL,
        job_pb2.PRIORITY_HIGH: Priority.HIGH,
    }


def test_kinds_of_tracks_are_read_by_their_word() -> None:
    assert [enums.TRACK_KINDS[kind] for kind in TrackKind] == [
        enums.track_kind(kind.value) for kind in TrackKind
    ]
    assert enums.track_kind("smell") == report_pb2.TRACK_KIND_OTHER
