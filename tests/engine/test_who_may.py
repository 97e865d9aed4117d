"""One policy stands before every method that takes a session or a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.engine_under_test import (
    CALLER,
    OTHER_USER,
    USER,
    VIDEO_STREAM,
    Engine,
    running_engine,
)
from engine.scripted_executor import Gate, ScriptedExecutor
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.engine.jobs import ProcessRequest
from videoprocess_server.engine.source_files import SharedReference, UploadReference
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import ExecutionMode
from videoprocess_server.model.records import Priority
from videoprocess_server.model.settings_snapshot import ModeSetting
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import AnalyzeTask
from videoprocess_server.rpc.subscriptions import Subscriptions

STRANGER = Caller(peer="ipv4:127.0.0.1:1")
UPLOAD_ID = "a" * 32


class OwnUserOnly:
    """STRANGER may act for OTHER_USER alone, CALLER for everybody."""

    def allows(self, caller: Caller, user_id: int) -> bool:
        return caller == CALLER or user_id == OTHER_USER


@pytest.fixture(name="engine")
def _engine(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    with running_engine(folder, workers, policy=OwnUserOnly()) as engine:
        yield engine


Call = Callable[[Engine, str], object]
PROCESS = ProcessRequest(video_id="v", timestamp_us=0, priority=Priority.NORMAL, request_id="")
FILE = SharedReference(root="media", path="v.mp4")

WITH_A_SESSION: dict[str, Call] = {
    "use": lambda e, s: e.sessions.use(STRANGER, s),
    "close": lambda e, s: e.sessions.close(STRANGER, s),
    "create_streams": lambda e, s: e.sessions.create_streams(STRANGER, s, [VIDEO_STREAM]),
    "commit_streams": lambda e, s: e.sessions.commit_streams(STRANGER, s, ModeSetting()),
    "release_streams": lambda e, s: e.sessions.release_streams(STRANGER, s, [1]),
    "prepare": lambda e, s: e.videos.prepare(STRANGER, s, "v", [FILE]),
    "pending": lambda e, s: e.videos.pending(STRANGER, s, None, 10),
    "process": lambda e, s: e.jobs.process(STRANGER, s, PROCESS),
    "interrupt": lambda e, s: e.stops.interrupt(STRANGER, s, []),
    "interrupt videos": lambda e, s: e.stops.interrupt(STRANGER, s, ["v"]),
    "reset": lambda e, s: e.stops.reset(STRANGER, s),
    "remove": lambda e, s: e.removals.remove(STRANGER, s, "v", restorable=False),
}

WITH_A_USER: dict[str, Callable[[Engine], object]] = {
    "create session": lambda e: e.sessions.create(STRANGER, USER, ExecutionMode.DEFAULT, ""),
    "get video": lambda e: e.videos.get(STRANGER, USER, "v"),
    "list videos": lambda e: e.videos.list(STRANGER, USER, None, "", None, 10),
    "restore video": lambda e: e.removals.restore(STRANGER, USER, "v"),
    "open upload": lambda e: e.uploads.open(STRANGER, USER, UPLOAD_ID, "", "", None),
    "query upload": lambda e: e.uploads.query(STRANGER, USER, UPLOAD_ID),
    "open result": lambda e: e.results.open(STRANGER, USER, "any", 0),
    "find result": lambda e: e.results.find(STRANGER, USER, "any"),
    "subscribe": lambda e: Subscriptions(e.repository, e.hub, e.policy).open(
        STRANGER, USER, "", 0, lambda: None
    ),
}


def _reason(call: Callable[[], object]) -> str:
    with pytest.raises(VideoProcessError) as refused:
        call()
    return refused.value.reason


@pytest.mark.parametrize("name", WITH_A_SESSION)
def test_a_session_of_somebody_else_looks_closed_and_stays_as_it_is(
    engine: Engine, workers: ScriptedExecutor, name: str
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(AnalyzeTask, gate)
    accepted = engine.process(session_id)
    gate.wait()
    with engine.repository.read() as reader:
        before = reader.get_session(session_id)
    assert _reason(lambda: WITH_A_SESSION[name](engine, session_id)) == "SESSION_CLOSED"
    assert _reason(lambda: WITH_A_SESSION[name](engine, "no such session")) == "SESSION_CLOSED"
    with engine.repository.read() as reader:
        assert reader.get_session(session_id) == before
    assert engine.state() is VideoState.RUNNING
    gate.open()
    engine.end_of(accepted)
    assert len(engine.events()) == 1


@pytest.mark.parametrize("name", WITH_A_USER)
def test_acting_for_somebody_else_is_refused(engine: Engine, name: str) -> None:
    engine.ready()
    assert _reason(lambda: WITH_A_USER[name](engine)) == "USER_NOT_ALLOWED"
    assert not engine.blobs.keys(BlobKind.UPLOAD)


def test_every_public_method_with_a_caller_is_among_those_tried(engine: Engine) -> None:
    managers = (
        engine.sessions,
        engine.videos,
        engine.jobs,
        engine.stops,
        engine.removals,
        engine.uploads,
        engine.results,
    )
    taking_a_caller = {
        name
        for manager in managers
        for name, method in vars(type(manager)).items()
        if not name.startswith("_") and "caller" in getattr(method, "__annotations__", {})
    }
    tried = {
        *WITH_A_SESSION,
        *("create", "find", "get", "list", "restore", "open", "query"),
    } - {"interrupt videos"}
    assert taking_a_caller == tried


def test_what_belongs_to_another_user_is_not_there(engine: Engine) -> None:
    """The caller may act for OTHER_USER, and names what is USER's."""
    session_id = engine.ready()
    (artifact,) = engine.finished(session_id).artifacts
    writer = engine.uploads.open(CALLER, USER, UPLOAD_ID, "", "", None)
    engine.uploads.append(writer, 0, b"x")
    engine.uploads.finish(writer, "")
    theirs = engine.ready_session(OTHER_USER)
    assert _reason(lambda: engine.videos.get(STRANGER, OTHER_USER, "v")) == "UNKNOWN_VIDEO"
    assert _reason(lambda: engine.uploads.query(STRANGER, OTHER_USER, UPLOAD_ID)) == "UPLOAD_NOT_FOUND"
    assert (
        _reason(lambda: engine.uploads.open(STRANGER, OTHER_USER, UPLOAD_ID, "", "", None))
        == "UPLOAD_NOT_FOUND"
    )
    assert (
        _reason(lambda: engine.results.open(STRANGER, OTHER_USER, artifact.artifact_id, 0))
        == "ARTIFACT_NOT_FOUND"
    )
    upload = UploadReference(upload_id=UPLOAD_ID)
    assert _reason(lambda: engine.videos.prepare(STRANGER, theirs, "w", [upload])) == "UNKNOWN_UPLOAD"
    assert engine.videos.list(STRANGER, OTHER_USER, None, "", None, 10) == []
    assert engine.removals.remove(STRANGER, theirs, "v", restorable=False) is None
    assert engine.stops.interrupt(STRANGER, theirs, ["v"]) == []
    assert engine.state() is VideoState.COMPLETED
