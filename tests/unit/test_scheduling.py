from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from videoprocess_server.model.execution_modes import MODES
from videoprocess_server.model.hdi import ExecutionMode
from videoprocess_server.model.records import Priority
from videoprocess_server.model.scheduling import (
    OVERTAKES,
    QUANTUM_SECONDS,
    Candidate,
    Decision,
    Situation,
    decide,
    fair_start,
    next_overtakes,
    oldest_first,
)
from videoprocess_server.model.states import BlockReason

HIGH, NORMAL = Priority.HIGH, Priority.NORMAL
ANNA, BERT, CARL = 1, 2, 3
MEGABYTE = 1 << 20


def _job(job_id: str, user_id: int = ANNA, **values: Any) -> Candidate:
    defaults: dict[str, Any] = {
        "priority": NORMAL,
        "execution_mode": ExecutionMode.DEFAULT,
        "running": False,
        "demand": 100,
        "worker_bytes": MEGABYTE,
    }
    return Candidate(job_id=job_id, user_id=user_id, **(defaults | values))


def _situation(*candidates: Candidate, **values: Any) -> Situation:
    defaults: dict[str, Any] = {
        "cores": 4,
        "memory_bytes": 1000 * MEGABYTE,
        "max_running_jobs": 10,
        "usage_seconds": {},
    }
    return Situation(candidates=candidates, **(defaults | values))


def _carried_out(situation: Situation, decision: Decision) -> Situation:
    """The situation once the decision has been obeyed."""
    return replace(
        situation,
        candidates=[
            replace(
                job,
                running=job.job_id in decision.workers,
                workers=decision.workers.get(job.job_id, 0),
                blocked_by=decision.blocked.get(job.job_id, BlockReason.NONE),
            )
            for job in situation.candidates
        ],
    )


def _workers(*candidates: Candidate, **values: Any) -> dict[str, int]:
    return dict(decide(_situation(*candidates, **values)).workers)


def _blocked(*candidates: Candidate, **values: Any) -> dict[str, BlockReason]:
    return dict(decide(_situation(*candidates, **values)).blocked)


# between users


def test_places_are_dealt_one_at_a_time_to_who_has_fewest_then_to_who_has_had_least() -> None:
    jobs = (_job("a", ANNA), _job("b", BERT), _job("c", CARL))
    usage = {ANNA: 5.0, BERT: 9.0, CARL: 7.0}
    assert _workers(*jobs, cores=3, usage_seconds=usage) == {"a": 1, "b": 1, "c": 1}
    assert _workers(*jobs, cores=5, usage_seconds=usage) == {"a": 2, "b": 1, "c": 2}
    assert _workers(*jobs, cores=2, usage_seconds=usage) == {"a": 1, "c": 1}
    assert _workers(*jobs, cores=1) == {"a": 1}, "of equals the lower user id"


def test_what_one_user_cannot_use_the_others_get() -> None:
    assert _workers(_job("a", ANNA, demand=1), _job("b", BERT), cores=4) == {"a": 1, "b": 3}


def test_who_holds_a_place_keeps_it_until_it_is_a_quantum_ahead() -> None:
    jobs = (_job("a", ANNA, running=True), _job("b", BERT))

    def winner(ahead: float) -> set[str]:
        return set(_workers(*jobs, cores=1, usage_seconds={ANNA: 100 + ahead, BERT: 100.0}))

    assert winner(-QUANTUM_SECONDS) == winner(0) == winner(QUANTUM_SECONDS) == {"a"}
    assert winner(QUANTUM_SECONDS + 0.01) == {"b"}


def test_the_odd_place_is_kept_as_well() -> None:
    usage = {ANNA: 100.0, BERT: 90.0}
    jobs = (_job("a", ANNA, running=True, workers=2), _job("b", BERT, running=True, workers=1))
    assert _workers(*jobs, cores=3, usage_seconds=usage) == {"a": 2, "b": 1}
    assert _workers(*jobs, cores=3, usage_seconds=usage | {ANNA: 121.0}) == {"a": 1, "b": 2}


