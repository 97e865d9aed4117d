"""A folder on another file system than a given one, for what is done across two."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: where there mostly is one, in memory
_CANDIDATES = (Path("/dev/shm"), Path("/run/shm"))


@contextmanager
def another_file_system(folder: Path) -> Iterator[Path]:
    """A new folder, which goes afterwards; where the machine has but one file system, it is in `folder`."""
    device = folder.stat().st_dev
    there = next((path for path in _CANDIDATES if path.is_dir() and path.stat().st_dev != device), folder)
    with tempfile.TemporaryDirectory(prefix="shared-", dir=there) as made:
        yield Path(made)
