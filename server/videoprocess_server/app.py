"""The composition root: settings → objects → run. Imports everything, is imported by nothing but the command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime

import structlog

from videoprocess_server import last_start
from videoprocess_server.access import Access, load_access
from videoprocess_server.blob_choice import UnfitBlobsError, check_blobs, open_blobs
from videoprocess_server.blobs.blob_store import BlobStore, BlobStoreUnavailableError
from videoprocess_server.composition import Machinery, compose
from videoprocess_server.databases import check_database, open_repository
from videoprocess_server.datadir import DataDirectory, DataDirectoryError
from videoprocess_server.engine.conditions import Condition
from videoprocess_server.engine.recovery import recover
from videoprocess_server.execution.executor import Slot
from videoprocess_server.execution.observed import ObservedExecutor
from videoprocess_server.execution.ray_executor import ClusterUnfitError
from videoprocess_server.execution.sandbox import missing_layers
from videoprocess_server.executors import new_executor
from videoprocess_server.handover.listening import CannotListenError
from videoprocess_server.lifecycle import stop_on_signals
from videoprocess_server.model.clock import SystemClock
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.states import BlockReason
from videoprocess_server.model.tasks import BuildInfo, DescribeTask
from videoprocess_server.preflight import PreflightError, check_address_file, check_build, check_listen
from videoprocess_server.rpc.auth.access_file import AccessFileError
from videoprocess_server.rpc.health import Health
from videoprocess_server.rpc.health_port import HealthPortError, answering_probes
from videoprocess_server.rpc.server import SERVICE_NAMES, build_server
from videoprocess_server.settings import Settings
from videoprocess_server.store.filesystem import NetworkFileSystemError
from videoprocess_server.store.repository import Repository, StoreUnavailableError, UnfitDatabaseError
from videoprocess_server.store.schema import SchemaTooNewError
from videoprocess_server.taking_files import taking_files
from videoprocess_server.telemetry.logging import LogFormat, configure
from videoprocess_server.telemetry.metrics_server import MetricsListenError
from videoprocess_server.telling import NoTracingError, Observers, observers, telling_metrics

log = structlog.get_logger(__name__)

DESCRIBE_SECONDS = 60.0  # a worker needs 0.3 s; a machine under load more
STOPPING = Condition(SessionStatus.NOT_READY_TEMPORARILY, BlockReason.DRAINING, "the service is stopping")


#: errors whose text is one line that says what to do
_NAMED = (
    AccessFileError,
    BlobStoreUnavailableError,
    CannotListenError,
    ClusterUnfitError,
    DataDirectoryError,
    HealthPortError,
    MetricsListenError,
    NetworkFileSystemError,
    NoTracingError,
    PreflightError,
    SchemaTooNewError,
    StoreUnavailableError,
    UnfitBlobsError,
    UnfitDatabaseError,
)


class CannotStartError(Exception):
    """The service cannot start; the text is one line that says what to do."""


def run(settings: Settings) -> None:
    """Serve until a signal comes.

    Raises:
        CannotStartError: something of the settings or the machine does not allow it; nothing is left running.
    """
    configure(LogFormat(settings.log_format), settings.log_level)
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # workers are spawned, never forked
    try:
        access = load_access(settings)
        for option in ("listen", "health_listen", "metrics_listen"):
            if address := getattr(settings, option):
                check_listen(address, f"--{option.replace('_', '-')}")
        check_address_file(settings.address_file)
        for problem in check_blobs(settings):
            raise CannotStartError(problem)
        check_database(settings)
        with ExitStack() as stack:
            told = observers(settings)
            stack.callback(told.close)
            executor = new_executor(settings, told.spans)
            stack.callback(executor.close)
            executor.examine()  # what cannot be used is told before anything is made
            data = stack.enter_context(DataDirectory(settings.data_dir))
            repository = open_repository(settings, data, told.job_ended)
            stack.callback(repository.close)
            blobs = open_blobs(settings, data.path)
            stack.callback(blobs.close)
            executor.start()  # before any gRPC thread exists
            told.open()
            asyncio.run(_serve(settings, lambda: data.replica_id, repository, blobs, executor, access, told))
    except _NAMED as error:
        raise CannotStartError(str(error)) from error
    except OSError as error:
        raise CannotStartError(f"{error.filename or settings.data_dir}: {error.strerror}") from error


async def _serve(
    settings: Settings,
    replica_id: Callable[[], str],
    repository: Repository,
    blobs: BlobStore,
    executor: ObservedExecutor,
    access: Access,
    told: Observers,
) -> None:
    with stop_on_signals(asyncio.get_running_loop()) as stopping:
        build = await asyncio.to_thread(_describe, executor)
        check_build(build)
        _tell_layers(executor.layers)
        machinery = compose(
            settings,
            repository,
            blobs,
            executor,
            build,
            access.policy,
            replica_id,
            told.recorder,
            told.calls,
            told.spans,
        )
        await asyncio.to_thread(recover, repository, blobs, SystemClock(), machinery.membership.others)
        passing = taking_files(settings, machinery.passed_files, access.authentication)
        health = Health(SERVICE_NAMES)
        probes = answering_probes(settings.health_listen, health)
        telling = telling_metrics(settings, told.metrics, machinery)
        serving = _serving(settings, machinery, access, health)
        async with passing, probes, telling as metrics_address, serving as address:
            await asyncio.to_thread(_note_start, settings, machinery, build, address, metrics_address)
            await stopping.wait()
            log.info("stopping", grace_seconds=settings.shutdown_grace_seconds)


def _tell_layers(layers: Sequence[str]) -> None:
    """Log what confines the workers, and what of it this machine does not have."""
    missing = missing_layers(layers)
    (log.warning if missing else log.info)("worker_sandbox", layers=list(layers), missing=list(missing))


def _note_start(
    settings: Settings, machinery: Machinery, build: BuildInfo, address: str, metrics_address: str
) -> None:
    """Leave in the data directory what support asks for first; a disk that refuses it stops nothing."""
    facts = {
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(),
        "address": address,
        "metrics": metrics_address,
        "workers": machinery.executor.worker_count,
        "sandbox": list(machinery.executor.layers),
        "versions": {**build.versions, **machinery.services.facts.versions},
        "encoders": build.video_encoders,
        "filters": build.filters,
        "extras": build.extras,
        "settings": last_start.told_settings(settings.model_dump(mode="json")),
    }
    try:
        last_start.note(settings.data_dir, facts)
    except OSError as error:
        log.warning("start_not_noted", error=str(error))


def _describe(executor: ObservedExecutor) -> BuildInfo:
    try:
        build = executor.submit(DescribeTask(), slot=Slot.PROBE, stall_seconds=DESCRIBE_SECONDS).result()
    except Exception as error:
        raise CannotStartError(f"no worker starts: {error}") from error
    assert isinstance(build, BuildInfo)
    return build


@asynccontextmanager
async def _serving(
    settings: Settings, machinery: Machinery, access: Access, health: Health
) -> AsyncIterator[str]:
    """Start in the order of use and yield the address; stop in the reverse: nobody loses what they still use."""
    services = machinery.services
    server = await build_server(services, health, access.guard)
    try:
        port = access.add_port(server, settings.listen)
    except RuntimeError as error:
        services.pools.close()
        raise CannotStartError(
            f"cannot listen on {settings.listen}: has another program just taken it?"
        ) from error
    try:
        await asyncio.to_thread(machinery.membership.start)
        machinery.gates.start()
        machinery.scheduler.start()
        machinery.housekeeping.start()
        await server.start()
        await health.set_serving()
        address = _address(settings, port)
        _tell_address(settings, address)
        log.info("serving", address=address, workers=machinery.executor.worker_count)
        yield address
    finally:
        await health.set_not_serving()
        machinery.scheduler.begin_drain()
        machinery.conditions.begin("draining", STOPPING)
        services.draining.set()
        await asyncio.to_thread(machinery.scheduler.close, settings.shutdown_grace_seconds)
        await asyncio.to_thread(machinery.membership.close)
        await asyncio.to_thread(machinery.executor.close)
        health.end_watches()
        await server.stop(settings.shutdown_grace_seconds)
        await asyncio.to_thread(machinery.housekeeping.close)
        await asyncio.to_thread(machinery.gates.close)
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
