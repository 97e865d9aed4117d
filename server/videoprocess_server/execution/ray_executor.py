"""Runs tasks on the nodes of a Ray cluster, and beside the data directory those that are quicker there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from videoprocess_server.execution.channel import within
from videoprocess_server.execution.codec import CodecError, Ready
from videoprocess_server.execution.executor import Slot, TaskHandle
from videoprocess_server.execution.gateway import Gateway, GatewayError, check_reachable
from videoprocess_server.execution.gateway_protocol import TOOK_TOO_LONG, GatewayOptions, Node, Order
from videoprocess_server.execution.node_check import DESCRIBE_SECONDS, NodeCheck
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.execution.remote_worker import RemoteWorker, reservation_bytes
from videoprocess_server.execution.sandbox import Confinement
from videoprocess_server.execution.stagers import Copies, CopyingStager, NewStager, NodeLink, SharedStager
from videoprocess_server.execution.staging import PATHS
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.execution.worker_group import Usage
from videoprocess_server.execution.worker_pool import WorkerPool
from videoprocess_server.execution.worker_settings import WorkerSettings
from videoprocess_server.model.spans import NOWHERE, SpanSink
from videoprocess_server.model.tasks import BuildInfo, DescribeTask, Task, TaskMessage

#: a node has room for a worker; or it is asked for again
_ROOM_SECONDS = 60.0
#: and its host is started and it is ready; or it counts as failed
_STARTUP_SECONDS = 90.0
#: until Ray tells that a node has died whose worker did not start
_DEATH_SECONDS = 5.0
#: nodes that are looked at at once
_TRIALS = 16


class ClusterUnfitError(Exception):
    """The cluster cannot be used; the text is one line that says what to do."""


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """How the cluster is used."""

    gateway: GatewayOptions
    #: how many tasks run there at once; 0 for as many as it has CPUs
    worker_count: int
    #: where all nodes see the data directory; None where files are copied
    shared_mount: Path | None = None
    data_dir: Path
    worker_module: str = "videoprocess_server.execution.worker_main"
    #: what is around each worker, beside its own folders; the node bounds its memory
    confinement: Confinement = field(default_factory=Confinement)
    #: how long a worker waits for room on any node before it is asked for again
    room_seconds: float = _ROOM_SECONDS
    #: of processor time, heartbeats and starts, which waiting for room is a part of; see WorkerSettings
    silence_seconds: float = 60.0
    backoff_seconds: float = 0.1
    startup_seconds: float = _STARTUP_SECONDS
    #: whether nodes must have the service's own build; tests' workers have none
    compare_builds: bool = True


class RayExecutor:
    """An Executor over a Ray cluster. Places, freezing, watching and killing are those of the local one.

    A worker that is lost with its node is a foreign kill to whoever waits for its task.

    Args:
        near: runs what staging.PATHS has no paths for, and all probes.
        options: of the cluster.
        spans: where workers' spans go.
    """

    def __init__(self, near: ProcessPoolExecutor, options: RayOptions, spans: SpanSink = NOWHERE) -> None:
        self._near = near
        self._options = options
        self._spans = spans
        self._gateway = Gateway(options.gateway)
        self._copies = Copies()
        self._check = NodeCheck()
        self._worker_count = options.worker_count
        self._far: WorkerPool | None = None

    @property
    def worker_count(self) -> int:
        """How many GENERAL tasks run at once on the cluster."""
        return self._worker_count

    @property
    def layers(self) -> Sequence[str]:
        """What confines the workers of this machine."""
        return self._near.layers

    @property
    def memory_bytes(self) -> int | None:
        """What all nodes have for tasks, as Ray knows it."""
        return sum(node.memory_bytes for node in self._nodes())

    @property
    def remarks(self) -> Sequence[str]:
        """What is amiss on the nodes and changes no byte, a line each."""
        return self._check.remarks

    def examine(self) -> None:
        """Join the cluster, and look at each of its nodes.

        Raises:
            ClusterUnfitError: it cannot be used; nothing is left running.
        """
        check_in_reach(self._options.gateway.address)
        try:
            self._join()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Ask for the workers; see `examine`, which comes first."""
        self._near.start()
        pool = WorkerPool({Slot.GENERAL: (self._worker_count, self._worker_settings())})
        self._far = pool
        pool.start()

    def submit(
        self,
        task: Task,
        *,
        source_fd: int | None = None,
        slot: Slot = Slot.GENERAL,
        stall_seconds: float,
        niceness: int = 0,
        on_message: Callable[[TaskMessage], None] | None = None,
    ) -> TaskHandle:
        """Queue a task; see Executor."""
        is_far = slot is Slot.GENERAL and PATHS[type(task)] is not None
        pool = self._pool if is_far else self._near
        return pool.submit(
            task,
            source_fd=source_fd,
            slot=slot,
            stall_seconds=stall_seconds,
            niceness=niceness,
            on_message=on_message,
        )

    def worker_pids(self) -> Sequence[int]:
        """Return the process ids of the workers there are, each of its own machine."""
        return [*self._near.worker_pids(), *self._pool.worker_pids()]

    def usage(self) -> Mapping[Slot, Usage]:
        """Return what the workers have used, and hold: of the GENERAL ones those on the cluster."""
        return {**self._near.usage(), **self._pool.usage()}

    def ping(self) -> None:
        """Return if tasks can run; RuntimeError otherwise."""
        self._near.ping()
        try:
            self._gateway.check()
        except GatewayError as error:
            raise RuntimeError(str(error)) from error
        if not self._nodes():
            raise RuntimeError(f"no node of the Ray cluster at {self._options.gateway.address} has a CPU")
        self._pool.ping()

    def close(self) -> None:
        """Kill all workers and end all tasks as cancelled; returns when no process is left on any node that answers."""
        self._gateway.refuse()
        if self._far is not None:
            self._far.close()
        self._gateway.close()
        self._near.close()

    @property
    def _pool(self) -> WorkerPool:
        if self._far is None:
            raise RuntimeError("the executor is not open")
        return self._far

    def _join(self) -> None:
        if self._options.compare_builds:
            self._check = NodeCheck(own_build())
        try:
            line, data = self._gateway.line()
        except GatewayError as error:
            raise ClusterUnfitError(str(error)) from error
        line.close()
        data.close()
        with ThreadPoolExecutor(_TRIALS) as trials:
            list(trials.map(self._try_out, self._nodes()))
        cpus = int(sum(node.cpus for node in self._nodes()))
        if cpus < max(1, self._options.worker_count):
            raise ClusterUnfitError(
                f"the nodes of the Ray cluster at {self._options.gateway.address} have {cpus} CPUs for tasks: start more "
                "with ray start --num-cpus, or lower --ray-workers"
            )
        self._worker_count = self._options.worker_count or cpus

    def _nodes(self) -> list[Node]:
        return [node for node in self._gateway.nodes if node.cpus >= 1]

    def _worker_settings(self) -> WorkerSettings:
        return WorkerSettings(
            spawn=self._spawn,
            startup_seconds=self._options.startup_seconds,
            backoff_seconds=self._options.backoff_seconds,
            silence_seconds=self._options.silence_seconds,
            tell_layers=lambda _layers: None,
            spans=self._spans,
        )

    def _spawn(self, wanted: TaskRun | None) -> RemoteWorker:
        most = max((node.memory_bytes for node in self._nodes()), default=0)
        first = 0 if wanted is None else reservation_bytes(wanted.task, most)
        return self._ordered(self._check.approve, memory_bytes=first, most_bytes=most)

    def _ordered(
        self,
        approve: Callable[[RemoteWorker], None],
        *,
        memory_bytes: int = 0,
        most_bytes: int = 0,
        node: str = "",
    ) -> RemoteWorker:
        """Ask for a worker. Raises GatewayError, which is an OSError."""
        options = self._options
        order = Order(
            module=options.worker_module,
            confinement=options.confinement.to_argument(),
            memory_bytes=memory_bytes,
            most_bytes=most_bytes,
            node=node,
            patience_seconds=options.room_seconds,
        )
        line, data = self._gateway.line()
        try:
            return RemoteWorker(line, data, order, self._new_stager(), approve)
        except EOFError as error:
            raise GatewayError("the gateway to Ray has ended") from error

    def _new_stager(self) -> NewStager:
        options = self._options

        def new(link: NodeLink) -> CopyingStager | SharedStager:
            copying = CopyingStager(link, self._copies)
            if options.shared_mount is None:
                return copying
            return SharedStager(options.data_dir, options.shared_mount, copying)

        return new

    def _try_out(self, node: Node) -> None:
        """Have a node examined; one that dies meanwhile is none of the cluster's any more.

        Raises:
            ClusterUnfitError: it cannot be used.
        """
        try:
            self._examine(node)
        except ClusterUnfitError:
            if not self._gateway.has_lost(node.id, _DEATH_SECONDS):
                raise

    def _examine(self, node: Node) -> None:
        """Start a worker on a node, and end it.

        Raises:
            ClusterUnfitError: it does not start, or is another than the service's.
        """
        try:
            worker = self._ordered(self._check.examine, node=node.id)
        except GatewayError as error:
            raise ClusterUnfitError(str(error)) from error
        try:
            if not isinstance(worker.channel.receive(patience=within(self._options.startup_seconds)), Ready):
                raise CodecError("its worker does not say that it is ready")  # noqa: TRY301
        except (EOFError, TimeoutError, CodecError) as error:
            worker.end()
            why = self._why_not(worker, error)
            raise ClusterUnfitError(f"node {node.name} of the Ray cluster cannot be used: {why}") from error
        worker.end()

    def _why_not(self, worker: RemoteWorker, error: Exception) -> str:
        seconds = self._options.startup_seconds
        told = str(error) or worker.failure
        if isinstance(error, TimeoutError) or told.startswith(TOOK_TOO_LONG):
            return f"{told or f'its worker did not start within {seconds:.0f} s'}: is it overloaded?"
        return str(error) or f"{told or 'no worker starts'}: is the service's package installed there?"


def own_build() -> BuildInfo:
    """Return what this machine's build is, as a worker describes it.

    Raises:
        ClusterUnfitError: none does.
    """
    pool = ProcessPoolExecutor(1)
    pool.start()
    try:
        build = pool.submit(DescribeTask(), slot=Slot.PROBE, stall_seconds=DESCRIBE_SECONDS).result()
    except Exception as error:
        raise ClusterUnfitError(f"no worker starts on the service's machine: {error}") from error
    finally:
        pool.close()
    assert isinstance(build, BuildInfo)
    return build


def check_in_reach(address: str) -> None:
    """Return if Ray is installed and somebody listens at the address.

    Raises:
        ClusterUnfitError: it is not, or nobody does.
    """
    if find_spec("ray") is None:
        raise ClusterUnfitError("--executor ray needs the extra: pip install 'videoprocess[ray]'")
    try:
        check_reachable(address)
    except GatewayError as error:
        raise ClusterUnfitError(str(error)) from error
