"""Videos, events and uploads become messages, with every field that a row fills."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_convert_reports import ARTIFACT, FAULT, JOB, MEDIA, REPORT, SECOND, VIDEO, VIEW, unset

from videoprocess.v1 import job_pb2, video_pb2
from videoprocess_server.engine.events import StatusChanged
from videoprocess_server.engine.uploads import UploadView
from videoprocess_server.engine.videos import VideoView
from videoprocess_server.model.hdi import ErrorCode, MediaStreamType, SessionStatus
from videoprocess_server.model.records import (
    Event,
    EventKind,
    Fault,
    Source,
    SourceKind,
    Upload,
    Video,
)
from videoprocess_server.model.states import BlockReason, UploadState, VideoState
from videoprocess_server.rpc.convert import events, files, times, videos


class TestVideos:
    def test_a_video_tells_all(self) -> None:
        made = videos.video(VIEW, resume_us=0, expire_us=9 * SECOND)
        assert {"user_id", "blocked_by"} == unset(made)
        assert made.expire_time.seconds == 9
        assert made.HasField("resume_timestamp_us")
        assert REPORT.fingerprint == made.report.fingerprint
        assert [file.artifact_id for file in made.report.artifacts] == ["a" * 32]
        assert [file.artifact_id for file in made.artifacts] == ["a" * 32]
        found = [int(stream.type) for stream in made.stream_descs]
        assert found == [MediaStreamType.VIDEO, MediaStreamType.METADATA, MediaStreamType.MAKER]

    def test_lists_leave_the_reports_out(self) -> None:
        made = videos.video(VIEW, with_report=False)
        assert not made.HasField("report")
        assert not made.HasField("resume_timestamp_us")
        assert made.artifacts

    def test_what_a_probe_found(self) -> None:
        made = videos.media_info(MEDIA)
        assert unset(made) == set()
        assert (made.frame_rate.numerator, made.frame_rate.denominator) == (30000, 1001)
        assert (made.frame_count, made.audio_track_count, made.metadata_track_count) == (300, 1, 1)
        video = replace(MEDIA.video, average_frame_rate=None)
        vague = videos.media_info(replace(MEDIA, duration_us=None, video=video))
        assert unset(vague) == {"duration_us", "frame_rate"}

    def test_sources_of_both_kinds(self) -> None:
        made = videos.video(VIEW).sources[0]
        assert (
            made.kind,
            made.upload_id,
            made.sha256,
            made.file_name,
        ) == (video_pb2.SOURCE_KIND_UPLOAD, "u", "d" * 64, "")
        source = Source(
            kind=SourceKind.SHARED,
            identity="1:2:3",
            size_bytes=9,
            file_name="b.mov",
            root="r",
            path="a/b.mov",
        )
        made = videos.video(replace(VIEW, video=replace(VIDEO, source=source))).sources[0]
        assert (
            made.kind,
            made.shared_path.root,
            made.shared_path.path,
            made.file_name,
            made.sha256,
        ) == (video_pb2.SOURCE_KIND_SHARED_PATH, "r", "a/b.mov", "b.mov", "")

    def test_a_video_nobody_has_looked_at(self) -> None:
        bare = Video(user_id=1, video_id="v", state=VideoState.PENDING, create_time_us=1, update_time_us=1)
        made = videos.video(VideoView(video=bare, job=None, artifacts=(), result_job=None))
        assert {"user_id", "video_id", "state", "create_time", "update_time"} == {
            field.name for field, _ in made.ListFields()
        }

    @pytest.mark.parametrize("state", VideoState)
    def test_the_last_error_is_the_videos_or_what_paused_it(self, state: VideoState) -> None:
        pause = Fault(error_code=ErrorCode.ABORT, reason="INTERRUPTED", message="paused")
        view = replace(VIEW, video=replace(VIDEO, state=state), job=replace(JOB, fault=pause))
        expected = {VideoState.PAUSED: "INTERRUPTED", VideoState.COMPLETED: ""}.get(state, FAULT.reason)
        assert expected == videos.video(view).last_error.reason


class TestEvents:
    def test_a_result(self) -> None:
        event = Event(
            sequence=7,
            user_id=1,
            session_id="s",
            video_id="v",
            job_id="j",
            create_time_us=SECOND,
            kind=EventKind.PROCESS_DONE,
            report=REPORT,
            artifacts=(ARTIFACT,),
        )
        made = events.subscribe_response(event, 0).event
        assert {"on_status_changed", "on_error", "on_progress"} == unset(made)
        assert (made.sequence, made.create_time.seconds) == (7, 1)
        assert made.on_process_done.HasField("meta_data")
        assert [file.artifact_id for file in made.on_process_done.report.artifacts] == ["a" * 32]

    @pytest.mark.parametrize("code", ErrorCode)
    def test_an_error(self, code: ErrorCode) -> None:
        event = Event(
            sequence=8,
            user_id=1,
            session_id="s",
            video_id="v",
            job_id="j",
            create_time_us=SECOND,
            kind=EventKind.ERROR,
            fault=replace(FAULT, error_code=code),
        )
        made = events.subscribe_response(event, 0).event
        assert {"on_status_changed", "on_process_done", "on_progress"} == unset(made)
        assert made.on_error.HasField("error_code")
        assert (int(code), "UNKNOWN_VIDEO_ID", "there is none") == (
            made.on_error.error_code,
            made.on_error.reason,
            made.on_error.message,
        )

    def test_progress_has_no_number(self) -> None:
        made = events.subscribe_response(JOB, 9 * SECOND).event
        assert {"sequence", "on_status_changed", "on_process_done", "on_error"} == unset(made)
        assert made.create_time.seconds == 9
        assert made.on_progress.progress.frames_done == 30

    @pytest.mark.parametrize("status", SessionStatus)
    def test_a_status(self, status: SessionStatus) -> None:
        made = events.subscribe_response(
            StatusChanged(status, BlockReason.OVERHEAT, "why", "s"), 9 * SECOND
        ).event
        fields = {field.name for field, _ in made.ListFields()}
        assert {"create_time", "session_id", "on_status_changed"} == fields
        assert made.on_status_changed.HasField("status")
        told = made.on_status_changed
        assert (int(status), job_pb2.BLOCK_REASON_OVERHEAT, "why") == (told.status, told.reason, told.message)


class TestUploads:
    def test_an_upload_before_and_after_its_end(self) -> None:
        upload = Upload(
            upload_id="u",
            user_id=1,
            state=UploadState.ACTIVE,
            create_time_us=1,
            update_time_us=1,
            declared_size_bytes=10,
        )
        made: Any
        view = UploadView(upload=upload, committed_size=4, expire_time_us=9 * SECOND)
        for made in (files.upload_response(view), files.query_upload_response(view)):
            assert made.expire_time.seconds == 9
            assert (
                made.upload_id,
                made.committed_size_bytes,
                made.size_bytes,
                made.sha256,
                made.complete,
            ) == ("u", 4, 10, "", False)
        finished = replace(upload, state=UploadState.FINISHED, size_bytes=10, sha256="d" * 64)
        used = UploadView(upload=finished, committed_size=10, expire_time_us=None)
        for made in (files.upload_response(used), files.query_upload_response(used)):
            assert {"expire_time"} == unset(made)
            assert made.complete


class TestTimes:
    def test_wall_times_are_exact_to_the_microsecond(self) -> None:
        made = times.timestamp(1_700_000_000_123_457)
        assert (made.seconds, made.nanos) == (1_700_000_000, 123_457_000)
