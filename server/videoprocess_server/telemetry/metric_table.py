"""Every metric there is: `docs/metrics.md` is made of this table, and a test holds a scrape against it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PREFIX = "videoprocess_"

#: of calls: most take milliseconds, Prepare seconds, streams as long as they like
CALL_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0)
#: of jobs: from a clip of a second to a night's queue
JOB_BUCKETS_SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 36_000.0)


class Kind(Enum):
    """What can be done with a metric's values."""

    #: only grows, from 0 at the service's start
    COUNTER = "counter"
    #: what is so at the moment of the scrape
    GAUGE = "gauge"
    #: a distribution; `_bucket`, `_sum` and `_count`
    HISTOGRAM = "histogram"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One row of the table."""

    #: without the prefix, with its unit and, of a counter, `_total`
    name: str
    kind: Kind
    help: str
    #: names of labels; their values are of sets that the code bounds: no user, no video, no caller's text
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name that a scrape has."""
        return PREFIX + self.name


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=name, kind=Kind.COUNTER, help=text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=name, kind=Kind.GAUGE, help=text, labels=labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name=name, kind=Kind.HISTOGRAM, help=text, labels=labels, buckets=buckets)


#: counted as things happen
COUNTED: tuple[Metric, ...] = (
    _counter(
        "rpc_calls_total",
        "Calls that ended, by gRPC status and, of errors, reason (docs/errors.md). ENDED: the peer was gone.",
        "method",
        "code",
        "reason",
    ),
    _histogram(
        "rpc_seconds", "How long calls took; streams until their end.", CALL_BUCKETS_SECONDS, "method"
    ),
    _gauge("rpc_in_flight", "Calls and streams that are open.", "method"),
    _counter(
        "jobs_ended_total",
        "Jobs whose terminal event is durable, by state and, of those that ended in OnError, reason. "
        "Each is one numbered event.",
        "state",
        "reason",
    ),
    _histogram("job_waiting_seconds", "From a job's acceptance to its first turn.", JOB_BUCKETS_SECONDS),
    _histogram("job_running_seconds", "How long ended jobs had a driver.", JOB_BUCKETS_SECONDS),
    _histogram(
        "job_paused_seconds",
        "How long ended jobs were queued again: gates, others' turns, restarts.",
        JOB_BUCKETS_SECONDS,
    ),
    _counter("stage_seconds_total", "Wall time that jobs spent on a stage, frozen time left out.", "stage"),
    _counter(
        "stage_cpu_seconds_total",
        "CPU time of workers on a stage's finished tasks; what was lost is in worker_cpu_seconds_total only.",
        "stage",
    ),
    _counter("segments_finished_total", "Segments whose row says DONE.", "stage"),
    _counter("segment_bytes_total", "Bytes of finished segments.", "stage"),
    _counter("segment_frames_total", "Frames of finished segments.", "stage"),
    _counter(
        "segments_reused_total",
        "Checkpoints that were found whole when a job took its plan up: after a restart, an Interrupt, a yield.",
        "stage",
    ),
    _counter(
        "segments_redone_total", "Segments begun anew that an earlier attempt had begun already.", "stage"
    ),
    _counter(
        "attempts_failed_total", "Tries of tasks that failed, by cause (docs/causes.md).", "stage", "cause"
    ),
    _counter("parkings_total", "Jobs whose workers were frozen to be gone on with."),
    _counter("parkings_resumed_total", "Frozen work that a job went on with."),
    _counter("parkings_given_up_total", "Frozen work that was given up: its open segments are lost."),
    _counter("received_bytes_total", "Bytes of uploads and passed files that were stored."),
    _counter("sent_bytes_total", "Bytes of results that were sent by Download."),
)

#: read when they are asked for
READ: tuple[Metric, ...] = (
    _gauge("info", "1, with the service's version.", "version"),
    _gauge("store_up", "1 while the database answers. While it does not, what is read from it is absent."),
    _gauge(
        "can_accept_job",
        "1 while ProcessVideo is accepted: the service does not drain, the database answers, the queue has room.",
    ),
    _gauge("jobs", "Accepted jobs that have not ended.", "state"),
    _gauge("gate_closed", "1 while a gate holds NORMAL work back.", "gate"),
    _gauge("parked_jobs", "Jobs whose frozen workers wait to be gone on with."),
    _gauge("parked_bytes", "Memory of those workers."),
    _gauge("workers", "Worker processes: running a task, frozen with one, idle.", "slot", "state"),
    _gauge("worker_resident_bytes", "Memory of worker processes, shared libraries included.", "slot"),
    _counter(
        "worker_cpu_seconds_total",
        "CPU time of all worker processes there ever were, whatever came of it.",
        "slot",
    ),
    _gauge("sessions", "Open sessions."),
    _gauge("subscriptions", "Open subscriptions of Subscribe."),
    _gauge("uploads_open", "Streams that write an upload."),
    _gauge("stored_bytes", "Bytes of uploads, segments and results that rows name."),
    _gauge("disk_free_bytes", "Bytes that may be written to the data directory's disk."),
    _gauge("disk_total_bytes", "Size of that disk."),
)

METRICS: tuple[Metric, ...] = (*COUNTED, *READ)
