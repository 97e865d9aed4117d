"""Rows of the store become messages, with every field that a row fills."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import pytest
from google.protobuf.message import Message

from videoprocess.v1 import hdi_enums_pb2 as hdi_pb
from videoprocess.v1 import job_pb2, report_pb2, video_pb2
from videoprocess_server.engine.events import StatusChanged
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.sessions import ENCODE_TYPES_OF_INTENT
from videoprocess_server.engine.sources import SharedRoot
from videoprocess_server.engine.videos import VideoView
from videoprocess_server.model.hdi import ErrorCode, MediaStreamType, SessionStatus, StreamIntent
from videoprocess_server.model.media_info import Colour, MediaInfo, TrackInfo, TrackKind, VideoTrackInfo
from videoprocess_server.model.mode_setting import TAGS, SettingError, TypedSettings, from_typed
from videoprocess_server.model.plan import NoiseEstimate, NotKept
from videoprocess_server.model.records import (
    Artifact,
    ArtifactKind,
    Event,
    EventKind,
    Fault,
    Job,
    JobProgress,
    MediaRange,
    Phase,
    Priority,
    Report,
    Source,
    SourceKind,
    StageCost,
    Upload,
    Video,
)
from videoprocess_server.model.settings_snapshot import FrameRateRange, Rect
from videoprocess_server.model.states import BlockReason, JobState, UploadState, VideoState
from videoprocess_server.model.tasks import BuildInfo, MediaLimits, TrackReport
from videoprocess_server.rpc.capability_facts import CapabilityFacts
from videoprocess_server.rpc.convert import capabilities, events, files, jobs, reports, times, videos

SECOND = 1_000_000
MEDIA = MediaInfo(
    container="mov,mp4,m4a,3gp,3g2,mj2",
    major_brand="qt",
    size_bytes=1000,
    duration_us=10 * SECOND,
    video=VideoTrackInfo(
        index=1,
        codec="hevc",
        profile="Main 10",
        width=1920,
        height=1080,
        pixel_format="yuv420p10le",
        bit_depth=10,
        time_base=Fraction(1, 600),
        average_frame_rate=Fraction(30000, 1001),
        duration=Fraction(10),
        sample_aspect_ratio=Fraction(1),
        rotation_degrees=90,
        colour=Colour(primaries=9, transfer=18, matrix=9, range=1),
    ),
    tracks=(
        TrackInfo(
            index=0, kind=TrackKind.AUDIO, codec="aac", packet_count=470, duration=None, language="und"
        ),
        TrackInfo(index=1, kind=TrackKind.VIDEO, codec="hevc", packet_count=300, duration=None, language=""),
        TrackInfo(index=2, kind=TrackKind.DATA, codec="mebx", packet_count=10, duration=None, language=""),
        TrackInfo(index=3, kind=TrackKind.DATA, codec="tmcd", packet_count=1, duration=None, language=""),
    ),
)
ARTIFACT = Artifact(
    artifact_id="a" * 32,
    user_id=1,
    video_id="v",
    job_id="j",
    stream_id=0,
    kind=ArtifactKind.VIDEO,
    media_type="video/quicktime",
    file_name="clip_enhanced.mov",
    size_bytes=800,
    sha256="b" * 64,
    create_time_us=5 * SECOND,
    expire_time_us=6 * SECOND,
)
REPORT = Report(
    source_frame_count=300,
    frame_count=299,
    dropped_frame_count=1,
    segment_count=3,
    enhanced=(MediaRange(start_us=4 * SECOND, end_us=10 * SECOND),),
    carried_over=(MediaRange(start_us=0, end_us=4 * SECOND),),
    noise_before=NoiseEstimate(sigma_y=9.0, sigma_u=3.0, sigma_v=2.0, frame_count=8),
    noise_after=NoiseEstimate(sigma_y=1.5, sigma_u=0.5, sigma_v=0.25, frame_count=8),
    filters=("atadenoise=0a=0.02", "unsharp"),
    encoder="libx265",
    encoder_options={"preset": "medium", "crf": "22"},
    source_codec="hevc",
    codec="hevc",
    source_size_bytes=1000,
    size_bytes=800,
    duration_us=10 * SECOND,
    tracks=(
        TrackReport(
            index=0, kind="audio", codec="aac", source_packet_count=470, packet_count=469, kept=True, note="n"
        ),
    ),
    not_kept=(
        NotKept(what="AUDIO_PACKETS_OUTSIDE_EDIT", track_index=0, count=1, reason="Outside."),
        NotKept(what="CHAPTER", track_index=None, count=2, reason="No chapters."),
    ),
    stages=(StageCost(phase=Phase.ENHANCE, wall_seconds=2.5, cpu_seconds=10.0),),
    fingerprint="c" * 64,
)
FAULT = Fault(error_code=ErrorCode.INVALID_ID, reason="UNKNOWN_VIDEO_ID", message="there is none")
PROGRESS = JobProgress(
    phase=Phase.ENHANCE,
    percent=12.5,
    frames_done=30,
    frames_total=240,
    segments_done=1,
    segments_total=8,
    fps=24.5,
    eta_seconds=8.571428,
)
JOB = Job(
    job_id="j",
    user_id=1,
    video_id="v",
    session_id="s",
    state=JobState.FAILED,
    priority=Priority.HIGH,
    accept_number=3,
    create_time_us=SECOND,
    start_time_us=2 * SECOND,
    end_time_us=3 * SECOND + 1,
    timestamp_us=2**63 - 1,
    progress=PROGRESS,
    fault=FAULT,
    report=REPORT,
)
VIDEO = Video(
    user_id=0,
    video_id="v",
    state=VideoState.FAILED,
    create_time_us=SECOND,
    update_time_us=2 * SECOND,
    source=Source(kind=SourceKind.UPLOAD, identity="sha256:" + "d" * 64, size_bytes=1000, upload_id="u"),
    media=MEDIA,
    attempt_count=2,
    last_job_id="j",
    last_fault=FAULT,
    result_job_id="r",
)
VIEW = VideoView(
    video=VIDEO, job=JOB, artifacts=(ARTIFACT,), result_job=replace(JOB, state=JobState.COMPLETED)
)


def unset(message: Message) -> set[str]:
    """Fields of a message that say nothing."""
    return {field.name for field in message.DESCRIPTOR.fields} - {
        field.name for field, _ in message.ListFields()
    }


class TestReports:
    def test_a_report_tells_all_it_knows(self) -> None:
        made = reports.report(REPORT, [ARTIFACT])
        assert {"reused_segment_count", "quality", "versions"} == unset(made)
        assert list(made.filters) == ["atadenoise=0a=0.02", "unsharp"]
        assert (made.frames.source, made.frames.encoded, made.frames.dropped) == (300, 299, 1)
        assert [(part.start_us, part.end_us) for part in made.enhanced_ranges] == [(4 * SECOND, 10 * SECOND)]
        assert [(part.start_us, part.end_us) for part in made.carried_over_ranges] == [(0, 4 * SECOND)]
        assert [(plane.plane, plane.sigma_before, plane.sigma_after) for plane in made.noise.planes] == [
            ("Y", 9.0, 1.5),
            ("U", 3.0, 0.5),
            ("V", 2.0, 0.25),
        ]
        assert made.noise.method
        assert (
            made.encodings[0].codec,
            made.encodings[0].encoder,
            made.encodings[0].settings,
            made.encodings[0].bitrate_bps,
        ) == ("hevc", "libx265", "preset=medium crf=22", 640)
        assert (
            made.stages[0].phase,
            made.stages[0].wall_seconds,
            made.stages[0].cpu_seconds,
        ) == (job_pb2.JOB_PHASE_ENHANCE, 2.5, 10.0)
        assert (
            made.source_size_bytes,
            made.output_size_bytes,
            made.duration_us,
            made.segment_count,
            made.fingerprint,
        ) == (1000, 800, 10 * SECOND, 3, "c" * 64)

    def test_tracks_and_losses(self) -> None:
        made = reports.report(REPORT, [])
        assert (
            report_pb2.TrackReport(
                index=0,
                kind=report_pb2.TRACK_KIND_AUDIO,
                codec="aac",
                packets_in=470,
                packets_out=469,
                kept=True,
                note="n",
            )
            == made.tracks[0]
        )
        assert (
            report_pb2.NotKept(
                what=report_pb2.NOT_KEPT_CATEGORY_PACKET, track_index=0, count=1, reason="Outside."
            )
            == made.not_kept[0]
        )
        assert made.not_kept[0].HasField("track_index")
        assert not made.not_kept[1].HasField("track_index")
        assert not made.encodings

    def test_frames_are_counted_where_all_were_enhanced_or_none(self) -> None:
        whole = reports.report(replace(REPORT, carried_over=()), []).frames
        assert (whole.enhanced, whole.carried_over) == (299, 0)
        none = reports.report(replace(REPORT, enhanced=()), []).frames
        assert (none.enhanced, none.carried_over) == (0, 299)

    def test_an_artifact_of_stream_0_says_so(self) -> None:
        made = reports.artifact(ARTIFACT)
        assert {"published_path"} == unset(made)
        assert made.HasField("stream_id")
        assert not reports.artifact(replace(ARTIFACT, expire_time_us=None)).HasField("expire_time")


class TestJobs:
    def test_a_job_tells_all(self) -> None:
        made = jobs.job(JOB)
        assert {"blocked_by"} == unset(made)
        assert (made.end_time.seconds, made.end_time.nanos) == (3, 1000)
        assert made.error.HasField("error_code")
        assert made.error.error_code == hdi_pb.ERROR_CODE_INVALID_ID

    def test_progress_tells_all(self) -> None:
        made = jobs.progress(PROGRESS)
        assert set() == unset(made)
        assert (made.eta.seconds, made.eta.nanos) == (8, 571_428_000)

    def test_what_is_not_known_is_absent(self) -> None:
        fresh = Job(
            job_id="j",
            user_id=1,
            video_id="v",
            session_id="s",
            state=JobState.QUEUED,
            priority=Priority.NORMAL,
            accept_number=1,
            create_time_us=0,
        )
        made = jobs.job(fresh)
        assert not any(made.HasField(name) for name in ("start_time", "end_time", "error"))
        assert not made.progress.HasField("eta")

    def test_only_a_queued_job_is_blocked(self) -> None:
        blocked = replace(JOB, blocked_by=BlockReason.RETRY_BACKOFF)
        assert jobs.blocked_by(blocked) == job_pb2.BLOCK_REASON_UNSPECIFIED
        queued = replace(blocked, state=JobState.QUEUED)
        assert jobs.blocked_by(queued) == job_pb2.BLOCK_REASON_RETRY_BACKOFF

    @pytest.mark.parametrize("seconds", [float("inf"), 1e300, -1.0])
    def test_an_eta_beyond_reason_does_not_break_the_answer(self, seconds: float) -> None:
        assert jobs.progress(replace(PROGRESS, eta_seconds=seconds)).HasField("eta")


class TestVideos:
    def test_a_video_tells_all(self) -> None:
        made = videos.video(VIEW, resume_us=0)
        assert {"user_id", "expire_time", "blocked_by"} == unset(made)
        assert made.HasField("resume_timestamp_us")
        assert REPORT.fingerprint == made.report.fingerprint
        assert [file.artifact_id for file in made.report.artifacts] == ["a" * 32]
        assert [file.artifact_id for file in made.artifacts] == ["a" * 32]
        found = [stream.type for stream in made.stream_descs]
        assert found == [MediaStreamType.VIDEO, MediaStreamType.METADATA, MediaStreamType.MAKER]

    def test_lists_leave_the_reports_out(self) -> None:
        made = videos.video(VIEW, with_report=False)
        assert not made.HasField("report")
        assert not made.HasField("resume_timestamp_us")
        assert made.artifacts

    def test_what_a_probe_found(self) -> None:
        made = videos.media_info(MEDIA)
        assert {"variable_frame_rate"} == unset(made)
        assert (made.frame_rate.numerator, made.frame_rate.denominator) == (30000, 1001)
        assert (made.frame_count, made.audio_track_count, made.metadata_track_count) == (300, 1, 1)
        video = replace(MEDIA.video, average_frame_rate=None)
        vague = videos.media_info(replace(MEDIA, duration_us=None, video=video))
        assert {"variable_frame_rate", "duration_us", "frame_rate"} == unset(vague)

    def test_sources_of_both_kinds(self) -> None:
        made = videos.video(VIEW).sources[0]
        assert (
            made.kind,
            made.upload_id,
            made.sha256,
            made.file_name,
        ) == (video_pb2.SOURCE_KIND_UPLOAD, "u", "d" * 64, "")
        source = Source(kind=SourceKind.SHARED, identity="1:2:3", size_bytes=9, root="r", path="a/b.mov")
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
        made = events.subscribe_response(event, 0, draining=False).event
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
        made = events.subscribe_response(event, 0, draining=False).event
        assert {"on_status_changed", "on_process_done", "on_progress"} == unset(made)
        assert made.on_error.HasField("error_code")
        assert (int(code), "UNKNOWN_VIDEO_ID", "there is none") == (
            made.on_error.error_code,
            made.on_error.reason,
            made.on_error.message,
        )

    def test_progress_has_no_number(self) -> None:
        made = events.subscribe_response(JOB, 9 * SECOND, draining=False).event
        assert {"sequence", "on_status_changed", "on_process_done", "on_error"} == unset(made)
        assert made.create_time.seconds == 9
        assert made.on_progress.progress.frames_done == 30

    @pytest.mark.parametrize("status", SessionStatus)
    def test_a_status(self, status: SessionStatus) -> None:
        made = events.subscribe_response(StatusChanged(status, "why"), 9 * SECOND, draining=False).event
        assert {"create_time", "on_status_changed"} == {field.name for field, _ in made.ListFields()}
        assert made.on_status_changed.HasField("status")
        assert (int(status), "why") == (made.on_status_changed.status, made.on_status_changed.message)

    def test_a_status_while_the_service_stops_says_so(self) -> None:
        changed = StatusChanged(SessionStatus.NOT_READY_TEMPORARILY, "stopping")
        made = events.subscribe_response(changed, 0, draining=True).event
        assert made.on_status_changed.reason == job_pb2.BLOCK_REASON_DRAINING


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
        for made in (files.upload_response(upload, 4), files.query_upload_response(upload, 4)):
            assert (
                made.upload_id,
                made.committed_size_bytes,
                made.size_bytes,
                made.sha256,
                made.complete,
            ) == ("u", 4, 10, "", False)
        finished = replace(upload, state=UploadState.FINISHED, size_bytes=10, sha256="d" * 64)
        for made in (files.upload_response(finished, 10), files.query_upload_response(finished, 10)):
            assert {"expire_time"} == unset(made)
            assert made.complete


class TestTimes:
    def test_wall_times_are_exact_to_the_microsecond(self) -> None:
        made = times.timestamp(1_700_000_000_123_457)
        assert (made.seconds, made.nanos) == (1_700_000_000, 123_457_000)


class TestCapabilities:
    BUILD = BuildInfo(
        versions={"pyav": "18.1.0"},
        video_decoders=("h264", "hevc"),
        video_encoders=("libx264", "libx265"),
        filters=("atadenoise", "crop", "unsharp"),
    )

    def facts(self, build: BuildInfo = BUILD) -> CapabilityFacts:
        return CapabilityFacts(
            limits=Limits(),
            media_limits=MediaLimits(),
            build_info=lambda: build,
            worker_count=3,
            upload_commit_bytes=1 << 20,
            shared_roots=lambda user_id: [SharedRoot(name=f"of-{user_id}", path=None)],  # type: ignore[arg-type]
            versions={"videoprocess": "0.1.0"},
        )

    def test_everything_is_told(self) -> None:
        made = capabilities.capabilities(self.facts(), 7)
        assert set() == unset(made)
        assert {"max_source_bytes", "user_quota_bytes", "max_blocked_duration"} == unset(made.limits)
        assert made.retention.session_idle_timeout.seconds == 1800
        assert made.retention.removed_results.seconds == 3600
        assert [root.name for root in made.shared_roots] == ["of-7"]
        assert {"videoprocess", "protocol", "pyav"} == {version.name for version in made.versions}
        assert not any(extra.present for extra in made.extras)

    def test_each_intent_is_there_once_and_only_video_is_made(self) -> None:
        made = capabilities.capabilities(self.facts(), 7)
        assert list(StreamIntent) == [support.intent for support in made.intents]
        assert all(support.HasField("intent") and support.description for support in made.intents)
        able = {support.intent: set(support.encode_types) for support in made.intents if support.encode_types}
        assert {StreamIntent.VIDEO: ENCODE_TYPES_OF_INTENT[StreamIntent.VIDEO]} == able

    def test_an_encoder_that_is_not_there_is_not_told(self) -> None:
        made = capabilities.capabilities(self.facts(replace(self.BUILD, video_encoders=("libx264",))), 7)
        assert [encoder.name for encoder in made.encoders] == ["libx264"]
        video = next(support for support in made.intents if support.intent == hdi_pb.STREAM_INTENT_VIDEO)
        assert list(video.encode_types) == [hdi_pb.ENCODE_TYPE_NULL, hdi_pb.ENCODE_TYPE_H264]

    def test_each_setting_is_there_once_with_its_tag(self) -> None:
        made = capabilities.capabilities(self.facts(), 7)
        told = {support.name.rpartition(".")[2]: support for support in made.settings}
        assert {field.name for field in fields(TypedSettings)} == set(told)
        for name, support in told.items():
            assert support.tag == 0 or TAGS[support.tag].field == name
            assert bool(support.tag) == (name in {known.field for known in TAGS.values()})

    def test_what_is_told_to_be_supported_is(self) -> None:
        """CommitStreams takes an example of each supported setting, and refuses one of each other."""
        examples: dict[str, Any] = {
            "operation_mode": 2,
            "frame_rate_range": FrameRateRange(min_fps=30, max_fps=30),
            "zoom_ratio": 2.0,
            "zoom_crop_region": Rect(x=0, y=0, width=100, height=100),
            "video_stabilization": 1,
            "mirror": True,
            "orientation_degrees": 90,
            "denoise_strength": 0.5,
            "sharpen_strength": 0.5,
            "deband_strength": 0.5,
            "crf": 20.0,
            "bitrate_bps": 1000,
            "tone_mapping": 2,
        }
        for support in capabilities.capabilities(self.facts(), 7).settings:
            name = support.name.rpartition(".")[2]
            asked = TypedSettings(**{name: examples[name]})
            if support.supported:
                from_typed(asked)
                continue
            with pytest.raises(SettingError) as refusal:
                from_typed(asked)
            assert ("unsupported", support.name) == (refusal.value.kind, refusal.value.field)
