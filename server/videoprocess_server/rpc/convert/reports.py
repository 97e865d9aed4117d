"""Reports and artifacts."""

from __future__ import annotations

from collections.abc import Sequence

from videoprocess.v1 import report_pb2, types_pb2
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.plan import NotKept
from videoprocess_server.model.records import Artifact, Encoding, MediaRange, Report
from videoprocess_server.model.tasks import TrackReport
from videoprocess_server.rpc.convert import quality, times
from videoprocess_server.rpc.convert.enums import ARTIFACT_KINDS, LOSSES, PHASES, track_kind

NOISE_METHOD = (
    "standard deviation of the noise, estimated from the high DCT frequencies of the flattest 8x8 blocks"
)
_BITS_PER_BYTE = 8


def report(made: Report, artifacts: Sequence[Artifact]) -> report_pb2.ProcessReport:
    """Return the message of a report; `artifacts` are the files of its job that are still kept."""
    return report_pb2.ProcessReport(
        artifacts=[artifact(file) for file in artifacts],
        frames=_frames(made),
        enhanced_ranges=[_range(part) for part in made.enhanced],
        carried_over_ranges=[_range(part) for part in made.carried_over],
        noise=_noise(made),
        filters=made.filters,
        encodings=[_encoding(made, encoded) for encoded in made.encodings],
        segment_count=made.segment_count,
        reused_segment_count=made.reused_segment_count,
        versions=[
            report_pb2.SoftwareVersion(name=name, version=text) for name, text in made.versions.items()
        ],
        stages=[
            report_pb2.StageDuration(
                phase=PHASES[stage.phase], wall_seconds=stage.wall_seconds, cpu_seconds=stage.cpu_seconds
            )
            for stage in made.stages
        ],
        tracks=[_track(track) for track in made.tracks],
        not_kept=[_not_kept(lost) for lost in made.not_kept],
        source_size_bytes=made.source_size_bytes,
        output_size_bytes=made.size_bytes,
        duration_us=made.duration_us,
        fingerprint=made.fingerprint,
        quality=quality.scores(made.quality) if made.quality else [],
        segments=[quality.segment(part) for part in made.quality.segments] if made.quality else [],
    )


def artifact(file: Artifact) -> report_pb2.Artifact:
    """Return the message of a published file."""
    return report_pb2.Artifact(
        artifact_id=file.artifact_id,
        kind=ARTIFACT_KINDS[file.kind],
        stream_id=file.stream_id,
        media_type=file.media_type,
        file_name=file.file_name,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        create_time=times.timestamp(file.create_time_us),
        expire_time=times.optional_timestamp(file.expire_time_us),
        media_time_us=file.media_time_us,
        published_path=types_pb2.SharedPath(root=file.published_root, path=file.published_path)
        if file.published_root
        else None,
    )


def _frames(made: Report) -> report_pb2.FrameCounts:
    """Every frame of a segment that was made was decoded, or the job would not have ended well."""
    return report_pb2.FrameCounts(
        source=made.source_frame_count,
        decoded=made.decoded_frame_count,
        encoded=made.frame_count,
        dropped=made.dropped_frame_count,
        interpolated=made.interpolated_frame_count,
        enhanced=made.enhanced_frame_count,
        carried_over=made.frame_count - made.enhanced_frame_count,
    )


def _range(part: MediaRange) -> report_pb2.MediaRange:
    return report_pb2.MediaRange(start_us=part.start_us, end_us=part.end_us)


def _noise(made: Report) -> report_pb2.NoiseReport:
    before, after = made.noise_before, made.noise_after
    planes = (
        ("Y", before.sigma_y, after.sigma_y if after else 0.0),
        ("U", before.sigma_u, after.sigma_u if after else 0.0),
        ("V", before.sigma_v, after.sigma_v if after else 0.0),
    )
    return report_pb2.NoiseReport(
        method=NOISE_METHOD,
        planes=[
            report_pb2.PlaneNoise(plane=name, sigma_before=old, sigma_after=new) for name, old, new in planes
        ],
    )


def _encoding(made: Report, encoded: Encoding) -> report_pb2.EncodingReport:
    bits = encoded.size_bytes * _BITS_PER_BYTE * MICROSECONDS_PER_SECOND if encoded.is_moving else 0
    return report_pb2.EncodingReport(
        stream_id=encoded.stream_id,
        codec=encoded.codec,
        encoder=encoded.encoder,
        width=encoded.width,
        height=encoded.height,
        pixel_format=encoded.pixel_format,
        settings=" ".join(f"{name}={value}" for name, value in encoded.options.items()),
        bitrate_bps=bits // made.duration_us if made.duration_us else 0,
        note=encoded.note,
    )


def _track(track: TrackReport) -> report_pb2.TrackReport:
    return report_pb2.TrackReport(
        index=track.index,
        kind=track_kind(track.kind),
        codec=track.codec,
        packets_in=track.source_packet_count,
        packets_out=track.packet_count,
        kept=track.kept,
        note=track.note,
    )


def _not_kept(lost: NotKept) -> report_pb2.NotKept:
    return report_pb2.NotKept(
        what=LOSSES[lost.what], track_index=lost.track_index, count=lost.count, reason=lost.reason
    )
