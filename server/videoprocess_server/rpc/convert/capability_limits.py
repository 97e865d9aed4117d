"""How much there may be of everything, as GetCapabilities tells it."""

from __future__ import annotations

from videoprocess.v1 import capabilities_pb2
from videoprocess_server.engine.videos import PENDING_PAGE
from videoprocess_server.rpc.call_limits import DOWNLOAD, MAX_HEADER_BYTES, PREPARE, UPLOAD
from videoprocess_server.rpc.capability_facts import CapabilityFacts
from videoprocess_server.rpc.convert import times
from videoprocess_server.rpc.convert.files import MAX_UPLOAD_CHUNK_BYTES

MAX_MESSAGE_BYTES = 4 << 20  # gRPC's own default on both sides
LIST_PAGE = 100
MAX_LIST_PAGE = 500


def limits(facts: CapabilityFacts) -> capabilities_pb2.Limits:
    """Return what one caller may have, and what a source may be."""
    of_users, media = facts.limits, facts.media_limits
    return capabilities_pb2.Limits(
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_upload_chunk_bytes=MAX_UPLOAD_CHUNK_BYTES,
        upload_commit_bytes=facts.upload_commit_bytes,
        max_upload_bytes=of_users.max_upload_bytes,
        max_video_id_bytes=of_users.max_video_id_bytes,
        max_sessions_per_user=of_users.max_sessions_per_user,
        max_streams_per_session=of_users.max_streams_per_session,
        max_mode_setting_bytes=of_users.max_setting_bytes,
        max_queued_jobs_per_user=of_users.max_active_jobs_per_user,
        max_queued_jobs=of_users.max_active_jobs,
        max_running_jobs=of_users.max_running_jobs,
        worker_count=facts.worker_count,
        max_subscribers_per_user=of_users.max_subscribers_per_user,
        max_pending_page_size=PENDING_PAGE,
        max_list_page_size=MAX_LIST_PAGE,
        max_frame_pixels=media.max_pixels,
        max_video_duration=times.duration_of_seconds(media.max_duration_seconds),
        max_tracks=media.max_tracks,
        user_quota_bytes=of_users.user_quota_bytes,
        max_blocked_duration=(
            times.duration_of_seconds(of_users.max_blocked_seconds) if of_users.max_blocked_seconds else None
        ),
        max_sessions=of_users.max_sessions,
        max_packets=media.max_packets,
        max_index_bytes=media.max_index_bytes,
        max_metadata_bytes=media.max_metadata_bytes,
        max_attachment_bytes=media.max_attachment_bytes,
    )


def call_limits(facts: CapabilityFacts) -> capabilities_pb2.CallLimits:
    """Return how many calls there may be, how often and for how long."""
    calls = facts.call_limits
    return capabilities_pb2.CallLimits(
        max_connections=calls.max_connections,
        max_calls=calls.max_calls,
        max_uploads=calls.max_calls_of_method[UPLOAD],
        max_downloads=calls.max_calls_of_method[DOWNLOAD],
        max_uploads_per_user=calls.max_calls_of_user[UPLOAD],
        max_downloads_per_user=calls.max_calls_of_user[DOWNLOAD],
        calls_per_second_per_user=calls.user_rate.calls_per_second,
        call_burst_per_user=calls.user_rate.burst_calls,
        calls_per_second_per_peer=calls.peer_rate.calls_per_second,
        call_burst_per_peer=calls.peer_rate.burst_calls,
        max_metadata_bytes=MAX_HEADER_BYTES,
        request_timeout=times.duration_of_seconds(calls.request_seconds),
        call_timeout=times.duration_of_seconds(calls.call_seconds),
        prepare_timeout=times.duration_of_seconds(calls.seconds_of_method[PREPARE]),
        upload_stall_timeout=times.duration_of_seconds(facts.limits.transfer_stall_seconds),
        reader_timeout=times.duration_of_seconds(calls.write_seconds),
    )


def checkpointing(facts: CapabilityFacts) -> capabilities_pb2.Checkpointing:
    """Return how work is cut, kept and set aside."""
    cuts, parking, waits = facts.plan_settings, facts.parking_limits, facts.limits
    return capabilities_pb2.Checkpointing(
        segment_duration=times.duration_of_seconds(float(cuts.segment_seconds)),
        longest_gop_duration=times.duration_of_seconds(float(cuts.longest_gop_seconds)),
        yield_duration=times.duration_of_seconds(waits.checkpoint_seconds),
        parked_duration=times.duration_of_seconds(parking.max_seconds),
        max_parked_bytes=parking.max_bytes,
        max_parked_jobs=parking.max_count,
        stall_duration=times.duration_of_seconds(waits.stall_seconds),
    )


def retention(facts: CapabilityFacts) -> capabilities_pb2.Retention:
    """Return how long things are kept."""
    kept = facts.limits.retention
    return capabilities_pb2.Retention(
        session_idle_timeout=times.duration_of_us(facts.limits.session_idle_timeout_us),
        results=times.duration_of_us(kept.results_us),
        trash=times.duration_of_us(kept.trash_us),
        removed_results=times.duration_of_us(kept.removed_results_us),
        checkpoints=times.duration_of_us(kept.checkpoints_us),
        events=times.duration_of_us(kept.events_us),
        unfinished_uploads=times.duration_of_us(kept.unfinished_uploads_us),
        unused_uploads=times.duration_of_us(kept.unused_uploads_us),
        fd_tokens=times.duration_of_seconds(facts.fd_token_seconds),
    )
