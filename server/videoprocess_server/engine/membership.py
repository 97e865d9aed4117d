"""This service among the replicas that share its rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from videoprocess_server.store.repository import Reader


class Membership(Protocol):
    """What the engine needs to know of the other replicas."""

    @property
    def replica_id(self) -> str:
        """What this one is called in rows: no other has the name, and an earlier life of this one had it too."""
        ...

    def may_drive(self) -> bool:
        """Return whether the others leave its jobs to it for now."""
        ...

    def others(self, reader: Reader) -> Collection[str]:
        """Return the ids of the other replicas that live."""
        ...

    def start(self) -> None:
        """Be one of them from now on."""
        ...

    def close(self) -> None:
        """Be none of them any more: whatever is still running here is the others'."""
        ...


@dataclass(frozen=True)
class Alone:
    """The only service there is: it holds the lock on the directory of its rows."""

    replica_id: str = "alone"

    def may_drive(self) -> bool:
        """See `Membership`."""
        return True

    def others(self, _reader: Reader) -> Collection[str]:
        """See `Membership`."""
        return ()

    def start(self) -> None:
        """Nobody is to be told."""

    def close(self) -> None:
        """Nobody is to be told."""


ALONE: Membership = Alone()