@pytest.mark.slow
def test_with_more_users_than_places_everyone_gets_the_same_and_changes_are_few() -> None:
    users = range(1, 6)
    situation = _situation(*(_job(f"j{user}", user) for user in users), cores=2)
    usage: dict[int, float] = dict.fromkeys(users, 0.0)
    changes, last = 0, set[str]()
    for _ in range(3000):  # seconds
        decision = decide(replace(situation, usage_seconds=usage))
        changes += set(decision.workers) != last
        last = set(decision.workers)
        for user in users:
            usage[user] += decision.workers.get(f"j{user}", 0)
        situation = _carried_out(situation, decision)
    assert sum(usage.values()) == 2 * 3000
    assert max(usage.values()) - min(usage.values()) <= 2 * QUANTUM_SECONDS
    assert changes <= 2 * 3000 / QUANTUM_SECONDS


def test_a_job_that_lost_its_places_to_others_is_blocked_by_that_until_it_runs_again() -> None:
    situation = _situation(
        _job("a", ANNA, running=True), _job("b", BERT), cores=1, usage_seconds={ANNA: 31.0}
    )
    decision = decide(situation)
    assert decision == Decision(workers={"b": 1}, blocked={"a": BlockReason.FAIR_SHARE})
    later = _carried_out(situation, decision)
    assert decide(later) == decision
    assert decide(replace(later, cores=2)) == Decision(workers={"a": 1, "b": 1}, blocked={})
    alone = replace(later, candidates=later.candidates[:1], max_running_jobs=1)
    assert decide(alone).workers == {"a": 1}


def test_a_job_that_lost_its_places_to_its_own_user_only_waits() -> None:
    assert _blocked(_job("a", alone=True), _job("r", running=True)) == {"a": BlockReason.NONE}
    jobs = (_job("a", alone=True, turn=True), _job("r", running=True))
    assert _blocked(*jobs) == {"r": BlockReason.NONE}


def test_a_job_that_never_ran_only_waits() -> None:
    assert _blocked(_job("a"), _job("b", BERT), cores=1) == {"b": BlockReason.NONE}


def test_priority_counts_only_within_a_user() -> None:
    assert _workers(_job("a", ANNA), _job("b", BERT, priority=HIGH), cores=1) == {"a": 1}
    assert _workers(_job("a", ANNA), _job("b", BERT, priority=HIGH), cores=2) == {"a": 1, "b": 1}


def test_who_was_away_has_no_claim_over_those_who_worked() -> None:
    assert fair_start(3.0, [50.0, 40.0]) == 40.0
    assert fair_start(60.0, [50.0, 40.0]) == 60.0
    assert fair_start(3.0, []) == 3.0


# within a user


def test_high_jobs_take_what_they_can_use_and_normal_ones_the_rest() -> None:
    normal, high = _job("n", running=True, workers=4), _job("h", priority=HIGH, demand=3)
    assert _workers(normal, high) == {"h": 3, "n": 1}
    assert _workers(normal, replace(high, demand=4)) == {"h": 4}
    assert _blocked(normal, replace(high, demand=4)) == {"n": BlockReason.PREEMPTED}
    assert _blocked(_job("n"), replace(high, demand=4)) == {"n": BlockReason.PREEMPTED}, "ran or not"


def test_a_high_job_elsewhere_preempts_whom_there_is_no_room_for_here() -> None:
    jobs, values = (_job("b", BERT, running=True), _job("n")), {"high_elsewhere": {ANNA}}
    assert _blocked(*jobs, max_running_jobs=1, **values) == {"n": BlockReason.PREEMPTED}
    assert _blocked(*jobs, max_running_jobs=2, **values) == {}


def test_where_nothing_may_start_what_runs_goes_on() -> None:
    assert _workers(_job("r", running=True), _job("q"), _job("h", priority=HIGH), may_start=False) == {"r": 4}


def test_a_normal_job_of_another_user_is_not_preempted() -> None:
    jobs = (_job("h", priority=HIGH, running=True), _job("n", BERT))
    assert _blocked(*jobs, cores=1) == {"n": BlockReason.NONE}


