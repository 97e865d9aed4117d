"""Which jobs run, each with how many workers, and why the others do not. A pure function of what there is."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from videoprocess_server.model.execution_modes import MODES
from videoprocess_server.model.hdi import ExecutionMode
from videoprocess_server.model.records import Priority
from videoprocess_server.model.states import BlockReason

#: worker-seconds that a user who has a place may be ahead of one who wants it
QUANTUM_SECONDS = 30.0
#: starts of younger jobs of a user after which the user's oldest queued one is next
OVERTAKES = 8
#: a decision is made again with what it starts as running, until it stays the same; of a million random situations none needed more than 3
_MAX_ROUNDS = 8


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An accepted job that runs or could."""

    job_id: str
    user_id: int
    priority: Priority
    execution_mode: ExecutionMode
    running: bool
    #: workers it could use now, at least 1
    demand: int
    #: memory that one of its workers needs
    worker_bytes: int
    #: threads that one of its workers keeps busy, at least 1
    worker_cores: int = 1
    #: a retry after running out of memory: no other worker may run beside its one
    alone: bool = False
    #: it is or was started because it was its user's oldest: it comes before all others of the user, HIGH ones too
    turn: bool = False
    #: workers it has now; 0 counts as 1 while it runs
    workers: int = 0
    #: as the last decision said
    blocked_by: BlockReason = BlockReason.NONE


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that a decision depends on."""

    #: jobs of one user in the order of its queue; how users' jobs are mixed does not matter
    candidates: Sequence[Candidate]
    cores: int
    memory_bytes: int
    max_running_jobs: int
    #: worker-seconds that users have had; see `fair_start`. Who is not in it has had none
    usage_seconds: Mapping[int, float]
    #: why NORMAL work must not run now
    gate: BlockReason = BlockReason.NONE
    #: whether jobs that do not run may begin to
    may_start: bool = True
    #: users who have a HIGH job running on another machine
    high_elsewhere: Collection[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Every candidate is in exactly one of the two."""

    #: of jobs that run, at least 1 each
    workers: Mapping[str, int]
    #: of jobs that do not run; NONE only waits for its turn
    blocked: Mapping[str, BlockReason]


def decide(situation: Situation) -> Decision:
    """Decide who runs.

    - While the gate is closed only HIGH jobs run.
    - Worker places are dealt one at a time to the user who has the fewest, of equals to the one who has had least. Who
      holds a place keeps it until he is QUANTUM_SECONDS ahead. A job that loses all its places to other users is blocked
      by FAIR_SHARE until it runs again.
    - Of a user's places, HIGH jobs take what they can use, then NORMAL ones. Among equals each running job keeps one,
      the others go in queue order. A NORMAL job without a place while a HIGH one of its user has one is PREEMPTED,
      whether it ever ran or not, and wherever the HIGH one runs.
    - A job with its turn takes its first place before all that. A turn or a retry alone that must wait for room lets no
      other job of its user start meanwhile.
    - No more cores and memory than there are, but one worker always may run.

    To decide again when the decision has been carried out changes nothing.
    """
    places = _deal(situation)
    for _ in range(_MAX_ROUNDS):
        settled = _deal(_carried_out(situation, places))
        if settled == places:
            break
        places = settled
    return Decision(workers=places, blocked=_reasons(situation, places))


def fair_start(usage_seconds: float, others: Sequence[float]) -> float:
    """Return what a user who had no work counts as having had: absence saves up no claim over those who work."""
    return max(usage_seconds, min(others, default=0.0))


def next_overtakes(overtakes: int, *, started_is_oldest: bool) -> int:
    """Count the starts in which a user's oldest queued job was passed over."""
    return 0 if started_is_oldest else overtakes + 1


def oldest_first(overtakes: int) -> bool:
    """Return whether the user's oldest queued job has its turn."""
    return overtakes >= OVERTAKES


class _Room:
    """What is left of the machine."""

    def __init__(self, situation: Situation) -> None:
        self.places: dict[str, int] = {}
        self.cores = situation.cores
        self._bytes = situation.memory_bytes
        self._jobs = situation.max_running_jobs
        #: a job that runs alone does
        self.closed = False

    def take(self, candidate: Candidate) -> bool:
        """Give one more worker to a job, if there is room. The first one of all always fits."""
        if self.places and not self._fits(candidate):
            return False
        self._jobs -= candidate.job_id not in self.places
        self.cores -= candidate.worker_cores
        self._bytes -= candidate.worker_bytes
        self.places[candidate.job_id] = self.places.get(candidate.job_id, 0) + 1
        self.closed = candidate.alone
        return True

    def _fits(self, candidate: Candidate) -> bool:
        return (
            not candidate.alone
            and (candidate.job_id in self.places or self._jobs > 0)
            and candidate.worker_cores <= self.cores
            and candidate.worker_bytes <= self._bytes
        )


