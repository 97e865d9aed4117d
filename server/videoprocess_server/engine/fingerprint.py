"""Digests of everything that can change a byte of a result (G2, G10)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from enum import Enum
from fractions import Fraction
from typing import Any

from videoprocess_server.model.plan import Plan, PlanSettings
from videoprocess_server.model.records import Video
from videoprocess_server.model.settings_snapshot import Snapshot
from videoprocess_server.model.tasks import BuildInfo


def of(*parts: object) -> str:
    """Return the SHA-256 in hex over the parts' canonical JSON."""
    return hashlib.sha256(
        json.dumps(parts, default=_plain, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def of_settings(video: Video, snapshot: Snapshot, plan_settings: PlanSettings, build: BuildInfo) -> str:
    """Return what "the same settings" means for a ProcessVideo: sources, snapshot, and what makes plans of them."""
    return of("settings", *_identities(video), snapshot, plan_settings, build)


def of_result(settings_fingerprint: str, enhance_from_us: int) -> str:
    """Return what names a result: the settings and where enhancement starts."""
    return of("result", settings_fingerprint, enhance_from_us)


def of_plan(video: Video, plan: Plan, build: BuildInfo) -> str:
    """Return the fingerprint of a plan: the checkpoints of another one are never reused."""
    return of("plan", *_identities(video), plan, build)


def _identities(video: Video) -> list[str]:
    """Return what makes the files behind a video the same ones."""
    return [file.identity for file in (video.source, video.companion) if file is not None]


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            if not field.metadata.get("changes_no_byte")
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    raise TypeError(f"{type(value).__name__} has no canonical form")