@pytest.mark.parametrize("priority", Priority)
def test_among_equals_running_jobs_keep_one_place_and_the_rest_goes_in_queue_order(
    priority: Priority,
) -> None:
    first, second = _job("1", priority=priority), _job("2", priority=priority, running=True, workers=4)
    assert _workers(first, second) == {"1": 3, "2": 1}
    assert _workers(first, second, cores=1) == {"2": 1}
    assert _workers(first, second, max_running_jobs=1) == {"2": 4}
    assert _workers(first, replace(second, running=False)) == {"1": 4}


def test_a_job_with_its_turn_keeps_one_place_against_high_ones() -> None:
    oldest = _job("old", turn=True, running=True)
    assert _workers(_job("h", priority=HIGH), oldest) == {"h": 3, "old": 1}
    assert _workers(_job("h", priority=HIGH, running=True), oldest, cores=1) == {"old": 1}
    queued = replace(oldest, running=False)
    assert _workers(_job("h", priority=HIGH, running=True), queued, cores=1) == {"old": 1}


def test_a_turn_that_must_wait_for_room_lets_nobody_of_its_user_start_before_it() -> None:
    big = _job("big", turn=True, worker_bytes=10 * MEGABYTE)
    small = [_job(str(index), running=index == 0, demand=1) for index in range(3)]
    other = _job("b", BERT, running=True, demand=1)
    usage = {ANNA: 10.0, BERT: 0.0}
    before = _situation(other, *small, big, memory_bytes=10 * MEGABYTE, usage_seconds=usage)
    assert decide(before).workers == {"0": 1, "b": 1}
    ended = replace(before, candidates=[other, *small[1:], big])
    assert decide(ended).workers == {"b": 1}
    assert decide(replace(ended, usage_seconds={BERT: 41.0, ANNA: 10.0})).workers == {"big": 1}


@pytest.mark.parametrize(
    ("mode", "workers", "niceness"),
    [
        (ExecutionMode.HIGH_PERFORMANCE, 5, 0),
        (ExecutionMode.DEFAULT, 5, 5),
        (ExecutionMode.BALANCED, 3, 10),
        (ExecutionMode.LOW_POWER, 1, 19),
    ],
)
def test_the_mode_bounds_a_jobs_workers(mode: ExecutionMode, workers: int, niceness: int) -> None:
    assert _workers(_job("a", execution_mode=mode), cores=5) == {"a": workers}
    assert _workers(_job("a", execution_mode=mode), cores=1) == {"a": 1}
    assert MODES[mode].niceness == niceness


def test_a_jobs_demand_bounds_its_workers() -> None:
    assert _workers(_job("a", demand=2), _job("b", demand=1)) == {"a": 2, "b": 1}


# room


def test_workers_fit_into_cores_and_memory() -> None:
    assert _workers(_job("a", worker_cores=2), cores=5) == {"a": 2}
    assert _workers(_job("a", worker_bytes=400 * MEGABYTE)) == {"a": 2}


def test_what_does_not_fit_lets_the_next_in() -> None:
    jobs = (_job("0", running=True, demand=1), _job("1", worker_bytes=1000 * MEGABYTE), _job("2"))
    assert _workers(*jobs) == {"0": 1, "2": 3}


def test_one_worker_always_may_run() -> None:
    assert _workers(_job("a", worker_bytes=5000 * MEGABYTE, worker_cores=9)) == {"a": 1}


def test_a_retry_alone_gets_one_worker_and_nobody_else_has_any() -> None:
    assert _workers(_job("a", alone=True), _job("b"), _job("c", BERT)) == {"a": 1}


def test_a_retry_alone_waits_for_those_who_run_and_lets_nobody_behind_it_start() -> None:
    alone, running = _job("a", alone=True), _job("r", running=True, demand=1)
    assert _workers(alone, _job("b"), running) == {"r": 1}
    assert _workers(alone, _job("b")) == {"a": 1}


def test_a_retry_alone_comes_between_users_when_it_is_its_users_turn() -> None:
    jobs = (_job("a", ANNA, alone=True), _job("b", BERT, running=True, workers=4))
    assert _workers(*jobs) == {"b": 4}
    assert _workers(*jobs, usage_seconds={BERT: 31.0}) == {"a": 1}


def test_no_more_jobs_run_than_may() -> None:
    jobs = [_job(str(index), demand=1) for index in range(5)]
    assert _workers(*jobs, max_running_jobs=2) == {"0": 1, "1": 1}


