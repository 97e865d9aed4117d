"""How many files and connections this process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress

#: beyond it a limit of the system is no reason to have more
MOST_OPEN_FILES = 65_536


def raise_open_files() -> int:
    """Raise the soft limit of open files as far as this process may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_OPEN_FILES if soft == resource.RLIM_INFINITY else soft
