from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from videoprocess_server.model.states import (
    ACTIVE_VIDEO_STATES,
    TERMINAL_JOB_STATES,
    UNFINISHED_VIDEO_STATES,
    VIDEO_TRANSITIONS,
    IllegalTransitionError,
    JobState,
    SegmentState,
    Trigger,
    UploadState,
    VideoState,
    next_state,
)

PAGE = (Path(__file__).parents[2] / "docs" / "states.md").read_text()
IDLE = {VideoState.PENDING, VideoState.PAUSED, VideoState.FAILED, VideoState.COMPLETED}
ANY_OTHER = [pair for pair in product(VideoState, Trigger) if pair not in VIDEO_TRANSITIONS]


def _rows() -> dict[tuple[VideoState, Trigger], set[VideoState]]:
    """The page's table of transitions."""
    triggers = {trigger.value: trigger for trigger in Trigger}
    section = PAGE[PAGE.index("## Transitions of a video") :]
    found = re.findall(r"^\| ([A-Z]+) \| (.+?) \| ([A-Z]+(?: or [A-Z]+)*) \|$", section, re.MULTILINE)
    return {
        (VideoState[state], triggers[trigger]): {VideoState[name] for name in targets.split(" or ")}
        for state, trigger, targets in found
    }


def test_the_page_tells_the_whole_table_and_nothing_else() -> None:
    assert _rows() == {pair: set(targets) for pair, targets in VIDEO_TRANSITIONS.items()}


@pytest.mark.parametrize("states", [VideoState, JobState, SegmentState, UploadState])
def test_the_page_names_every_state(states: type[VideoState]) -> None:
    assert all(f"| {state.name} | " in PAGE for state in states)


@pytest.mark.parametrize(("state", "trigger"), VIDEO_TRANSITIONS)
def test_a_pair_of_the_table_leads_where_it_says(state: VideoState, trigger: Trigger) -> None:
    targets = VIDEO_TRANSITIONS[state, trigger]
    for target in targets:
        assert next_state(state, trigger, target) is target
    if len(targets) == 1:
        assert next_state(state, trigger) is targets[0]
    else:
        with pytest.raises(IllegalTransitionError):
            next_state(state, trigger)


@pytest.mark.parametrize(("state", "trigger"), ANY_OTHER)
def test_a_pair_outside_the_table_is_illegal_wherever_it_should_lead(
    state: VideoState, trigger: Trigger
) -> None:
    for target in (None, *VideoState):
        with pytest.raises(IllegalTransitionError, match=f"{state.name} --{trigger.name}-->"):
            next_state(state, trigger, target)


@pytest.mark.parametrize(("state", "trigger"), VIDEO_TRANSITIONS)
def test_a_target_outside_the_row_is_illegal(state: VideoState, trigger: Trigger) -> None:
    for target in set(VideoState) - set(VIDEO_TRANSITIONS[state, trigger]):
        with pytest.raises(IllegalTransitionError):
            next_state(state, trigger, target)


def _from(trigger: Trigger) -> set[VideoState]:
    return {state for state, found in VIDEO_TRANSITIONS if found is trigger}


def test_work_begins_from_idle_states_and_ends_from_running() -> None:
    assert _from(Trigger.PROCESS) == IDLE
    assert _from(Trigger.DISPATCH) == {VideoState.QUEUED}
    for trigger in (Trigger.PUBLISHED, Trigger.MEDIA_FAULT, Trigger.SLIP, Trigger.REQUEUE):
        assert _from(trigger) == {VideoState.RUNNING}
    assert _from(Trigger.GIVE_UP) == ACTIVE_VIDEO_STATES


def test_only_prepare_and_removal_lead_out_of_error() -> None:
    assert {trigger for state, trigger in VIDEO_TRANSITIONS if state is VideoState.ERROR} == {
        Trigger.PREPARE_ANEW,
        Trigger.REMOVE_RESTORABLE,
    }


def test_all_leads_into_the_trash_and_only_a_restore_out() -> None:
    assert _from(Trigger.REMOVE_RESTORABLE) == set(VideoState) - {VideoState.DELETED}
    assert {trigger for state, trigger in VIDEO_TRANSITIONS if state is VideoState.DELETED} == {
        Trigger.RESTORE
    }


def test_another_source_never_replaces_one_in_use() -> None:
    assert not _from(Trigger.PREPARE_ANEW) & (ACTIVE_VIDEO_STATES | {VideoState.DELETED})


def test_sets_of_states_are_what_they_say() -> None:
    assert set(JobState) - TERMINAL_JOB_STATES == {JobState.QUEUED, JobState.RUNNING}
    assert set(VideoState) - UNFINISHED_VIDEO_STATES == {VideoState.COMPLETED, VideoState.DELETED}
