"""The composition root: settings → objects → run. Imports everything, is imported by nothing but the command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version

import grpc
import structlog

from videoprocess_server.blobs.local import LocalBlobStore
from videoprocess_server.datadir import DataDirectory, DataDirectoryError
from videoprocess_server.engine.authorisation import Policy, TrustEveryCaller, TrustLocalCallers
from videoprocess_server.engine.driver import Workshop
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.housekeeping import Housekeeping
from videoprocess_server.engine.jobs import Jobs
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.recovery import recover
from videoprocess_server.engine.removal import Removals
from videoprocess_server.engine.results import Results
from videoprocess_server.engine.scheduler import Scheduler
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.sources import SharedRoot, Sources
from videoprocess_server.engine.stops import Stops
from videoprocess_server.engine.uploads import Uploads
from videoprocess_server.engine.videos import Videos
from videoprocess_server.execution.executor import Slot
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.lifecycle import stop_on_signals
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND, SystemClock
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.plan import PlanSettings
from videoprocess_server.model.tasks import BuildInfo, DescribeTask, MediaLimits
from videoprocess_server.rpc.call_pool import CallPools
from videoprocess_server.rpc.capability_facts import CapabilityFacts
from videoprocess_server.rpc.health import Health
from videoprocess_server.rpc.server import SERVICE_NAMES, build_server
from videoprocess_server.rpc.services import Services
from videoprocess_server.settings import Settings
from videoprocess_server.store.filesystem import NetworkFileSystemError
from videoprocess_server.store.repository import Repository, StoreUnavailableError
from videoprocess_server.store.schema import SchemaTooNewError
from videoprocess_server.store.sqlite import SqliteRepository
from videoprocess_server.telemetry.logging import LogFormat, configure

log = structlog.get_logger(__name__)

DESCRIBE_SECONDS = 60.0  # a worker needs 0.3 s; a machine under load more
UPLOAD_COMMIT_BYTES = 3 * 1024 * 1024  # the largest message: what a cut costs at most


class CannotStartError(Exception):
    """The service cannot start; the text is one line that says what to do."""


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """What runs below rpc."""

    services: Services
    scheduler: Scheduler
    housekeeping: Housekeeping
    executor: ProcessPoolExecutor


def run(settings: Settings) -> None:
    """Serve until a signal comes.

    Raises:
        CannotStartError: something of the settings or the machine does not allow it; nothing is left running.
    """
    configure(LogFormat(settings.log_format), settings.log_level)
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # workers are spawned, never forked
    try:
        with ExitStack() as stack:
            data = stack.enter_context(DataDirectory(settings.data_dir))
            repository = SqliteRepository(data.database)
            stack.callback(repository.close)
            executor = ProcessPoolExecutor(settings.workers or len(os.sched_getaffinity(0)))
            stack.callback(executor.close)
            executor.start()  # before any gRPC thread exists
            blobs = LocalBlobStore(data.path)
            recover(repository, blobs, SystemClock())
            asyncio.run(_serve(settings, repository, blobs, executor))
    except (DataDirectoryError, NetworkFileSystemError, SchemaTooNewError, StoreUnavailableError) as error:
        raise CannotStartError(str(error)) from error
    except OSError as error:
        raise CannotStartError(f"{error.filename or settings.data_dir}: {error.strerror}") from error


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_sessions=settings.max_sessions,
        max_sessions_per_user=settings.max_sessions_per_user,
        max_active_jobs=settings.max_queued_jobs,
        max_active_jobs_per_user=settings.max_queued_jobs,
        max_upload_bytes=settings.max_upload_bytes,
        session_idle_timeout_us=round(settings.session_idle_seconds * MICROSECONDS_PER_SECOND),
        stall_seconds=settings.stall_seconds,
        max_running_jobs=settings.max_running_jobs,
    )


def _roots(settings: Settings) -> Mapping[str, SharedRoot]:
    return {root.name: SharedRoot(name=root.name, path=root.path.resolve()) for root in settings.shared_root}


def _compose(
    settings: Settings,
    repository: Repository,
    blobs: LocalBlobStore,
    executor: ProcessPoolExecutor,
    build: BuildInfo,
) -> Machinery:
    clock, limits = SystemClock(), _limits(settings)
    policy: Policy = TrustEveryCaller() if settings.insecure_listen_anywhere else TrustLocalCallers()
    media_limits = MediaLimits(
        max_pixels=settings.max_pixels, max_duration_seconds=settings.max_duration_seconds
    )
    plan_settings = PlanSettings(
        segment_seconds=_exact(settings.segment_seconds),
        longest_gop_seconds=_exact(settings.longest_gop_seconds),
    )
    hub = EventHub(repository, limits)
    sources = Sources(blobs, _roots(settings))
    sessions = Sessions(repository, hub, policy, clock, limits)
    scheduler = Scheduler(
        repository,
        Workshop(
            blobs=blobs,
            sources=sources,
            executor=executor,
            hub=hub,
            clock=clock,
            limits=limits,
            plan_settings=plan_settings,
            build=lambda: build,
        ),
    )
    services = Services(
        repository=repository,
        policy=policy,
        clock=clock,
        hub=hub,
        sessions=sessions,
        videos=Videos(repository, sessions, sources, executor, policy, clock, limits, media_limits, blobs),
        jobs=Jobs(repository, sessions, hub, scheduler, clock, limits, plan_settings, lambda: build),
        stops=Stops(repository, blobs, sessions, hub, scheduler, clock, limits),
        removals=Removals(repository, blobs, sessions, hub, scheduler, clock, limits),
        uploads=Uploads(repository, blobs, sources, policy, clock, limits),
        results=Results(repository, blobs, policy),
        work=scheduler,
        facts=CapabilityFacts(
            limits=limits,
            media_limits=media_limits,
            build_info=lambda: build,
            worker_count=executor.worker_count,
            upload_commit_bytes=UPLOAD_COMMIT_BYTES,
            shared_roots=sources.roots_of,
            versions={"videoprocess": version("videoprocess"), "grpcio": grpc.__version__},
        ),
        pools=CallPools.open(limits),
        draining=asyncio.Event(),
    )
    return Machinery(
        services=services,
        scheduler=scheduler,
        housekeeping=Housekeeping(repository, blobs, sessions, clock),
        executor=executor,
    )


def _exact(seconds: float) -> Fraction:
    """Return the decimal a person typed, not its nearest float."""
    return Fraction(str(seconds))


async def _serve(
    settings: Settings, repository: Repository, blobs: LocalBlobStore, executor: ProcessPoolExecutor
) -> None:
    with stop_on_signals(asyncio.get_running_loop()) as stopping:
        build = await asyncio.to_thread(_describe, executor)
        machinery = _compose(settings, repository, blobs, executor, build)
        async with _serving(settings, machinery):
            await stopping.wait()
            log.info("stopping", grace_seconds=settings.shutdown_grace_seconds)


def _describe(executor: ProcessPoolExecutor) -> BuildInfo:
    try:
        build = executor.submit(DescribeTask(), slot=Slot.PROBE, stall_seconds=DESCRIBE_SECONDS).result()
    except Exception as error:
        raise CannotStartError(f"no worker starts: {error}") from error
    assert isinstance(build, BuildInfo)
    return build


@asynccontextmanager
async def _serving(settings: Settings, machinery: Machinery) -> AsyncIterator[None]:
    """Start in the order of use, and stop in the reverse: nobody loses what they still use."""
    services, health = machinery.services, Health(SERVICE_NAMES)
    server = await build_server(services, health)
    try:
        port = server.add_insecure_port(settings.listen)
    except RuntimeError as error:
        services.pools.close()
        raise CannotStartError(f"cannot listen on {settings.listen}: is another program there?") from error
    try:
        machinery.scheduler.start()
        machinery.housekeeping.start()
        await server.start()
        await health.set_serving()
        address = _address(settings, port)
        _tell_address(settings, address)
        log.info("serving", address=address, workers=machinery.executor.worker_count)
        yield
    finally:
        await health.set_not_serving()
        machinery.scheduler.begin_drain()
        services.hub.status_changed(SessionStatus.NOT_READY_TEMPORARILY, "the service is stopping")
        services.draining.set()
        await asyncio.to_thread(machinery.scheduler.close, settings.shutdown_grace_seconds)
        await asyncio.to_thread(machinery.executor.close)
        await server.stop(settings.shutdown_grace_seconds)
        await asyncio.to_thread(machinery.housekeeping.close)
        await asyncio.to_thread(services.pools.close)
        log.info("stopped")


def _address(settings: Settings, port: int) -> str:
    if settings.listen.startswith("unix:"):
        return settings.listen
    return f"{settings.listen.rpartition(':')[0]}:{port}"


def _tell_address(settings: Settings, address: str) -> None:
    """Write the address so that a reader never sees half of it."""
    if settings.address_file is None:
        return
    part = settings.address_file.with_name(f"{settings.address_file.name}.part")
    part.write_text(f"{address}\n")
    part.rename(settings.address_file)
