"""The parts of `make bench-quality`: each a module with NAME, DEFAULT_CLIPS, run(work, clips) and plot(measured, path)."""

from __future__ import annotations

from typing import Any, Final

from quality import denoise, frame_rates, seams, stabilise, tone_mapping

#: in the order they run in
PARTS: Final[dict[str, Any]] = {
    part.NAME: part for part in (denoise, seams, tone_mapping, frame_rates, stabilise)
}
