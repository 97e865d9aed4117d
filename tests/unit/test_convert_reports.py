"""Reports, artifacts and jobs become messages, with every field that a row fills."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from google.protobuf.message import Message

from videoprocess.v1 import hdi_enums_pb2 as hdi_pb
from videoprocess.v1 import job_pb2, report_pb2
from videoprocess_server.engine.videos import VideoView
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import Colour, MediaInfo, TrackInfo, TrackKind, VideoTrackInfo
from videoprocess_server.model.plan import NoiseEstimate, NotKept
from videoprocess_server.model.quality import (
    CodingFigures,
    MotionFigures,
    PictureFigures,
    Quality,
    SegmentMeasures,
    SegmentQuality,
)
from videoprocess_server.model.records import (
    Artifact,
    ArtifactKind,
    Encoding,
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
    Video,
)
from videoprocess_server.model.states import BlockReason, JobState, VideoState
from videoprocess_server.model.tasks import TrackReport
from videoprocess_server.rpc.convert import jobs, reports

SECOND = 1_000_000
MEDIA = MediaInfo(
    container="mov,mp4,m4a,3gp,3g2,mj2",
    major_brand="qt",
    size_bytes=1000,
    duration_us=10 * SECOND,
    video=VideoTrackInfo(
        variable_frame_rate=True,
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
PICTURES = PictureFigures(width=640, height=360, sigma_y=6.0, sigma_u=2.0, sigma_v=1.0, sharpness=9.5)
CODING = CodingFigures(frame_count=8, ssim=0.98, xpsnr_db=41.5, least_xpsnr_db=38.25)
MEASURES = SegmentMeasures(
    sample_count=8,
    size_bytes=500,
    before=PICTURES,
    after=replace(PICTURES, sigma_y=0.75, sharpness=10.0),
    coding=CODING,
    at_seams=replace(CODING, xpsnr_db=41.0),
    elsewhere=replace(CODING, xpsnr_db=42.0),
    changed_ssim=0.9,
    motion_after=MotionFigures(pair_count=7, jitter_px=0.5),
)
QUALITY = Quality(
    stream_id=7,
    sample_count=8,
    before=MEASURES.before,
    after=MEASURES.after,
    changed_ssim=0.9,
    coding=CODING,
    at_seams=MEASURES.at_seams,
    elsewhere=MEASURES.elsewhere,
    jitter_before_px=4.5,
    motion_after=MEASURES.motion_after,
    segments=(
        SegmentQuality(start_us=SECOND, end_us=2 * SECOND, frame_count=30, enhanced=True, measures=MEASURES),
    ),
    segment_count=1,
)
REPORT = Report(
    enhanced_frame_count=4,
    reused_segment_count=1,
    decoded_frame_count=298,
    versions={"libavcodec": "62.28.102"},
    source_frame_count=300,
    frame_count=299,
    dropped_frame_count=1,
    segment_count=3,
    enhanced=(MediaRange(start_us=4 * SECOND, end_us=10 * SECOND),),
    carried_over=(MediaRange(start_us=0, end_us=4 * SECOND),),
    noise_before=NoiseEstimate(sigma_y=9.0, sigma_u=3.0, sigma_v=2.0, frame_count=8),
    noise_after=NoiseEstimate(sigma_y=1.5, sigma_u=0.5, sigma_v=0.25, frame_count=8),
    filters=("atadenoise=0a=0.02", "unsharp"),
    encodings=(
        Encoding(
            stream_id=7,
            codec="hevc",
            encoder="libx265",
            options={"preset": "medium", "crf": "22"},
            width=640,
            height=360,
            pixel_format="yuv420p",
            size_bytes=700,
            is_moving=True,
            note="Anything to say.",
        ),
        Encoding(
            stream_id=0,
            codec="mjpeg",
            encoder="mjpeg",
            options={},
            width=320,
            height=180,
            pixel_format="yuvj420p",
            size_bytes=100,
            is_moving=False,
        ),
    ),
    source_codec="hevc",
    source_size_bytes=1000,
    size_bytes=800,
    duration_us=10 * SECOND,
    tracks=(
        TrackReport(
            index=0, kind="audio", codec="aac", source_packet_count=470, packet_count=469, kept=True, note="n"
        ),
    ),
    not_kept=(
        NotKept(what=Loss.PACKETS_OUTSIDE_EDIT, track_index=0, count=1, reason="Outside."),
        NotKept(what=Loss.METADATA, track_index=None, count=2, reason="No chapters."),
    ),
    stages=(StageCost(phase=Phase.ENHANCE, wall_seconds=2.5, cpu_seconds=10.0),),
    fingerprint="c" * 64,
    quality=QUALITY,
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
        assert set() == unset(made)
        assert list(made.filters) == ["atadenoise=0a=0.02", "unsharp"]
        frames = made.frames
        assert (frames.source, frames.decoded, frames.encoded, frames.dropped) == (300, 298, 299, 1)
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
        ) == ("hevc", "libx265", "preset=medium crf=22", 560)
        assert set() == unset(made.encodings[0])
        assert [encoding.note for encoding in made.encodings] == ["Anything to say.", ""]
        assert [(encoding.stream_id, encoding.bitrate_bps) for encoding in made.encodings] == [
            (7, 560),
            (0, 0),
        ]
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

    def test_quality_of_the_whole(self) -> None:
        scores = {score.name: score for score in reports.report(REPORT, []).quality}
        assert {name: score.value for name, score in scores.items()} == {
            "noise_before": 6.0,
            "noise_after": 0.75,
            "sharpness_before": 9.5,
            "sharpness_after": 10.0,
            "changed_ssim": 0.9,
            "ssim": 0.98,
            "xpsnr": 41.5,
            "xpsnr_least": 38.25,
            "xpsnr_at_seams": 41.0,
            "xpsnr_elsewhere": 42.0,
            "jitter_before": 4.5,
            "jitter_after": 0.5,
        }
        about_the_source = {name for name, score in scores.items() if not score.HasField("stream_id")}
        assert about_the_source == {"noise_before", "sharpness_before", "jitter_before"}
        assert scores["xpsnr"].stream_id == 7
        assert all(score.note for score in scores.values())

    def test_quality_of_a_segment(self) -> None:
        (part,) = reports.report(REPORT, []).segments
        assert set() == unset(part)
        assert (part.start_us, part.end_us, part.frame_count) == (SECOND, 2 * SECOND, 30)
        assert (part.size_bytes, part.bitrate_bps) == (500, 4000)
        assert [(plane.plane, plane.sigma_before, plane.sigma_after) for plane in part.noise] == [
            ("Y", 6.0, 0.75),
            ("U", 2.0, 2.0),
            ("V", 1.0, 1.0),
        ]

    def test_what_was_not_measured_is_absent(self) -> None:
        bare = replace(MEASURES, before=None, changed_ssim=None, motion_after=None)
        (known,) = QUALITY.segments
        quality = replace(QUALITY, before=None, segments=(replace(known, measures=bare),))
        made = reports.report(replace(REPORT, quality=quality), [])
        assert "noise_before" not in {score.name for score in made.quality}
        assert {"sharpness_before", "changed_ssim", "jitter_after_px"} == unset(made.segments[0])

    def test_without_a_video_there_is_no_quality(self) -> None:
        made = reports.report(replace(REPORT, quality=None), [])
        assert not made.quality
        assert not made.segments

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
        assert len(made.encodings) == 2  # how they were made is told when the files are gone, too

    def test_without_a_video_there_is_no_noise_after(self) -> None:
        made = reports.report(replace(REPORT, noise_after=None), [])
        assert [(plane.sigma_before, plane.sigma_after) for plane in made.noise.planes] == [
            (9.0, 0.0),
            (3.0, 0.0),
            (2.0, 0.0),
        ]

    def test_frames_that_were_not_enhanced_were_carried_over(self) -> None:
        frames = reports.report(REPORT, []).frames
        assert (frames.enhanced, frames.carried_over) == (4, 295)

    def test_an_artifact_of_stream_0_says_so(self) -> None:
        made = reports.artifact(ARTIFACT)
        assert {"published_path", "media_time_us"} == unset(made)
        assert made.HasField("stream_id")
        assert not reports.artifact(replace(ARTIFACT, expire_time_us=None)).HasField("expire_time")

    def test_an_artifact_that_was_published_says_where(self) -> None:
        made = reports.artifact(replace(ARTIFACT, published_root="out", published_path="trip/a.mp4"))
        assert (made.published_path.root, made.published_path.path) == ("out", "trip/a.mp4")

    def test_a_picture_of_the_first_frame_says_so(self) -> None:
        first = reports.artifact(replace(ARTIFACT, kind=ArtifactKind.THUMBNAIL, media_time_us=0))
        assert first.HasField("media_time_us")


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
