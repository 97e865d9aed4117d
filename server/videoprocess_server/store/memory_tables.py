"""The rows of the repository in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from videoprocess_server.model.records import (
    Artifact,
    Event,
    Job,
    PlanRecord,
    Replica,
    Request,
    SegmentRecord,
    Session,
    Tombstone,
    Upload,
    Video,
)


@dataclass(kw_only=True)
class Tables:
    """Records by their keys. One that was committed is never changed again: a transaction changes a copy."""

    sessions: dict[str, Session] = field(default_factory=dict)
    #: by user_id and video_id
    videos: dict[tuple[int, str], Video] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    plans: dict[str, PlanRecord] = field(default_factory=dict)
    #: by plan_id and index
    segments: dict[tuple[str, int], SegmentRecord] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    #: by user_id and sequence
    events: dict[tuple[int, int], Event] = field(default_factory=dict)
    #: by user_id, method and request_id
    requests: dict[tuple[int, str, str], Request] = field(default_factory=dict)
    #: by kind and key
    tombstones: dict[tuple[str, str], Tombstone] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    #: newest number assigned, by user_id
    event_sequences: dict[int, int] = field(default_factory=dict)
    #: newest number assigned, by name
    counters: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Tables:
        """Return tables of their own with the same records."""
        return replace(self, **{table.name: getattr(self, table.name).copy() for table in fields(self)})
