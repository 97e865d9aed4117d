"""One task's talk with its worker: the task goes there, messages and an answer come back, or the worker does not live to tell."""

from __future__ import annotations

import signal
import time

from videoprocess_server.execution.codec import RESULT_OF, CodecError, Failed, Heartbeat
from videoprocess_server.execution.driven_worker import DrivenWorker
from videoprocess_server.execution.executor import (
    CrashCause,
    TaskFailedError,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.execution.task_run import TaskRun, error_of
from videoprocess_server.execution.watchdog import NoProgressError, SilentError, Watchdog
from videoprocess_server.execution.worker_settings import WorkerSettings
from videoprocess_server.execution.worker_spans import TaskSpans, Traced, fit_spans
from videoprocess_server.model.spans import NOWHERE
from videoprocess_server.model.tasks import Progress, SegmentDone, TaskMessage, TaskResult


class Conversation:
    """Runs in the worker's thread. Where it ends without an answer, the worker is gone.

    Args:
        worker: ready for a task.
        run: has begun.
        settings: of the worker.
    """

    def __init__(self, worker: DrivenWorker, run: TaskRun, settings: WorkerSettings) -> None:
        self._worker = worker
        self._run = run
        self._settings = settings
        self._kind = type(run.task).__name__
        is_kept = settings.spans is not NOWHERE and run.trace is not None and run.trace.sampled
        self._trace = run.trace if is_kept else None
        self._began_ns = time.time_ns()
        self._watchdog = Watchdog(run, settings.silence_seconds)
        self._oom_kills_before = worker.oom_kill_count()

    def outcome(self) -> TaskResult | Exception:
        """Hold it to its end."""
        run, patience = self._run, self._watchdog.patience
        try:
            if self._trace is not None:
                self._worker.channel.send(Traced(traceparent=self._trace.traceparent), patience=patience)
            self._fetch()
            self._worker.channel.send(run.task, fd=run.source_fd, patience=patience)
            run.close_source()
            return self._listen()
        except TaskFailedError as failure:  # a file did not find space, there or here
            self._end_by_ladder()
            return failure
        except EOFError:
            return self._crashed()
        except SilentError:
            return self._fell_silent()
        except NoProgressError:
            return self._stalled()
        except Exception:
            self._worker.end()
            run.log.exception("worker_misunderstood", task=self._kind, pid=self._worker.pid)
            return TaskFailedError("INTERNAL", "the service and its worker did not understand each other")

    def _fetch(self) -> None:
        began = self._run.ran_seconds()
        self._worker.fetch(self._run)
        self._watchdog.excuse(self._run.ran_seconds() - began)

    def _listen(self) -> TaskResult | Exception:
        while True:
            message = self._worker.channel.receive(patience=self._watchdog.patience)
            self._watchdog.hear(message)
            if isinstance(message, Progress | SegmentDone):
                refusal = self._tell(message)
                if refusal is not None:
                    self._end_by_ladder()
                    return refusal
            elif isinstance(message, TaskSpans) and self._trace is not None:
                trace, self._trace = self._trace, None  # once for a task
                for span in fit_spans(message, trace, self._began_ns):
                    self._settings.spans.record(span)
            elif isinstance(message, Failed):
                return error_of(self._run, message)
            elif isinstance(message, RESULT_OF[type(self._run.task)]):
                return message
            elif not isinstance(message, Heartbeat):
                raise CodecError(f"{type(message).__name__} is no answer to {self._kind}")

    def _tell(self, message: TaskMessage) -> Exception | None:
        began = self._run.ran_seconds()
        refusal = self._run.tell(message)
        self._watchdog.excuse(self._run.ran_seconds() - began)
        return refusal

    def _crashed(self) -> WorkerCrashedError:
        exit_code = self._worker.end(let_it_end=True)
        cause = self._cause(exit_code)
        if not self._run.cancelled:
            self._run.log.error(
                "worker_crashed",
                task=self._kind,
                pid=self._worker.pid,
                exit_code=exit_code,
                cause=cause.value,
            )
        return WorkerCrashedError(exit_code, cause)

    def _cause(self, exit_code: int) -> CrashCause:
        if exit_code != -signal.SIGKILL or self._worker.killed or self._oom_kills_before is None:
            return CrashCause.EXIT
        now = self._worker.oom_kill_count()
        return CrashCause.OUT_OF_MEMORY if (now or 0) > self._oom_kills_before else CrashCause.EXIT

    def _fell_silent(self) -> WorkerCrashedError:
        exit_code = self._end_by_ladder()
        self._run.log.error(
            "worker_silent",
            task=self._kind,
            pid=self._worker.pid,
            silence_seconds=self._settings.silence_seconds,
        )
        return WorkerCrashedError(exit_code, CrashCause.SILENT)

    def _stalled(self) -> TaskStalledError:
        self._end_by_ladder()
        self._run.log.error(
            "task_stalled", task=self._kind, pid=self._worker.pid, stall_seconds=self._run.stall_seconds
        )
        return TaskStalledError(f"no progress for {self._run.stall_seconds} s")

    def _end_by_ladder(self) -> int:
        self._worker.stop()
        return self._worker.end(let_it_end=True)
