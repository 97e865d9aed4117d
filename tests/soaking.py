"""Whether tests run at their full volume: `make soak` says so."""

from __future__ import annotations

import os

SOAKING = bool(os.environ.get("VIDEOPROCESS_SOAK"))
