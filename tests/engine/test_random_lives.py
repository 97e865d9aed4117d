"""Two users, three videos, random calls, crashes and restarts: what must hold whatever comes."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from structlog.testing import capture_logs

from engine.conftest import MEMORY
from engine.engine_under_test import CALLER, OTHER_SETTINGS, OTHER_USER, SECOND_US, USER, Engine, until
from engine.scripted_executor import Act, Attempt, Gate, ScriptedExecutor, crash, fail, stall
from soaking import SOAKING
from videoprocess_server.engine import scheduler
from videoprocess_server.engine.jobs import Accepted
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.parking import ParkingLimits
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.execution.executor import CrashCause, WorkerCrashedError
from videoprocess_server.model.records import Priority
from videoprocess_server.model.settings_snapshot import ModeSetting
from videoprocess_server.model.states import ACTIVE_VIDEO_STATES, TERMINAL_JOB_STATES, BlockReason, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, JoinTask, PlanTask, Task, VerifyTask

USERS = st.sampled_from([USER, OTHER_USER])
VIDEOS = st.sampled_from(["a", "b", "c"])
PLACES = st.sampled_from([AnalyzeTask, PlanTask, 0, 1, JoinTask, VerifyTask])


def _out_of_memory(_attempt: Attempt) -> None:
    raise WorkerCrashedError(-9, CrashCause.OUT_OF_MEMORY)


ACTS: dict[str, Callable[[], list[Act]]] = {
    "crash": lambda: [crash(-11)],
    "three crashes": lambda: [crash(-11)] * 3,
    "foreign kill": lambda: [crash(-9)],
    "stall": lambda: [stall],
    "does not decode": lambda: [fail("DECODE_FAILED")],
    "slip": lambda: [fail("CROP_OUTSIDE_PICTURE")],
    "out of memory": lambda: [_out_of_memory],
    "full disk": lambda: [fail("STORAGE_FULL")],
}


#: what the log says when something of ours went wrong
MISTAKES = {
    "done_callback_failed",
    "driver_broke",
    "housekeeping_failed",
    "job_left_running",
    "message_refused",
    "pass_failed",
    "reader_not_woken",
}
LIMITS = Limits(max_running_jobs=2, retry_backoff_seconds=1e-6, checkpoint_seconds=0.05)
#: two interrupted videos are one too many
PARKING = ParkingLimits(max_count=1)
GATES = [
    BlockReason.NONE,
    BlockReason.SPACE_LIMIT,
    BlockReason.OVERHEAT,
    BlockReason.QUIET_HOURS,
    BlockReason.MANUAL,
]


class RandomLives(RuleBasedStateMachine):
    """Every accepted job is remembered, and must have ended once when all is over."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._log = self._stack.enter_context(capture_logs())
        self._stack.enter_context(pytest.MonkeyPatch.context()).setattr(scheduler, "PAUSE_SECONDS", 0.05)
        where = MEMORY if os.access(MEMORY, os.W_OK) else None
        folder = self._stack.enter_context(
            tempfile.TemporaryDirectory(dir=where, prefix="videoprocess-tests-")
        )
        self._workers = ScriptedExecutor(worker_count=2, segment_count=2)
        self._engine = Engine(Path(folder), self._workers, limits=LIMITS, parking=PARKING)
        self._stack.callback(self._engine.close)
        self._accepted: dict[str, Accepted] = {}
        self._sessions: dict[int, str] = {}
        self._gates: list[Gate] = []

    @initialize()
    def open_sessions(self) -> None:
        self._sessions = {user_id: self._engine.ready_session(user_id) for user_id in (USER, OTHER_USER)}

    @rule(user_id=USERS, video_id=VIDEOS, content=st.sampled_from([b"video", b"another video"]))
    def prepare(self, user_id: int, video_id: str, content: bytes) -> None:
        """Both users name the same files, so either may change the other's source."""
        try:
            self._engine.prepare(self._sessions[user_id], video_id, content)
        except VideoProcessError as error:
            if error.reason != "SOURCE_IN_USE":
                raise

    @rule(
        user_id=USERS,
        video_id=VIDEOS,
        timestamp_us=st.sampled_from([0, SECOND_US]),
        priority=st.sampled_from([None, *Priority]),
    )
    def process(
        self, user_id: int, video_id: str, timestamp_us: int = 0, priority: Priority | None = None
    ) -> None:
        session_id = self._sessions[user_id]
        accepted = self._engine.process(session_id, video_id, timestamp_us, priority=priority)
        assert accepted.job.user_id == user_id
        self._accepted.setdefault(accepted.job.job_id, accepted)

    @rule(user_id=USERS, video_id=VIDEOS, other=st.booleans())
    def prepare_and_process(self, user_id: int, video_id: str, other: bool) -> None:
        self.prepare(user_id, video_id, self._content(video_id))
        self._engine.commit(self._sessions[user_id], OTHER_SETTINGS if other else ModeSetting())
        self.process(user_id, video_id)

    def _content(self, video_id: str) -> bytes:
        path = self._engine.shared / f"{video_id}.mp4"
        return path.read_bytes() if path.exists() else b"video"

    @rule(place=PLACES, act=st.sampled_from(sorted(ACTS)))
    def something_will_happen(self, place: type[Task] | int, act: str) -> None:
        self._workers.will(place, *ACTS[act]())

    @rule(place=PLACES)
    def somebody_will_wait(self, place: type[Task] | int) -> None:
        self._gates.append(Gate())
        self._workers.will(place, self._gates[-1])

    @rule()
    def nobody_waits_any_more(self) -> None:
        for gate in self._gates:
            gate.open()

    @rule(reason=st.sampled_from(GATES))
    def close_gate(self, reason: BlockReason) -> None:
        self._engine.close_gate(reason)

    @rule(user_id=USERS, videos=st.lists(VIDEOS, max_size=2))
    def interrupt(self, user_id: int, videos: list[str]) -> None:
        self._are_mine(user_id, self._engine.stops.interrupt(CALLER, self._sessions[user_id], videos))

    @rule(user_id=USERS, video_id=VIDEOS)
    def interrupt_from_another_session(self, user_id: int, video_id: str) -> None:
        session_id = self._engine.session(user_id)
        self._are_mine(user_id, self._engine.stops.interrupt(CALLER, session_id, [video_id]))
        self._engine.sessions.close(CALLER, session_id)

    def _are_mine(self, user_id: int, job_ids: Sequence[str]) -> None:
        assert {self._engine.job(job_id).user_id for job_id in job_ids} <= {user_id}

    @rule(user_id=USERS)
    def close_the_session_and_open_another(self, user_id: int) -> None:
        self._engine.sessions.close(CALLER, self._sessions[user_id])
        self._sessions[user_id] = self._engine.ready_session(user_id)

    @rule(user_id=USERS)
    def reset(self, user_id: int) -> None:
        self._are_mine(user_id, self._engine.stops.reset(CALLER, self._sessions[user_id]))
        self._sessions[user_id] = self._engine.ready_session(user_id)

    @rule(user_id=USERS, video_id=VIDEOS, restorable=st.booleans())
    def remove(self, user_id: int, video_id: str, restorable: bool) -> None:
        self._engine.removals.remove(CALLER, self._sessions[user_id], video_id, restorable=restorable)

    @rule(user_id=USERS, video_id=VIDEOS)
    def restore(self, user_id: int, video_id: str) -> None:
        if self._engine.video(video_id, user_id) is None:
            return
        view = self._engine.removals.restore(CALLER, user_id, video_id)
        assert view.video.expire_time_us is None
        assert view.video.state is not VideoState.DELETED

    @rule()
    def die_and_come_back(self) -> None:
        self._engine.restart()

    @rule()
    def stop_and_come_back(self) -> None:
        self._engine.stop_orderly(grace_seconds=0.05)
        self._engine.start_again()

    @invariant()
    def a_video_has_at_most_one_active_job_and_is_active_with_it(self) -> None:
        with self._engine.repository.read() as reader:
            active = reader.list_active_jobs()
            videos = [video for user in (USER, OTHER_USER) for video in reader.list_videos(user, limit=10)]
        names = [(job.user_id, job.video_id) for job in active]
        assert len(names) == len(set(names))
        assert set(names) == {
            (video.user_id, video.video_id) for video in videos if video.state in ACTIVE_VIDEO_STATES
        }

    @invariant()
    def ended_jobs_have_one_event_and_numbers_have_no_gaps(self) -> None:
        for user_id in (USER, OTHER_USER):
            events = self._engine.events(user_id)
            assert [event.sequence for event in events] == [*range(1, len(events) + 1)]
            assert all(event.user_id == user_id for event in events)
            counts = Counter(event.job_id for event in events)
            assert set(counts.values()) <= {1}
            assert set(counts) <= set(self._accepted)
            for job_id in counts:
                job = self._engine.job(job_id)
                assert job.user_id == user_id
                assert job.state in TERMINAL_JOB_STATES

    @invariant()
    def what_is_in_the_trash_has_no_work(self) -> None:
        with self._engine.repository.read() as reader:
            for user_id in (USER, OTHER_USER):
                for video in reader.list_videos(user_id, states={VideoState.DELETED}, limit=10):
                    assert reader.get_active_job(user_id, video.video_id) is None

    @invariant()
    def no_mistake_of_ours_was_logged(self) -> None:
        """Such as a step that the state table does not have."""
        assert [entry for entry in self._log if entry["event"] in MISTAKES] == []

    def teardown(self) -> None:
        with self._stack:
            self._end_all()
            self._work_all_off()

    def _end_all(self) -> None:
        """Everything is interrupted: no job is left without its event."""
        for user_id, session_id in self._sessions.items():
            names = [video_id for _, video_id in self._engine.videos.pending(CALLER, session_id, None, 10)]
            self._engine.stops.interrupt(CALLER, self._sessions[user_id], names)
        self._every_job_has_ended_once()

    def _work_all_off(self) -> None:
        """Whatever can be processed is: nothing that happened keeps it from its end."""
        self._engine.close_gate(BlockReason.NONE)
        self.nobody_waits_any_more()
        for user_id, session_id in self._sessions.items():
            for _, video_id in self._engine.videos.pending(CALLER, session_id, None, 10):
                self.process(user_id, video_id)
        self._every_job_has_ended_once()
        self.no_mistake_of_ours_was_logged()

    def _every_job_has_ended_once(self) -> None:
        until(lambda: all(self._is_ended(job_id) for job_id in self._accepted))
        self._engine.idle()
        ended = Counter(event.job_id for user in (USER, OTHER_USER) for event in self._engine.events(user))
        assert ended == Counter(self._accepted.keys())

    def _is_ended(self, job_id: str) -> bool:
        return self._engine.job(job_id).state in TERMINAL_JOB_STATES


TestRandomLives = RandomLives.TestCase
TestRandomLives.settings = settings(
    max_examples=500 if SOAKING else 30,
    stateful_step_count=40 if SOAKING else 15,
    deadline=None,
    derandomize=not SOAKING,
    suppress_health_check=[HealthCheck.too_slow],
)
