"""Records to rows and back: some fields are columns, the others are one JSON document. No fact is in both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

import msgspec

from videoprocess_server.model.records import (
    Artifact,
    Event,
    Job,
    PlanRecord,
    Replica,
    Request,
    ResumePoint,
    SegmentRecord,
    Session,
    Tombstone,
    Upload,
    Video,
)

Record = (
    Artifact
    | Event
    | Job
    | PlanRecord
    | Replica
    | Request
    | SegmentRecord
    | Session
    | Tombstone
    | Upload
    | Video
)
R = TypeVar("R", bound=Record)
#: what a row may hold: a record, or what a query makes of one
K = TypeVar("K", bound=Record | ResumePoint)
SqlValue = str | int | float | None

_COLUMNS: dict[type[Record], tuple[str, ...]] = {
    Session: ("session_id", "user_id", "create_time_us", "last_used_time_us", "close_time_us"),
    Video: (
        "user_id", "video_id", "state", "create_time_us", "update_time_us", "last_job_id", "result_job_id", "expire_time_us",
    ),
    Job: (
        "job_id", "user_id", "video_id", "session_id", "state", "priority", "queue_class", "accept_number", "create_time_us",
        "start_time_us", "end_time_us", "plan_id",
    ),
    PlanRecord: ("plan_id", "user_id", "video_id", "settings_fingerprint", "create_time_us", "stages"),
    SegmentRecord: (
        "plan_id", "index", "state", "lease_token", "attempt_count", "crash_count", "path", "size_bytes", "sha256",
        "frame_count", "input_sha256", "parameter_sets_sha256", "cpu_seconds",
        "measures",
    ),
    Upload: ("upload_id", "user_id", "state", "create_time_us", "update_time_us", "size_bytes"),
    Artifact: (
        "artifact_id", "user_id", "video_id", "job_id", "stream_id", "size_bytes", "create_time_us", "expire_time_us",
        "detached",
    ),
    Event: ("user_id", "sequence", "job_id", "create_time_us", "kind"),
    Request: ("user_id", "method", "request_id", "arguments_sha256", "answer_id", "create_time_us"),
    Tombstone: ("kind", "key", "create_time_us"),
    Replica: ("replica_id", "expire_time_us"),
}  # fmt: skip


def to_row(record: Record) -> dict[str, SqlValue]:
    """Return the record's columns and, as `document`, JSON of its other fields.

    Raises:
        ValueError: the record would not come back as it is, as one with a NaN would not.
    """
    fields = msgspec.to_builtins(record, enc_hook=_encode)
    row = {name: fields.pop(name) for name in _COLUMNS[type(record)]}
    row |= {name: to_column(row[name]) for name, (to_column, _) in _CONVERTED.items() if name in row}
    row["document"] = _to_json(fields)
    if from_row(type(record), row) != record:  # found now, not at each start from now on
        raise ValueError(f"a {type(record).__name__} cannot be kept: {record!r}")
    return row


def from_row(kind: type[K], row: Mapping[str, Any]) -> K:
    """Return the record that a row of its table holds, or what a row of a query tells."""
    fields = dict(row)
    fields |= {name: from_column(row[name]) for name, (_, from_column) in _CONVERTED.items() if name in row}
    fields |= msgspec.json.decode(fields.pop("document", "{}"))
    return msgspec.convert(fields, kind, dec_hook=_decode, str_keys=True)


def _to_json(value: object) -> str:
    """Return compact JSON."""
    return msgspec.json.encode(value).decode()


#: columns whose value is not the field's own: how it gets there, and back. "document" has no field of its own
_CONVERTED: dict[str, tuple[Callable[[Any], SqlValue], Callable[[Any], object]]] = {
    "stages": (_to_json, msgspec.json.decode),
    "measures": (_to_json, msgspec.json.decode),
    "detached": (bool, bool),
}


def _encode(value: object) -> str:
    """Encode what msgspec does not know: fractions, as "num/den"."""
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    raise TypeError(f"no JSON for {type(value).__name__}")


def _decode(kind: type, value: object) -> object:
    """Decode what `_encode` encoded."""
    if kind is Fraction and isinstance(value, str):
        numerator, _, denominator = value.partition("/")
        return Fraction(int(numerator), int(denominator))  # half the time that Fraction takes to parse both
    raise TypeError(f"no {kind.__name__} in JSON")