# the gate


def test_a_closed_gate_holds_normal_jobs_back_and_high_ones_not() -> None:
    jobs = (_job("n", running=True), _job("h", BERT, priority=HIGH), _job("t", CARL, turn=True))
    decision = decide(_situation(*jobs, gate=BlockReason.OVERHEAT))
    assert decision.workers == {"h": 4}
    assert decision.blocked == {"n": BlockReason.OVERHEAT, "t": BlockReason.OVERHEAT}


# the bound on starvation


def test_after_so_many_starts_of_younger_jobs_the_oldest_is_next() -> None:
    overtakes, starts = 0, []
    for _ in range(3 * (OVERTAKES + 1)):
        oldest = oldest_first(overtakes)
        starts.append(oldest)
        overtakes = next_overtakes(overtakes, started_is_oldest=oldest)
    assert starts == 3 * [*[False] * OVERTAKES, True]
    assert next_overtakes(5, started_is_oldest=True) == 0


# laws


@st.composite
def _candidates(draw: st.DrawFn, index: int, *, alike: bool) -> Candidate:
    running = draw(st.booleans())
    return _job(
        f"j{index}",
        draw(st.integers(1, 4)),
        priority=draw(st.sampled_from(Priority)),
        execution_mode=draw(st.sampled_from(ExecutionMode)),
        running=running,
        workers=draw(st.integers(0, 4)) if running else 0,
        demand=draw(st.integers(1, 6)),
        worker_bytes=MEGABYTE * (1 if alike else draw(st.integers(1, 8))),
        worker_cores=1 if alike else draw(st.sampled_from((1, 1, 2, 3))),
        alone=not alike and draw(st.sampled_from((False, False, False, True))),
        turn=draw(st.sampled_from((False, False, False, True))),
        blocked_by=BlockReason.NONE if running else draw(st.sampled_from(BlockReason)),
    )


@st.composite
def _situations(draw: st.DrawFn, *, alike: bool = False) -> Situation:
    """Up to nine jobs of four users; alike: they all cost the same, and memory and job count do not matter."""
    count = draw(st.integers(0, 9))
    return Situation(
        candidates=[draw(_candidates(index, alike=alike)) for index in range(count)],
        cores=draw(st.integers(1, 8)),
        memory_bytes=MEGABYTE * (1000 if alike else draw(st.integers(1, 24))),
        max_running_jobs=1000 if alike else draw(st.integers(1, 5)),
        usage_seconds=draw(st.dictionaries(st.integers(1, 4), st.floats(0, 200))),
        gate=draw(st.sampled_from((BlockReason.NONE, BlockReason.NONE, BlockReason.MANUAL))),
        may_start=alike or draw(st.sampled_from((True, True, False))),
        high_elsewhere=draw(st.frozensets(st.integers(1, 4), max_size=2)),
    )


def _open_to(job: Candidate, situation: Situation) -> bool:
    may_run = job.priority is HIGH or situation.gate is BlockReason.NONE
    return may_run and (job.running or situation.may_start)


