"""Where a video was taken is kept wherever that is: the reference takes -1.0 for no location (its weakness W14)."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from joining import joined
from media_factory import make_clip

LOCATION = "com.apple.quicktime.location.ISO6709"


@pytest.mark.parametrize("place", ["-01.0000-001.0000/", "+00.0000+000.0000/", "+89.9999-179.9999+8848.000/"])
def test_w14_any_location_is_kept(tmp_path: Path, place: str) -> None:
    clip = make_clip(tmp_path / "taken.mp4", frames=12, width=64, height=48, metadata={LOCATION: place})
    made = joined(clip.path, tmp_path)
    with av.open(str(made.path)) as container:
        assert container.metadata[LOCATION] == place
    assert made.result.not_kept == ()
