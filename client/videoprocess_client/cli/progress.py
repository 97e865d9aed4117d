"""How far an enhancement is: a bar on a terminal, a line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from videoprocess.v1.job_pb2 import JobPhase, JobProgress
from videoprocess_client.cli.output import safe
from videoprocess_client.cli.texts import blocked, clock, megabytes, words
from videoprocess_client.enhancement import EnhanceProgress
from videoprocess_client.names import short_name

LINE_SECONDS = 10.0
# Fixed, so that the bar between them keeps its width while the figures change.
LABEL_WIDTH = 8
DETAIL_WIDTH = 50


class Display(Protocol):
    """Shows progress between enter and exit."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, whatever happened."""

    def update(self, progress: EnhanceProgress) -> None:
        """Show how far it is."""


def display(console: Console) -> Display:
    """The display that suits the stream."""
    return _Bar(console) if console.is_terminal else _Lines(console)


class _Bar:
    """One bar that shows stage after stage."""

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=_fixed(LABEL_WIDTH)),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[detail]}", markup=False, table_column=_fixed(DETAIL_WIDTH)),
        )
        self._bar = Progress(*columns, console=console, transient=True, expand=True)
        self._task = self._bar.add_task("connect", total=None, detail="")
        self._rate = _Rate()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, progress: EnhanceProgress) -> None:
        percent = percent_of(progress)
        self._bar.update(
            self._task,
            description=safe(label_of(progress)),
            total=None if percent is None else 100.0,
            completed=percent or 0.0,
            detail=safe(detail_of(progress, self._rate.of(progress))),
        )


def _fixed(width: int) -> Column:
    return Column(width=width, no_wrap=True, overflow="ellipsis")


class _Lines:
    """A line when the phase changes, and every 10 s."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._kind = ("", "")
        self._written = 0.0
        self._rate = _Rate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def update(self, progress: EnhanceProgress) -> None:
        label, now = label_of(progress), time.monotonic()
        detail = detail_of(progress, self._rate.of(progress))
        kind = (label, progress.blocked_by)
        if kind == self._kind and now - self._written < LINE_SECONDS:
            return
        self._kind, self._written = kind, now
        self._console.print(safe(f"{label}: {detail}" if detail else label))


class _Rate:
    """Bytes per second since a stage began."""

    def __init__(self) -> None:
        self._stage = ""
        self._began = 0.0
        self._first_bytes = 0

    def of(self, progress: EnhanceProgress) -> float:
        now = time.monotonic()
        if progress.stage != self._stage:
            self._stage, self._began, self._first_bytes = progress.stage, now, progress.bytes_done
        seconds = now - self._began
        return (progress.bytes_done - self._first_bytes) / seconds if seconds else 0.0


def label_of(progress: EnhanceProgress) -> str:
    """What is being done, in one word."""
    if progress.blocked_by:
        return "waiting"
    if progress.job is not None and progress.job.phase:
        return words(short_name(JobPhase.DESCRIPTOR, progress.job.phase))
    return progress.stage


def percent_of(progress: EnhanceProgress) -> float | None:
    """Share that is done, 0 to 100; None while unknown."""
    if progress.job is not None:
        return progress.job.percent
    return 100 * progress.bytes_done / progress.bytes_total if progress.bytes_total else None


def detail_of(progress: EnhanceProgress, bytes_per_second: float) -> str:
    """The figures behind the bar."""
    job = progress.job
    if progress.blocked_by:
        done = f", {job.percent:.1f} % done" if job is not None else ""
        return f"{blocked(progress.blocked_by)}{done}"
    if job is None:
        if not progress.bytes_total:
            return ""
        rate = f" {megabytes(int(bytes_per_second))}/s" if bytes_per_second else ""
        return f"{percent_of(progress):.0f} % of {megabytes(progress.bytes_total)}{rate}"
    return job_detail(job)


def job_detail(job: JobProgress) -> str:
    """The figures of a job."""
    parts = [f"{job.percent:.1f} %"]
    if job.frames_total:
        parts.append(f"{job.frames_done}/{job.frames_total} frames")
    if job.fps:
        parts.append(f"{job.fps:.1f} fps")
    if job.HasField("eta"):
        parts.append(f"{clock(job.eta.ToTimedelta().total_seconds())} left")
    return ", ".join(parts)
