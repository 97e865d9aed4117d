"""Records to rows and back: some fields are columns, the others are one JSON document. No fact is in both."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeVar

import msgspec

from videoprocess_server.model.records import (
    Artifact,
    Event,
    Job,
    PlanRecord,
    Request,
    SegmentRecord,
    Session,
    Upload,
    Video,
)

Record = Artifact | Event | Job | PlanRecord | Request | SegmentRecord | Session | Upload | Video
R = TypeVar("R", bound=Record)
SqlValue = str | int | float | None

_COLUMNS: dict[type[Record], tuple[str, ...]] = {
    Session: ("session_id", "user_id", "create_time_us", "last_used_time_us", "close_time_us"),
    Video: ("user_id", "video_id", "state", "create_time_us", "update_time_us"),
    Job: (
        "job_id", "user_id", "video_id", "session_id", "state", "accept_number", "create_time_us", "start_time_us",
        "end_time_us", "plan_id",
    ),
    PlanRecord: ("plan_id", "user_id", "video_id", "settings_fingerprint", "create_time_us", "stages"),
    SegmentRecord: (
        "plan_id", "index", "state", "lease_token", "attempt_count", "crash_count", "path", "size_bytes", "sha256",
        "frame_count", "input_sha256", "parameter_sets_sha256", "cpu_seconds",
    ),
    Upload: ("upload_id", "user_id", "state", "create_time_us", "update_time_us"),
    Artifact: (
        "artifact_id", "user_id", "video_id", "job_id", "stream_id", "create_time_us", "expire_time_us",
    ),
    Event: ("user_id", "sequence", "job_id", "create_time_us", "kind"),
    Request: ("user_id", "method", "request_id", "arguments_sha256", "answer_id", "create_time_us"),
}  # fmt: skip
#: columns that hold JSON; "document" has no field of its own
_JSON_COLUMNS = frozenset({"stages"})


def to_row(record: Record) -> dict[str, SqlValue]:
    """Return the record's columns and, as `document`, JSON of its other fields.

    Raises:
        ValueError: the record would not come back as it is, as one with a NaN would not.
    """
    fields = msgspec.to_builtins(record, enc_hook=_encode)
    row = {name: fields.pop(name) for name in _COLUMNS[type(record)]}
    row |= {name: _to_json(row[name]) for name in _JSON_COLUMNS & row.keys()}
    row["document"] = _to_json(fields)
    if from_row(type(record), row) != record:  # found now, not at each start from now on
        raise ValueError(f"a {type(record).__name__} cannot be kept: {record!r}")
    return row


def from_row(kind: type[R], row: Mapping[str, Any]) -> R:
    """Return the record that a row of its table holds."""
    fields = {**row, **{name: msgspec.json.decode(row[name]) for name in _JSON_COLUMNS & row.keys()}}
    fields |= msgspec.json.decode(fields.pop("document", "{}"))
    return msgspec.convert(fields, kind, dec_hook=_decode)


def _to_json(value: object) -> str:
    """Return compact JSON."""
    return msgspec.json.encode(value).decode()


def _encode(value: object) -> str:
    """Encode what msgspec does not know: fractions, as "num/den"."""
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    raise TypeError(f"no JSON for {type(value).__name__}")


def _decode(kind: type, value: object) -> object:
    """Decode what `_encode` encoded."""
    if kind is Fraction and isinstance(value, str):
        return Fraction(value)
    raise TypeError(f"no {kind.__name__} in JSON")
