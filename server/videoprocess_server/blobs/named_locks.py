"""Locks by name: there is one for each name that somebody holds or waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class _Shared:
    lock: threading.RLock = field(default_factory=threading.RLock)
    wanted: int = 0


class NamedLocks:
    """Has whoever uses a name wait for whoever uses it already. Thread-safe; a thread may use a name twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[str, _Shared] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Have the name alone."""
        with self._lock:
            shared = self._shared.setdefault(name, _Shared())
            shared.wanted += 1
        try:
            with shared.lock:
                yield
        finally:
            with self._lock:
                shared.wanted -= 1
                if not shared.wanted:
                    del self._shared[name]
