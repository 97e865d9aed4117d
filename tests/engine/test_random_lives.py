"""Two users, three videos, random calls, crashes and restarts: what must hold whatever comes."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.conftest import MEMORY
from engine.engine_under_test import CALLER, OTHER_SETTINGS, OTHER_USER, USER, Engine, until
from engine.scripted_executor import Act, Gate, ScriptedExecutor, crash, fail, stall
from videoprocess_server.engine.jobs import Accepted
from videoprocess_server.engine.limits import Limits
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.settings_snapshot import ModeSetting
from videoprocess_server.model.states import ACTIVE_VIDEO_STATES, TERMINAL_JOB_STATES, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, JoinTask, PlanTask, Task, VerifyTask

USERS = st.sampled_from([USER, OTHER_USER])
VIDEOS = st.sampled_from(["a", "b", "c"])
PLACES = st.sampled_from([AnalyzeTask, PlanTask, 0, 1, JoinTask, VerifyTask])
ACTS: dict[str, Callable[[], list[Act]]] = {
    "crash": lambda: [crash(-11)],
    "three crashes": lambda: [crash(-11)] * 3,
    "foreign kill": lambda: [crash(-9)],
    "stall": lambda: [stall],
    "does not decode": lambda: [fail("DECODE_FAILED")],
    "slip": lambda: [fail("CROP_OUTSIDE_PICTURE")],
    "wait for ever": lambda: [Gate()],
}


class RandomLives(RuleBasedStateMachine):
    """Every accepted job is remembered, and must have ended once when all is over."""

    def __init__(self) -> None:
        super().__init__()
        where = MEMORY if os.access(MEMORY, os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(dir=where, prefix="videoprocess-tests-")
        self._workers = ScriptedExecutor(worker_count=2, segment_count=2)
        self._engine = Engine(Path(self._folder.name), self._workers, limits=Limits(max_running_jobs=2))
        self._accepted: dict[str, Accepted] = {}
        self._sessions: dict[int, str] = {}

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

    @rule(user_id=USERS, video_id=VIDEOS)
    def process(self, user_id: int, video_id: str) -> None:
        accepted = self._engine.process(self._sessions[user_id], video_id)
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

    @rule(user_id=USERS, videos=st.lists(VIDEOS, max_size=2))
    def interrupt(self, user_id: int, videos: list[str]) -> None:
        self._engine.stops.interrupt(CALLER, self._sessions[user_id], videos)

    @rule(user_id=USERS)
    def reset(self, user_id: int) -> None:
        self._engine.stops.reset(CALLER, self._sessions[user_id])
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
        self._engine.stop_orderly()
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

    def teardown(self) -> None:
        try:
            self._end_all()
        finally:
            self._engine.close()
            self._folder.cleanup()

    def _end_all(self) -> None:
        """What waits is interrupted, the rest ends by itself: no job is left without its event."""
        for user_id, session_id in self._sessions.items():
            names = [video.video_id for video in self._engine.videos.pending(CALLER, session_id, None, 10)]
            self._engine.stops.interrupt(CALLER, self._sessions[user_id], names)
        until(lambda: all(self._is_ended(job_id) for job_id in self._accepted))
        self._engine.idle()
        ended = {event.job_id for user in (USER, OTHER_USER) for event in self._engine.events(user)}
        assert ended == set(self._accepted)

    def _is_ended(self, job_id: str) -> bool:
        return self._engine.job(job_id).state in TERMINAL_JOB_STATES


SOAKING = "VIDEOPROCESS_SOAK" in os.environ
TestRandomLives = RandomLives.TestCase
TestRandomLives.settings = settings(
    max_examples=500 if SOAKING else 30,
    stateful_step_count=40 if SOAKING else 15,
    deadline=None,
    derandomize=not SOAKING,
    suppress_health_check=[HealthCheck.too_slow],
)
