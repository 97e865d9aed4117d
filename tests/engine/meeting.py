"""Transactions of two replicas that are to meet: what each did in one round, and a place where both wait for the other."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product

from videoprocess_server.engine.task_runner import StoppedError

#: that one waits for the other where it does not come
_PATIENCE_SECONDS = 0.05


@dataclass
class Act:
    """One transaction of a replica."""

    #: kinds of changes that became durable
    changes: Counter[str] = field(default_factory=Counter)
    #: whoever wrote found that the job was not its own any more
    refused: bool = False
    #: how long it holds the store's lock after its last statement
    lingers_seconds: float = 0.0
    #: monotonic seconds; between them it waits for the other's, or the other's waits for it
    begin: float = float("inf")
    end: float = float("inf")

    def overlaps(self, other: Act) -> bool:
        return self.begin < other.end and other.begin < self.end


class History:
    """The transactions of one replica since `begin_anew`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acts: Sequence[Act] = []
        #: called, with how many there were before it, where a transaction is about to begin; returns how long it is to linger
        self.before: Callable[[int], float] = lambda _number: 0.0

    def begin_anew(self, before: Callable[[int], float]) -> None:
        with self._lock:
            self.acts, self.before = [], before

    @contextmanager
    def act(self) -> Iterator[Act]:
        act = Act()
        with self._lock:
            number, before = len(self.acts), self.before
            self.acts = [*self.acts, act]
        act.lingers_seconds = before(number)
        act.begin = time.monotonic()
        try:
            yield act
        except StoppedError:
            act.refused = True
            raise
        finally:
            act.end = time.monotonic()


class Meeting:
    """Has two transactions begin at about the same time: each that makes one of two changes, as was seen in earlier rounds.

    Args:
        changes: what is to meet, of each of the two.
        pause_seconds: draws how long one waits after they have met, and how long it lingers, so that another comes first each time.
    """

    def __init__(self, changes: tuple[str, str], pause_seconds: Callable[[], float]) -> None:
        self._changes = changes
        self._pause_seconds = pause_seconds
        #: how many transactions come before that one
        self._numbers: list[int | None] = [None, None]

    def arrange(self, histories: Sequence[History]) -> None:
        """Begin a round."""
        both = threading.Barrier(2)
        for side, history in enumerate(histories):
            history.begin_anew(self._waiting(both, self._numbers[side]))

    def _waiting(self, both: threading.Barrier, place: int | None) -> Callable[[int], float]:
        waits, lingers = self._pause_seconds(), self._pause_seconds()

        def before(number: int) -> float:
            if number != place:
                return 0.0
            with suppress(threading.BrokenBarrierError):
                both.wait(_PATIENCE_SECONDS)
            time.sleep(waits)
            return lingers

        return before

    def learn(self, histories: Sequence[History], sides: Sequence[int]) -> None:
        """See where in a round these sides made their changes."""
        for side in sides:
            history = histories[side]
            found = [number for number, act in enumerate(history.acts) if self._changes[side] in act.changes]
            if self._numbers[side] is None and found:
                self._numbers[side] = found[0]

    def is_contended(self, histories: Sequence[History]) -> bool:
        """Whether both were under way at once: one waited for the other, and found what that one had left."""
        mine, others = (self._at_stake(side, history) for side, history in enumerate(histories))
        return any(one.overlaps(other) for one, other in product(mine, others))

    def is_made(self, history: History) -> bool:
        """Whether the first of the two changes was made."""
        return any(self._changes[0] in act.changes for act in history.acts)

    def _at_stake(self, side: int, history: History) -> Sequence[Act]:
        """The transactions that made the change, or would have."""
        number, change = self._numbers[side], self._changes[side]
        return [act for place, act in enumerate(history.acts) if place == number or change in act.changes]


def is_refused(histories: Sequence[History]) -> bool:
    """Whether somebody came too late with what it would have written."""
    return any(
        act.refused or "finish refused" in act.changes for history in histories for act in history.acts
    )
