"""Settings → the executor. Part of the composition root, like `app`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.execution.gateway_protocol import GatewayOptions
from videoprocess_server.execution.observed import ObservedExecutor
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.execution.ray_executor import RayExecutor, RayOptions
from videoprocess_server.execution.sandbox import Confinement
from videoprocess_server.machine.capacity import available_cores, memory_budget_bytes
from videoprocess_server.model.spans import NOWHERE, SpanSink
from videoprocess_server.settings import Settings

#: a probe that computes for longer has been given up already
PROBE_CPU_SECONDS = 60
#: processor time without progress, as often as the stall time: what stalls is killed before by the watchdog
CPU_TIMES_STALL = 10
#: a worker's memory is bounded by the machine's, but for machines that have next to none
LEAST_WORKER_BYTES = 1 << 30
#: what tasks write to, beneath the data directory
_WRITTEN = (BlobKind.SEGMENT, BlobKind.WORK)


def new_executor(settings: Settings, spans: SpanSink) -> ObservedExecutor:
    """Make the executor that the settings name; nothing runs yet."""
    return EXECUTORS[settings.executor](settings, spans)


def examine_ray(settings: Settings) -> tuple[int, Sequence[str]]:
    """Return how many workers the Ray cluster of the settings has for us, and what is amiss there, a line each.

    Raises:
        ClusterUnfitError: it cannot be used.
    """
    executor = _on_ray(settings, NOWHERE)
    executor.examine()
    executor.close()
    return executor.worker_count, executor.remarks


def _local(settings: Settings, spans: SpanSink) -> ProcessPoolExecutor:
    """Make the workers' pool: they write segments and unfinished results, and the one that probes nothing."""
    worker_count = settings.workers or available_cores()
    memory_bytes = max(LEAST_WORKER_BYTES, memory_budget_bytes())
    return ProcessPoolExecutor(
        worker_count,
        probe_confinement=Confinement(memory_bytes=memory_bytes, cpu_seconds=PROBE_CPU_SECONDS),
        confinement=Confinement(
            writable=tuple(str(settings.data_dir.resolve() / kind.value) for kind in _WRITTEN),
            memory_bytes=memory_bytes,
            cpu_seconds=_cpu_seconds(settings, worker_count),
        ),
        spans=spans,
    )


def _on_ray(settings: Settings, spans: SpanSink) -> RayExecutor:
    shared = settings.ray_stage
    options = RayOptions(
        gateway=GatewayOptions(
            address=settings.ray_address,
            namespace=settings.ray_namespace,
            node_folder=str(settings.ray_node_dir or ""),
            cache_bytes=settings.ray_cache_bytes,
        ),
        worker_count=settings.ray_workers,
        shared_mount=shared,
        data_dir=settings.data_dir,
        confinement=Confinement(
            writable=tuple(str(shared / kind.value) for kind in _WRITTEN) if shared else (),
            cpu_seconds=_cpu_seconds(settings, available_cores()),
        ),
    )
    return RayExecutor(_local(settings, spans), options, spans)


def _cpu_seconds(settings: Settings, threads: int) -> int:
    return CPU_TIMES_STALL * threads * math.ceil(settings.stall_seconds)


EXECUTORS: Mapping[str, Callable[[Settings, SpanSink], ObservedExecutor]] = {"local": _local, "ray": _on_ray}