def _places_of_users(jobs: Iterable[Candidate], workers: Mapping[str, int]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for job in jobs:
        counts[job.user_id] += workers.get(job.job_id, 0)
    return counts


@given(_situations())
def test_every_candidate_runs_or_does_not(situation: Situation) -> None:
    decision = decide(situation)
    assert {*decision.workers, *decision.blocked} == {job.job_id for job in situation.candidates}
    assert not set(decision.workers) & set(decision.blocked)
    assert all(count >= 1 for count in decision.workers.values())


@given(_situations())
def test_room_demand_and_mode_are_never_exceeded_but_for_one_worker(situation: Situation) -> None:
    workers = decide(situation).workers
    running = [job for job in situation.candidates if job.job_id in workers]
    for job in running:
        policy = MODES[job.execution_mode]
        assert workers[job.job_id] <= min(job.demand, policy.max_workers(situation.cores))
    if sum(workers.values()) <= 1:
        return
    assert len(running) <= situation.max_running_jobs
    assert sum(workers[job.job_id] * job.worker_cores for job in running) <= situation.cores
    assert sum(workers[job.job_id] * job.worker_bytes for job in running) <= situation.memory_bytes
    assert not any(job.alone for job in running)


@given(_situations())
def test_something_runs_if_anything_may(situation: Situation) -> None:
    assert bool(decide(situation).workers) == any(_open_to(job, situation) for job in situation.candidates)


@given(_situations())
def test_a_closed_gate_lets_no_normal_job_run_and_says_so(situation: Situation) -> None:
    decision = decide(situation)
    for job in situation.candidates:
        if job.priority is NORMAL and situation.gate is not BlockReason.NONE:
            assert decision.blocked[job.job_id] is situation.gate


_ROUNDABOUT = _situation(
    # 2 starts before 5 in the queue, which makes room for 8 of the other user: 5 must not flap
    _job("2", ANNA, worker_bytes=2 * MEGABYTE, demand=1),
    _job("5", ANNA, worker_bytes=5 * MEGABYTE, demand=1, running=True),
    _job("8", BERT, worker_bytes=8 * MEGABYTE, demand=1),
    memory_bytes=12 * MEGABYTE,
)


@example(_ROUNDABOUT)
@given(_situations())
def test_to_decide_again_after_obeying_changes_nothing(situation: Situation) -> None:
    decision = decide(situation)
    assert decide(_carried_out(situation, decision)) == decision


@given(_situations())
def test_only_the_order_within_a_user_matters(situation: Situation) -> None:
    by_user = sorted(situation.candidates, key=lambda job: job.user_id)
    assert decide(replace(situation, candidates=by_user)) == decide(situation)


@given(_situations())
def test_no_normal_job_has_what_a_high_one_of_its_user_could_use(situation: Situation) -> None:
    """Except a turn, and while one waits for room."""
    workers = decide(situation).workers
    used_cores = sum(workers.get(job.job_id, 0) * job.worker_cores for job in situation.candidates)
    used_bytes = sum(workers.get(job.job_id, 0) * job.worker_bytes for job in situation.candidates)
    for user_id in {job.user_id for job in situation.candidates}:
        own = [job for job in situation.candidates if job.user_id == user_id]
        if any(job.turn or job.alone for job in own):
            continue
        normal = [job for job in own if job.priority is NORMAL and job.job_id in workers]
        free_cores = (
            situation.cores - used_cores + sum(workers[job.job_id] * job.worker_cores for job in normal)
        )
        free_bytes = (
            situation.memory_bytes
            - used_bytes
            + sum(workers[job.job_id] * job.worker_bytes for job in normal)
        )
        for job in own if normal else ():
            count = workers.get(job.job_id, 0)
            places = max(1, situation.cores // job.worker_cores)
            full = count == min(job.demand, MODES[job.execution_mode].max_workers(places))
            fits = job.worker_cores <= free_cores and job.worker_bytes <= free_bytes
            may_start = count or len(workers) - len(normal) < situation.max_running_jobs
            assert job.priority is NORMAL or full or not fits or not may_start


@given(_situations(alike=True))
def test_no_user_has_two_places_more_than_another_could_use(situation: Situation) -> None:
    workers = decide(situation).workers
    places = _places_of_users(situation.candidates, workers)
    for user_id in places:
        could_use_more = any(
            workers.get(job.job_id, 0)
            < min(job.demand, MODES[job.execution_mode].max_workers(situation.cores))
            for job in situation.candidates
            if job.user_id == user_id and _open_to(job, situation)
        )
        assert not could_use_more or max(places.values()) <= places[user_id] + 1


@given(_situations())
def test_who_is_a_quantum_behind_everyone_else_has_something(situation: Situation) -> None:
    """However big its jobs are: else small ones of others could keep them out for good."""
    workers = decide(situation).workers
    waiting = {job.user_id for job in situation.candidates if _open_to(job, situation)}
    usage = {user_id: situation.usage_seconds.get(user_id, 0.0) for user_id in waiting}
    places = _places_of_users(situation.candidates, workers)
    for user_id in waiting:
        others = [seconds for other, seconds in usage.items() if other != user_id]
        if all(usage[user_id] < seconds - QUANTUM_SECONDS for seconds in others):
            assert places[user_id] >= 1