class _Share:
    """One user's part in the dealing."""

    def __init__(self, candidates: Sequence[Candidate], usage_seconds: float, cores: int) -> None:
        self._usage_seconds = usage_seconds
        self._held = sum(max(candidate.workers, 1) for candidate in candidates if candidate.running)
        #: jobs that did not fit: what does not fit now will not fit later
        self._refused: set[str] = set()
        self._wishes = _wishes(candidates, cores, self._refused)
        self._starts_none = False
        self._dealt = 0

    def rank(self) -> tuple[int, float, bool]:
        """Say how far behind the others it comes with its next place."""
        keeps = self._dealt < self._held
        return self._dealt, self._usage_seconds - QUANTUM_SECONDS * keeps, not keeps

    def take_next(self, room: _Room) -> bool:
        """Take one place for the first of its jobs that fits."""
        for candidate in self._wishes:
            has_none = candidate.job_id not in room.places
            starts = has_none and not candidate.running
            if not (starts and self._starts_none) and room.take(candidate):
                self._dealt += 1
                return True
            self._refused.add(candidate.job_id)
            self._starts_none |= has_none and (candidate.alone or candidate.turn)
        return False


def _deal(situation: Situation) -> dict[str, int]:
    by_user: dict[int, list[Candidate]] = {}
    for candidate in situation.candidates:
        is_open = situation.gate is BlockReason.NONE or candidate.priority is Priority.HIGH
        if is_open and (candidate.running or situation.may_start):
            by_user.setdefault(candidate.user_id, []).append(candidate)
    room = _Room(situation)
    shares = {
        user_id: _Share(candidates, situation.usage_seconds.get(user_id, 0.0), situation.cores)
        for user_id, candidates in by_user.items()
    }
    queue = [(share.rank(), user_id) for user_id, share in shares.items()]
    heapq.heapify(queue)
    while queue and room.cores > 0 and not room.closed:
        _, user_id = heapq.heappop(queue)
        if shares[user_id].take_next(room):
            heapq.heappush(queue, (shares[user_id].rank(), user_id))
    return room.places


def _wishes(candidates: Sequence[Candidate], cores: int, refused: set[str]) -> Iterator[Candidate]:
    """Give a user's jobs in the order in which they should get places, each once for every place; none refused before."""
    given = dict.fromkeys((candidate.job_id for candidate in candidates), 0)

    def up_to(candidate: Candidate, workers: int) -> Iterator[Candidate]:
        while candidate.job_id not in refused and given[candidate.job_id] < workers:
            given[candidate.job_id] += 1
            yield candidate

    for candidate in candidates:
        if candidate.turn:
            yield from up_to(candidate, 1)
    for priority in (Priority.HIGH, Priority.NORMAL):
        equals = [candidate for candidate in candidates if candidate.priority is priority]
        for candidate in equals:
            if candidate.running:
                yield from up_to(candidate, 1)
        for candidate in equals:
            yield from up_to(candidate, _most_workers(candidate, cores))


def _most_workers(candidate: Candidate, cores: int) -> int:
    places = max(1, cores // candidate.worker_cores)
    return min(candidate.demand, MODES[candidate.execution_mode].max_workers(places))


def _carried_out(situation: Situation, places: Mapping[str, int]) -> Situation:
    candidates = [
        replace(candidate, running=candidate.job_id in places, workers=places.get(candidate.job_id, 0))
        for candidate in situation.candidates
    ]
    return replace(situation, candidates=candidates)


def _reasons(situation: Situation, places: Mapping[str, int]) -> dict[str, BlockReason]:
    running = [candidate for candidate in situation.candidates if candidate.job_id in places]
    users = {candidate.user_id for candidate in running}
    with_high = {candidate.user_id for candidate in running if candidate.priority is Priority.HIGH}
    with_high.update(situation.high_elsewhere)

    def reason(candidate: Candidate) -> BlockReason:
        if candidate.priority is Priority.NORMAL and situation.gate is not BlockReason.NONE:
            return situation.gate
        if candidate.priority is Priority.NORMAL and candidate.user_id in with_high:
            return BlockReason.PREEMPTED
        lost = candidate.running or candidate.blocked_by is BlockReason.FAIR_SHARE
        return BlockReason.FAIR_SHARE if lost and users - {candidate.user_id} else BlockReason.NONE

    return {
        candidate.job_id: reason(candidate)
        for candidate in situation.candidates
        if candidate.job_id not in places
    }
