"""Who this service is among those that share the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Replica(Protocol):
    """One service of several."""

    @property
    def replica_id(self) -> str:
        """What it is called in rows: no other has it."""
        ...

    def may_drive(self) -> bool:
        """Return whether the others leave its jobs to it for now."""
        ...


@dataclass(frozen=True)
class Alone:
    """The only service there is: it holds the lock on the directory of its rows."""

    replica_id: str = "alone"

    def may_drive(self) -> bool:
        """See `Replica`."""
        return True


ALONE: Replica = Alone()
