"""Whether a node makes the same bytes as the service's own machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import structlog

from videoprocess_server.execution.channel import within
from videoprocess_server.execution.codec import CodecError, Failed, Heartbeat
from videoprocess_server.execution.gateway import CallFailedError
from videoprocess_server.execution.remote_worker import RemoteWorker
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.tasks import BuildInfo, DescribeTask

#: a worker needs 0.3 s; a machine under load more
DESCRIBE_SECONDS = 60.0
#: of what a worker's spans may seem to be away from the service's
_MOST_CLOCK_DIFFERENCE_US = MICROSECONDS_PER_SECOND

_log = structlog.get_logger(__name__)


class NodeCheck:
    """Looks at each node once, before a worker there gets a task. What is amiss and changes no byte is remarked upon.

    Args:
        own: the service's own build; None where nodes are not compared.
    """

    def __init__(self, own: BuildInfo | None = None) -> None:
        self._own = own
        self._approved: set[str] = set()
        #: a line each
        self.remarks: list[str] = []

    def approve(self, worker: RemoteWorker) -> None:
        """The same as `examine`, for who does not tell the reason."""
        try:
            self.examine(worker)
        except CodecError as error:
            _log.error("ray_node_differs", node=worker.node, why=str(error))
            raise

    def examine(self, worker: RemoteWorker) -> None:
        """Return if the worker's node may be used; the worker is ready and has no task.

        Raises:
            CodecError: it may not; the text is a line that says why.
            EOFError: it is gone.
            TimeoutError: it does not answer; the text is such a line, too.
        """
        if self._own is None or worker.node in self._approved:
            return
        why = self._difference(self._own, worker)
        if why:
            raise CodecError(why)
        self._approved.add(worker.node)
        for remark in _remarks(worker):
            _log.warning("ray_node_remark", node=worker.node, remark=remark)
            self.remarks.append(remark)

    def _difference(self, own: BuildInfo, worker: RemoteWorker) -> str:
        try:
            there = worker.call("facts")
        except CallFailedError as error:
            return str(error)
        here = {"videoprocess": version("videoprocess"), "python": platform.python_version()}
        if there != here:
            return f"it runs {_told(there)}, the service {_told(here)}: install the same on both"
        return build_difference(own, _described(worker))


def _remarks(worker: RemoteWorker) -> list[str]:
    since_us = time.time_ns() // 1000
    try:
        state = worker.call("state")
    except CallFailedError as error:
        return [str(error)]
    return state_remarks(state, since_us, time.time_ns() // 1000)


def state_remarks(state: Mapping[str, Any], since_us: int, until_us: int) -> list[str]:
    """Return a line for each thing that is amiss.

    Args:
        state: of NodeHost.state.
        since_us: the service's clock before the node was asked, microseconds since 1970.
        until_us: and once it had answered.
    """
    name, found = state["name"], []
    ahead_us = max(0, state["now_us"] - until_us) - max(0, since_us - state["now_us"])
    if abs(ahead_us) >= _MOST_CLOCK_DIFFERENCE_US:
        ahead_seconds = ahead_us / MICROSECONDS_PER_SECOND
        found.append(f"the clock of node {name} is {ahead_seconds:+.1f} s off: set both clocks by NTP")
    if state["niceness"] > 0:
        found.append(
            f"workers on node {name} get what others leave (niceness {state['niceness']}): start Ray there with "
            "RAY_worker_niceness=0"
        )
    return found


def build_difference(own: BuildInfo, other: BuildInfo) -> str:
    """Return a line that names what differs; "" if nothing does that could change a byte."""
    for name in ("versions", "video_decoders", "video_encoders", "filters", "extras"):
        here, there = getattr(own, name), getattr(other, name)
        if here == there:
            continue
        if isinstance(here, dict):
            here, there = set(here.items()), set(there.items())
        here, there = set(here) - set(there), set(there) - set(here)
        return f"its {name.replace('_', ' ')} differ: {_listed(there)} there, {_listed(here)} here: install the same on both"
    return ""


def _described(worker: RemoteWorker) -> BuildInfo:
    patience = within(DESCRIBE_SECONDS)
    try:
        worker.channel.send(DescribeTask(), patience=patience)
        while isinstance(answer := worker.channel.receive(patience=patience), Heartbeat):
            pass
    except TimeoutError as error:
        raise TimeoutError(f"its worker did not describe itself within {DESCRIBE_SECONDS:.0f} s") from error
    if not isinstance(answer, BuildInfo):
        why = answer.message if isinstance(answer, Failed) else type(answer).__name__
        raise CodecError(f"its worker does not describe itself: {why}")
    return answer


def _told(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _listed(items: set[object]) -> str:
    texts = (" ".join(item) if isinstance(item, tuple) else str(item) for item in items)
    return ", ".join(sorted(texts)) or "nothing"
