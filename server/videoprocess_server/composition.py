"""Settings → the objects that run below rpc. Part of the composition root, like `app`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version

import grpc

from videoprocess_server.blobs.local import LocalBlobStore
from videoprocess_server.engine.authorisation import Policy
from videoprocess_server.engine.clock_watch import ClockWatch
from videoprocess_server.engine.conditions import Condition, Conditions
from videoprocess_server.engine.copied_files import CopiedFiles
from videoprocess_server.engine.deliveries import Deliveries
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.gates import FOLDER_NAME, GATES, GateLimits, Gates
from videoprocess_server.engine.housekeeping import Housekeeping
from videoprocess_server.engine.jobs import Jobs
from videoprocess_server.engine.limits import Limits, Retention
from videoprocess_server.engine.parking import ParkingLimits
from videoprocess_server.engine.passed_files import PassedFiles
from videoprocess_server.engine.probes import Probes
from videoprocess_server.engine.quotas import Quotas
from videoprocess_server.engine.removal import Removals
from videoprocess_server.engine.results import Results
from videoprocess_server.engine.retention import Expirations
from videoprocess_server.engine.scheduler import Capacity, Scheduler
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.sources import SharedRoot, Sources
from videoprocess_server.engine.stops import Stops
from videoprocess_server.engine.sweeper import Sweeper
from videoprocess_server.engine.uploads import Uploads
from videoprocess_server.engine.videos import Videos
from videoprocess_server.engine.watermarks import Watermarks
from videoprocess_server.engine.workshop import Workshop
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.machine.capacity import memory_budget_bytes
from videoprocess_server.machine.local import LocalMachine, default_disk_reserve_bytes
from videoprocess_server.machine.open_files import raise_open_files
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND, SystemClock
from videoprocess_server.model.plan import PlanSettings
from videoprocess_server.model.states import BlockReason
from videoprocess_server.model.tasks import BuildInfo, MediaLimits
from videoprocess_server.rpc.call_limits import CallLimits, limits_within
from videoprocess_server.rpc.call_pool import CallPools
from videoprocess_server.rpc.capability_facts import CapabilityFacts
from videoprocess_server.rpc.rate_limits import Rate
from videoprocess_server.rpc.services import Services
from videoprocess_server.settings import Settings
from videoprocess_server.store.repository import Repository

#: of the memory budget, what frozen workers may hold unless the settings say otherwise
PARKED_SHARE = 4
UPLOAD_COMMIT_BYTES = 3 * 1024 * 1024  # the largest message: what a cut costs at most


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """What runs below rpc."""

    services: Services
    passed_files: PassedFiles
    scheduler: Scheduler
    housekeeping: Housekeeping
    gates: Gates
    conditions: Conditions
    executor: ProcessPoolExecutor


def _limits(settings: Settings) -> Limits:
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


def _call_limits(settings: Settings) -> CallLimits:
    return limits_within(
        raise_open_files(),
        memory_budget_bytes(),
        settings.max_connections,
        peer_rate=Rate(settings.max_calls_per_second_per_peer, settings.max_burst_calls_per_peer),
        user_rate=Rate(settings.max_calls_per_second_per_user, settings.max_burst_calls_per_user),
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


def _roots(settings: Settings) -> Mapping[str, SharedRoot]:
    return {
        root.name: SharedRoot(
            name=root.name,
            path=root.path.resolve(),
            user_ids=frozenset(root.users),
            writable=root.writable,
        )
        for root in settings.shared_root
    }


def compose(
    settings: Settings,
    repository: Repository,
    blobs: LocalBlobStore,
    executor: ProcessPoolExecutor,
    build: BuildInfo,
    policy: Policy,
) -> Machinery:
    """Make all objects; nothing runs yet."""
    clock, limits = SystemClock(), _limits(settings)
    memory_bytes = settings.memory_budget_bytes or memory_budget_bytes()
    media_limits = MediaLimits(
        max_pixels=settings.max_pixels,
        max_duration_seconds=settings.max_duration_seconds,
        max_tracks=settings.max_tracks,
        max_packets=settings.max_packets,
        max_index_bytes=settings.max_index_bytes,
        max_metadata_bytes=settings.max_metadata_bytes,
        max_attachment_bytes=settings.max_attachment_bytes,
    )
    plan_settings = PlanSettings(
        segment_seconds=_exact(settings.segment_seconds),
        longest_gop_seconds=_exact(settings.longest_gop_seconds),
    )
    hub = EventHub(repository, limits)
    conditions = Conditions(hub)
    roots = _roots(settings)
    deliveries = Deliveries(roots)
    sweeper = Sweeper(repository, blobs, clock, deliveries.withdraw)
    quotas = Quotas(repository, blobs, limits.user_quota_bytes, time.monotonic)
    sources = Sources(blobs, roots)
    sessions = Sessions(repository, hub, policy, clock, limits)
    probes = Probes(executor, limits)
    scheduler = Scheduler(
        repository,
        Workshop(
            blobs=blobs,
            sources=sources,
            deliveries=deliveries,
            executor=executor,
            hub=hub,
            sweeper=sweeper,
            clock=clock,
            limits=limits,
            plan_settings=plan_settings,
            build=lambda: build,
        ),
        Capacity(cores=executor.worker_count, memory_bytes=memory_bytes),
        ParkingLimits(
            max_bytes=settings.max_parked_bytes or memory_bytes // PARKED_SHARE,
            max_seconds=settings.parked_seconds,
        ),
        conditions,
        gate=lambda: gates.reason,
        over_quota=lambda user_id: bool(quotas.exceeded(user_id)),
    )
    machine = LocalMachine(settings.data_dir)
    gates = Gates(
        machine,
        _gate_limits(settings, machine),
        settings.data_dir / FOLDER_NAME,
        changed=lambda: _tell_gates(gates, conditions, scheduler),
    )

    def space_left() -> bool:
        return all(closed.gate.reason is not BlockReason.SPACE_LIMIT for closed in gates.closed)

    uploads = Uploads(repository, blobs, sources, policy, clock, limits, quotas, space_left)
    passed_files = PassedFiles(policy, time.monotonic)
    copies = CopiedFiles(repository, blobs, passed_files, sweeper, clock, limits, quotas, space_left)
    services = Services(
        repository=repository,
        policy=policy,
        clock=clock,
        hub=hub,
        sessions=sessions,
        videos=Videos(
            repository,
            sessions,
            sources,
            probes,
            policy,
            clock,
            limits,
            media_limits,
            scheduler,
            sweeper,
            copies,
        ),
        jobs=Jobs(repository, sessions, hub, scheduler, clock, limits, plan_settings, lambda: build),
        stops=Stops(repository, sweeper, sessions, hub, scheduler, clock, limits),
        watermarks=Watermarks(repository, sessions, sources, probes, copies),
        deliveries=deliveries,
        removals=Removals(repository, sessions, hub, scheduler, sweeper, policy, clock, limits),
        uploads=uploads,
        results=Results(repository, blobs, policy),
        work=scheduler,
        facts=CapabilityFacts(
            limits=limits,
            media_limits=media_limits,
            build_info=lambda: build,
            worker_count=executor.worker_count,
            upload_commit_bytes=UPLOAD_COMMIT_BYTES,
            shared_roots=sources.roots_of,
            fd_socket=lambda: passed_files.place,
            fd_token_seconds=passed_files.token_seconds,
            versions={"videoprocess": version("videoprocess"), "grpcio": grpc.__version__},
        ),
        call_limits=_call_limits(settings),
        pools=CallPools.open(limits),
        draining=asyncio.Event(),
    )
    return Machinery(
        services=services,
        passed_files=passed_files,
        scheduler=scheduler,
        housekeeping=Housekeeping(
            sessions,
            Expirations(repository, uploads, scheduler, clock, limits.retention),
            sweeper,
            ClockWatch(clock, time.monotonic, limits.retention.steady_clock_seconds),
            settings.housekeeping_seconds,
        ),
        gates=gates,
        conditions=conditions,
        executor=executor,
    )


def _gate_limits(settings: Settings, machine: LocalMachine) -> GateLimits:
    reserve = settings.disk_reserve_bytes
    return GateLimits(
        disk_reserve_bytes=(
            default_disk_reserve_bytes(machine.disk_total_bytes()) if reserve is None else reserve
        ),
        max_temperature_celsius=settings.max_temperature_celsius,
        max_cpu_pressure_percent=settings.max_cpu_pressure_percent,
        max_memory_pressure_percent=settings.max_memory_pressure_percent,
        quiet_hours=settings.quiet_hours,
    )


def _tell_gates(gates: Gates, conditions: Conditions, scheduler: Scheduler) -> None:
    """Tell subscribers and the scheduler which gates are closed."""
    closed = {entry.gate.name: entry for entry in gates.closed}
    for kind in GATES:
        entry = closed.get(kind.name)
        if entry is None:
            conditions.end(kind.name)
        else:
            conditions.begin(kind.name, Condition(kind.status, kind.reason, entry.why))
    scheduler.wake()


def _exact(seconds: float) -> Fraction:
    """Return the decimal a person typed, not its nearest float."""
    return Fraction(str(seconds))
