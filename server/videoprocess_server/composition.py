"""Settings → the objects that run below rpc. Part of the composition root, like `app`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import grpc

from videoprocess_server import bounds
from videoprocess_server.blobs.blob_store import BlobStore
from videoprocess_server.blobs.signed_urls import SignsUrls
from videoprocess_server.engine.authorisation import Policy
from videoprocess_server.engine.clock_watch import ClockWatch
from videoprocess_server.engine.conditions import Condition, Conditions
from videoprocess_server.engine.copied_files import CopiedFiles
from videoprocess_server.engine.deliveries import Deliveries
from videoprocess_server.engine.direct_transfers import DirectTransfers
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.gates import FOLDER_NAME, GATES, Gates
from videoprocess_server.engine.housekeeping import Housekeeping
from videoprocess_server.engine.jobs import Jobs
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.membership import ALONE, Membership
from videoprocess_server.engine.parking import ParkingLimits
from videoprocess_server.engine.passed_files import PassedFiles
from videoprocess_server.engine.probes import Probes
from videoprocess_server.engine.quotas import Quotas
from videoprocess_server.engine.recording import SILENT, Recorder
from videoprocess_server.engine.removal import Removals
from videoprocess_server.engine.results import Results
from videoprocess_server.engine.retention import Expirations
from videoprocess_server.engine.scheduler import Scheduler
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.sharing import Sharing
from videoprocess_server.engine.sources import Sources
from videoprocess_server.engine.stops import Stops
from videoprocess_server.engine.sweeper import Sweeper
from videoprocess_server.engine.uploads import Uploads
from videoprocess_server.engine.videos import Videos
from videoprocess_server.engine.watermarks import Watermarks
from videoprocess_server.engine.work import Work
from videoprocess_server.engine.workshop import Workshop
from videoprocess_server.execution.observed import ObservedExecutor
from videoprocess_server.execution.sandbox import missing_layers
from videoprocess_server.machine.local import LocalMachine
from videoprocess_server.model.clock import Clock, SystemClock
from videoprocess_server.model.spans import NOWHERE, SpanSink
from videoprocess_server.model.states import BlockReason
from videoprocess_server.model.tasks import BuildInfo
from videoprocess_server.rpc.call_pool import CallPools
from videoprocess_server.rpc.call_recorder import SILENT_CALLS, CallRecorder
from videoprocess_server.rpc.capability_facts import CapabilityFacts, IsolationFacts
from videoprocess_server.rpc.services import Services
from videoprocess_server.settings import Settings
from videoprocess_server.store.repository import Repository
from videoprocess_server.store.shared import SharedRepository

LARGEST_MESSAGE_BYTES = 3 * 1024 * 1024  # what a cut costs at least, where it comes in the middle of one


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """What runs below rpc."""

    services: Services
    passed_files: PassedFiles
    scheduler: Scheduler
    housekeeping: Housekeeping
    gates: Gates
    conditions: Conditions
    executor: ObservedExecutor
    machine: LocalMachine
    membership: Membership


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """What everything else stands on."""

    settings: Settings
    repository: Repository
    blobs: BlobStore
    executor: ObservedExecutor
    build: BuildInfo
    policy: Policy
    #: what this one is called among those that share the rows
    replica_id: Callable[[], str]
    clock: Clock
    limits: Limits
    machine: LocalMachine
    recorder: Recorder
    calls: CallRecorder
    spans: SpanSink


@dataclass(frozen=True, kw_only=True)
class _Keeping:
    """What is told to users, and what is kept for them."""

    hub: EventHub
    conditions: Conditions
    sessions: Sessions
    sources: Sources
    deliveries: Deliveries
    sweeper: Sweeper
    quotas: Quotas


@dataclass(frozen=True, kw_only=True)
class _Running:
    """What orders the work."""

    scheduler: Scheduler
    #: as the calls see it
    work: Work
    gates: Gates
    membership: Membership
    parking_limits: ParkingLimits

    def has_space_left(self) -> bool:
        """Whether the disk has more than its reserve."""
        return all(closed.gate.reason is not BlockReason.SPACE_LIMIT for closed in self.gates.closed)


@dataclass(frozen=True, kw_only=True)
class _Bringing:
    """The ways in which files come."""

    uploads: Uploads
    passed_files: PassedFiles
    copies: CopiedFiles


def compose(
    settings: Settings,
    repository: Repository,
    blobs: BlobStore,
    executor: ObservedExecutor,
    build: BuildInfo,
    policy: Policy,
    replica_id: Callable[[], str],
    recorder: Recorder = SILENT,
    calls: CallRecorder = SILENT_CALLS,
    spans: SpanSink = NOWHERE,
) -> Machinery:
    """Make all objects; nothing runs yet."""
    ground = _Ground(
        settings=settings,
        repository=repository,
        blobs=blobs,
        executor=executor,
        build=build,
        policy=policy,
        replica_id=replica_id,
        clock=SystemClock(),
        limits=bounds.engine_limits(settings),
        machine=LocalMachine(settings.data_dir),
        recorder=recorder,
        calls=calls,
        spans=spans,
    )
    keeping = _keeping(ground)
    running = _running(ground, keeping)
    bringing = _bringing(ground, keeping, running)
    return Machinery(
        services=_services(ground, keeping, running, bringing),
        passed_files=bringing.passed_files,
        scheduler=running.scheduler,
        housekeeping=_housekeeping(ground, keeping, running, bringing),
        gates=running.gates,
        conditions=keeping.conditions,
        executor=executor,
        machine=ground.machine,
        membership=running.membership,
    )


def _keeping(ground: _Ground) -> _Keeping:
    repository, blobs, limits = ground.repository, ground.blobs, ground.limits
    hub = EventHub(repository, limits)
    roots = bounds.shared_roots(ground.settings)
    deliveries = Deliveries(roots)
    return _Keeping(
        hub=hub,
        conditions=Conditions(hub),
        sessions=Sessions(repository, hub, ground.policy, ground.clock, limits),
        sources=Sources(blobs, roots),
        deliveries=deliveries,
        sweeper=Sweeper(repository, blobs, ground.clock, deliveries.withdraw),
        quotas=Quotas(repository, blobs, limits.user_quota_bytes, time.monotonic),
    )


def _running(ground: _Ground, keeping: _Keeping) -> _Running:
    """Make the scheduler and the gates, each of which asks the other."""
    settings, conditions = ground.settings, keeping.conditions
    capacity = bounds.capacity(settings, ground.executor)
    parking_limits = bounds.parking_limits(settings, capacity)
    sharing = _sharing(ground, keeping, lambda: scheduler)
    membership = sharing.lease if sharing else ALONE
    scheduler = Scheduler(
        ground.repository,
        Workshop(
            blobs=ground.blobs,
            sources=keeping.sources,
            deliveries=keeping.deliveries,
            executor=ground.executor,
            hub=keeping.hub,
            sweeper=keeping.sweeper,
            clock=ground.clock,
            limits=ground.limits,
            plan_settings=bounds.plan_settings(settings),
            build=lambda: ground.build,
            recorder=ground.recorder,
            spans=ground.spans,
        ),
        capacity,
        parking_limits,
        conditions,
        gate=lambda: gates.reason,
        over_quota=lambda user_id: bool(keeping.quotas.exceeded(user_id)),
        membership=membership,
    )
    machine = ground.machine
    gates = Gates(
        machine,
        bounds.gate_limits(settings, machine.disk_total_bytes()),
        settings.data_dir / FOLDER_NAME,
        changed=lambda: _tell_gates(gates, conditions, scheduler),
    )
    return _Running(
        scheduler=scheduler,
        work=sharing.work() if sharing else scheduler,
        gates=gates,
        membership=membership,
        parking_limits=parking_limits,
    )


def _sharing(ground: _Ground, keeping: _Keeping, scheduler: Callable[[], Scheduler]) -> Sharing | None:
    """Return the place among the services that share the rows; None where nobody else can have them."""
    repository = ground.repository
    if not isinstance(repository, SharedRepository):
        return None
    return Sharing(
        repository,
        repository,
        repository.server_now_us,
        ground.clock,
        ground.replica_id(),
        keeping.hub,
        keeping.sessions,
        scheduler,
        bounds.lease_times(ground.settings),
    )


def _bringing(ground: _Ground, keeping: _Keeping, running: _Running) -> _Bringing:
    repository, blobs, clock, limits = ground.repository, ground.blobs, ground.clock, ground.limits
    quotas, has_space_left = keeping.quotas, running.has_space_left
    passed = PassedFiles(ground.policy, time.monotonic)
    return _Bringing(
        uploads=Uploads(
            repository,
            blobs,
            keeping.sources,
            ground.policy,
            clock,
            limits,
            quotas,
            has_space_left,
            ground.recorder,
        ),
        passed_files=passed,
        copies=CopiedFiles(
            repository,
            blobs,
            passed,
            keeping.sweeper,
            clock,
            limits,
            quotas,
            has_space_left,
            recorder=ground.recorder,
        ),
    )


def _services(ground: _Ground, keeping: _Keeping, running: _Running, bringing: _Bringing) -> Services:
    repository, policy, clock, limits = ground.repository, ground.policy, ground.clock, ground.limits
    hub, sessions, sources = keeping.hub, keeping.sessions, keeping.sources
    sweeper, work, copies = keeping.sweeper, running.work, bringing.copies
    results = Results(repository, ground.blobs, policy)
    probes = Probes(ground.executor, limits)
    call_limits = bounds.call_limits(ground.settings)
    media_limits, plan_settings = bounds.media_limits(ground.settings), bounds.plan_settings(ground.settings)
    return Services(
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
            work,
            sweeper,
            copies,
        ),
        jobs=Jobs(repository, sessions, hub, work, clock, limits, plan_settings, lambda: ground.build),
        stops=Stops(repository, sweeper, sessions, hub, work, clock, limits),
        watermarks=Watermarks(repository, sessions, sources, probes, copies),
        deliveries=keeping.deliveries,
        removals=Removals(repository, sessions, hub, work, sweeper, policy, clock, limits),
        uploads=bringing.uploads,
        results=results,
        direct=DirectTransfers(
            ground.blobs if isinstance(ground.blobs, SignsUrls) else None,
            bringing.uploads,
            results,
            policy,
            clock,
        ),
        work=work,
        facts=CapabilityFacts(
            limits=limits,
            media_limits=media_limits,
            call_limits=call_limits,
            plan_settings=plan_settings,
            parking_limits=running.parking_limits,
            access=bounds.access_facts(ground.settings),
            isolation=lambda: _isolation(ground.executor),
            build_info=lambda: ground.build,
            worker_count=ground.executor.worker_count,
            upload_commit_bytes=max(LARGEST_MESSAGE_BYTES, ground.blobs.commit_bytes),
            shared_roots=sources.roots_of,
            fd_socket=lambda: bringing.passed_files.place,
            fd_token_seconds=bringing.passed_files.token_seconds,
            versions={"videoprocess": version("videoprocess"), "grpcio": grpc.__version__},
        ),
        call_limits=call_limits,
        recorder=ground.calls,
        spans=ground.spans,
        pools=CallPools.open(limits),
        draining=asyncio.Event(),
    )


def _isolation(executor: ObservedExecutor) -> IsolationFacts:
    layers = tuple(executor.layers)
    return IsolationFacts(layers=layers, missing=missing_layers(layers))


def _housekeeping(ground: _Ground, keeping: _Keeping, running: _Running, bringing: _Bringing) -> Housekeeping:
    retention, clock = ground.limits.retention, ground.clock
    return Housekeeping(
        keeping.sessions,
        Expirations(ground.repository, bringing.uploads, running.work, clock, retention),
        keeping.sweeper,
        ClockWatch(clock, time.monotonic, retention.steady_clock_seconds),
        ground.settings.housekeeping_seconds,
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
