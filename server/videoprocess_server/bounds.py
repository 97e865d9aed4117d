"""Settings → how much there may be of everything. Part of the composition root, like `app`."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from videoprocess_server.engine.gates import GateLimits
from videoprocess_server.engine.limits import Limits, Retention
from videoprocess_server.engine.parking import ParkingLimits
from videoprocess_server.engine.replica_lease import LeaseTimes
from videoprocess_server.engine.scheduler import Capacity
from videoprocess_server.engine.sources import SharedRoot
from videoprocess_server.execution.observed import ObservedExecutor
from videoprocess_server.machine.capacity import memory_budget_bytes
from videoprocess_server.machine.local import default_disk_reserve_bytes
from videoprocess_server.machine.open_files import raise_open_files
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.plan import PlanSettings
from videoprocess_server.model.tasks import MediaLimits
from videoprocess_server.rpc.call_limits import CallLimits, limits_within
from videoprocess_server.rpc.capability_facts import AccessFacts, AuthMode
from videoprocess_server.rpc.rate_limits import Rate
from videoprocess_server.settings import Settings

#: of the memory budget, what frozen workers may hold unless the settings say otherwise
PARKED_SHARE = 4


def engine_limits(settings: Settings) -> Limits:
    """Return what users may have."""
    return Limits(
        max_sessions=settings.max_sessions,
        max_sessions_per_user=settings.max_sessions_per_user,
        max_active_jobs=settings.max_queued_jobs,
        max_active_jobs_per_user=settings.max_queued_jobs,
        max_upload_bytes=settings.max_upload_bytes,
        transfer_stall_seconds=settings.transfer_stall_seconds,
        session_idle_timeout_us=_microseconds(settings.session_idle_seconds),
        stall_seconds=settings.stall_seconds,
        max_running_jobs=settings.max_running_jobs,
        max_blocked_seconds=settings.max_blocked_seconds or None,
        user_quota_bytes=settings.user_quota_bytes,
        retention=_retention(settings),
    )


def call_limits(settings: Settings) -> CallLimits:
    """Return how many calls there may be, within the files that may be open and the memory."""
    return limits_within(
        raise_open_files(),
        memory_budget_bytes(),
        settings.max_connections,
        peer_rate=Rate(settings.max_calls_per_second_per_peer, settings.max_burst_calls_per_peer),
        user_rate=Rate(settings.max_calls_per_second_per_user, settings.max_burst_calls_per_user),
    )


def media_limits(settings: Settings) -> MediaLimits:
    """Return what a source may declare."""
    return MediaLimits(
        max_pixels=settings.max_pixels,
        max_duration_seconds=settings.max_duration_seconds,
        max_tracks=settings.max_tracks,
        max_packets=settings.max_packets,
        max_index_bytes=settings.max_index_bytes,
        max_metadata_bytes=settings.max_metadata_bytes,
        max_attachment_bytes=settings.max_attachment_bytes,
    )


def plan_settings(settings: Settings) -> PlanSettings:
    """Return how sources are cut."""
    return PlanSettings(
        segment_seconds=_exact(settings.segment_seconds),
        longest_gop_seconds=_exact(settings.longest_gop_seconds),
    )


def capacity(settings: Settings, executor: ObservedExecutor) -> Capacity:
    """Return what running work may take together."""
    memory_bytes = settings.memory_budget_bytes or executor.memory_bytes or memory_budget_bytes()
    return Capacity(cores=executor.worker_count, memory_bytes=memory_bytes)


def parking_limits(settings: Settings, within: Capacity) -> ParkingLimits:
    """Return what interrupted work may keep."""
    return ParkingLimits(
        max_bytes=settings.max_parked_bytes or within.memory_bytes // PARKED_SHARE,
        max_seconds=settings.parked_seconds,
    )


def lease_times(settings: Settings) -> LeaseTimes:
    """Return how long a replica is believed in."""
    return LeaseTimes(
        lease_seconds=settings.replica_lease_seconds,
        renew_seconds=settings.replica_renew_seconds,
        look_seconds=settings.replica_look_seconds,
    )


def gate_limits(settings: Settings, disk_total_bytes: int) -> GateLimits:
    """Return from when on NORMAL work waits."""
    reserve = settings.disk_reserve_bytes
    return GateLimits(
        disk_reserve_bytes=default_disk_reserve_bytes(disk_total_bytes) if reserve is None else reserve,
        max_temperature_celsius=settings.max_temperature_celsius,
        max_cpu_pressure_percent=settings.max_cpu_pressure_percent,
        max_memory_pressure_percent=settings.max_memory_pressure_percent,
        quiet_hours=settings.quiet_hours,
    )


def shared_roots(settings: Settings) -> Mapping[str, SharedRoot]:
    """Return the directories that callers may name, by their names."""
    return {
        root.name: SharedRoot(
            name=root.name,
            path=root.path.resolve(),
            user_ids=frozenset(root.users),
            writable=root.writable,
        )
        for root in settings.shared_root
    }


def access_facts(settings: Settings) -> AccessFacts:
    """Return who gets in, as callers are told."""
    taken = {
        AuthMode.TOKEN: settings.token_file,
        AuthMode.WEB_TOKEN: settings.jwks_file,
        AuthMode.CLIENT_CERTIFICATE: settings.tls_client_ca,
    }
    modes = tuple(mode for mode, is_set in taken.items() if is_set)
    unasked = AuthMode.EVERY_CALLER if settings.insecure_listen_anywhere else AuthMode.LOCAL_CALLERS
    return AccessFacts(
        modes=modes or (unasked,),
        tls=settings.tls_cert is not None,
        needs_client_certificate=settings.tls_client_ca is not None,
    )


def _retention(settings: Settings) -> Retention:
    return Retention(
        results_us=_microseconds(settings.keep_results_seconds),
        removed_results_us=_microseconds(settings.keep_removed_results_seconds),
        trash_us=_microseconds(settings.keep_trash_seconds),
        checkpoints_us=_microseconds(settings.keep_checkpoints_seconds),
        events_us=_microseconds(settings.keep_events_seconds),
        unfinished_uploads_us=_microseconds(settings.keep_unfinished_uploads_seconds),
        unused_uploads_us=_microseconds(settings.keep_unused_uploads_seconds),
        steady_clock_seconds=settings.steady_clock_seconds,
    )


def _microseconds(seconds: float) -> int:
    return round(seconds * MICROSECONDS_PER_SECOND)


def _exact(seconds: float) -> Fraction:
    """Return the decimal a person typed, not its nearest float."""
    return Fraction(str(seconds))
