"""Results on their way into a shared root: once, whole, never over another's file, and nothing left of what came to nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.engine_under_test import CALLER, VIDEO_STREAM, Engine, until
from engine.scripted_executor import ScriptedExecutor
from videoprocess_server.blobs import shared_directory
from videoprocess_server.blobs.shared_directory import SharedDirectory
from videoprocess_server.blobs.shared_path import SharedPathError
from videoprocess_server.engine import scheduler
from videoprocess_server.engine.deliveries import Deliveries
from videoprocess_server.engine.delivery_batch import DeliveryBatch
from videoprocess_server.engine.finishing import Finishing
from videoprocess_server.engine.jobs import Accepted
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import Delivery, EventKind, Job, Tombstone
from videoprocess_server.model.settings_snapshot import SharedDirectory as Target
from videoprocess_server.model.states import BlockReason, SegmentState, VideoState

NAME = "result.mp4"


@pytest.fixture(name="_short_pauses", autouse=True)
def _fixture_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.1)


def ready(engine: Engine, video_id: str = "v", **directory: Any) -> str:
    """A session that may process the video, and publishes its result."""
    target = Target(**({"root": "out", "name_template": NAME} | directory))
    session_id = engine.ready_session(streams=[replace(VIDEO_STREAM, directory=target)])
    engine.prepare(session_id, video_id)
    return session_id


def names(engine: Engine) -> Sequence[str]:
    return sorted(path.name for path in engine.published.rglob("*"))


def done(engine: Engine, accepted: Accepted) -> Any:
    event = engine.end_of(accepted)
    assert event.kind is EventKind.PROCESS_DONE, event.fault
    (artifact,) = event.artifacts
    return artifact


def refusal(engine: Engine, accepted: Accepted) -> str:
    event = engine.end_of(accepted)
    assert event.fault is not None
    assert event.fault.error_code is ErrorCode.PROCESS
    return event.fault.reason


def is_whole(engine: Engine, artifact: Any, name: str = NAME) -> bool:
    return hashlib.sha256((engine.published / name).read_bytes()).hexdigest() == artifact.sha256


def tombstones(engine: Engine) -> list[Tombstone]:
    with engine.repository.read() as reader:
        return list(reader.list_tombstones(99))


class Gate:
    """Holds the first call of something up, before or after it is done, for ever or until it is opened."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool = False
    ) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        do = getattr(owner, name)

        def held(*arguments: Any, **more: Any) -> Any:
            if self.reached.is_set():
                return do(*arguments, **more)
            if after:
                do(*arguments, **more)
            self.reached.set()
            self.opened.wait()
            return None if after else do(*arguments, **more)

        monkeypatch.setattr(owner, name, held)


def test_the_row_knows_of_a_file_only_while_it_is_brought(engine: Engine) -> None:
    accepted = engine.process(ready(engine))
    artifact = done(engine, accepted)
    assert (artifact.published_root, artifact.published_path) == ("out", NAME)
    assert is_whole(engine, artifact)
    assert names(engine) == [NAME]
    assert engine.job(accepted.job.job_id).deliveries == ()


def test_a_name_that_is_taken_is_told_before_anything_is_encoded(engine: Engine) -> None:
    (engine.published / NAME).write_text("somebody's")
    assert refusal(engine, engine.process(ready(engine))) == "OUTPUT_EXISTS"
    assert engine.state() is VideoState.PENDING
    assert (engine.published / NAME).read_text() == "somebody's"
    assert {segment.state for segment in engine.segments()} == {SegmentState.WAITING}
    assert done(engine, engine.process(ready(engine, name_template="other.mp4")))
    assert names(engine) == ["other.mp4", NAME]


@pytest.mark.parametrize("content", ["somebody's", ""])
def test_a_name_that_is_taken_meanwhile_is_left_to_whoever_has_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """Even by a file with the same bytes, as another job of the same settings makes it."""
    give_names = DeliveryBatch.give_names

    def too_late(batch: DeliveryBatch) -> None:
        (temporary,) = engine.published.iterdir()
        (engine.published / NAME).write_bytes(content.encode() or temporary.read_bytes())
        give_names(batch)

    monkeypatch.setattr(DeliveryBatch, "give_names", too_late)
    assert refusal(engine, engine.process(ready(engine))) == "OUTPUT_EXISTS"
    engine.sweeper.sweep()
    assert names(engine) == [NAME]


def test_no_file_is_replaced_by_a_job_of_which_another_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_names = DeliveryBatch.give_names

    def too_late(batch: DeliveryBatch) -> None:
        (engine.published / "other").write_text("somebody's")
        give_names(batch)

    monkeypatch.setattr(DeliveryBatch, "give_names", too_late)
    (engine.published / NAME).write_text("there before")
    streams = [
        replace(VIDEO_STREAM, directory=Target(root="out", name_template=NAME, replace_existing=True)),
        replace(VIDEO_STREAM, stream_id=2, directory=Target(root="out", name_template="other")),
    ]
    session_id = engine.ready_session(streams=streams)
    engine.prepare(session_id, "v")
    assert refusal(engine, engine.process(session_id)) == "OUTPUT_EXISTS"
    engine.sweeper.sweep()
    assert names(engine) == ["other", NAME]
    assert (engine.published / NAME).read_text() == "there before"


def test_what_an_earlier_try_left_and_cannot_be_taken_away_ends_the_job(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Deliveries.begin

    def with_another_result(self: Deliveries, job: Job, *arguments: Any) -> DeliveryBatch:
        earlier = Delivery(
            root="out", folder="", name=NAME, temporary_name=".videoprocess-0", size_bytes=1, sha256=""
        )
        return begin(self, replace(job, deliveries=(earlier,)), *arguments)

    def refuse(_: SharedDirectory, name: str) -> None:
        raise SharedPathError("DIRECTORY_NOT_WRITABLE", name)

    monkeypatch.setattr(Deliveries, "begin", with_another_result)
    monkeypatch.setattr(SharedDirectory, "remove", refuse)
    assert refusal(engine, engine.process(ready(engine))) == "DIRECTORY_NOT_WRITABLE"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_waited_out(engine: Engine, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    copy, tries = shared_directory._copy, 0

    def full(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError(number, os.strerror(number))
        copy(*arguments)

    monkeypatch.setattr(shared_directory, "_copy", full)
    artifact = done(engine, engine.process(ready(engine)))
    assert is_whole(engine, artifact)
    assert names(engine) == [NAME]


def test_where_there_is_no_space_for_what_is_noted_nothing_is_joined_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, DeliveryBatch, "create")
    accepted = engine.process(ready(engine))
    assert gate.reached.wait(10)
    with monkeypatch.context() as patch:
        patch.setattr(SharedDirectory, "free_bytes", lambda _: 1)
        patch.setattr(Finishing, "run", pytest.fail)
        engine.restart()
        until(lambda: engine.blocked_by(accepted) is BlockReason.SPACE_LIMIT)
        engine.close_gate(BlockReason.MANUAL)
        until(lambda: engine.blocked_by(accepted) is BlockReason.MANUAL)
    engine.close_gate(BlockReason.NONE)
    assert is_whole(engine, done(engine, accepted))


def test_space_that_an_earlier_try_has_taken_is_not_asked_for_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, DeliveryBatch, "give_names")
    accepted = engine.process(ready(engine))
    assert gate.reached.wait(10)
    monkeypatch.setattr(SharedDirectory, "free_bytes", lambda _: 1)
    engine.restart()
    assert is_whole(engine, done(engine, accepted))


@pytest.mark.parametrize("where", ["check_plan", "create", "fill", "give_name"])
def test_a_root_that_is_away_is_waited_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    away = engine.folder / "away"
    session_id = ready(engine)
    if where == "check_plan":
        engine.published.rename(away)
    else:
        do = getattr(SharedDirectory, where)

        def unmounted(directory: SharedDirectory, *arguments: Any, **more: Any) -> Any:
            if engine.published.exists() and not away.exists():
                engine.published.rename(away)
            answer = do(directory, *arguments, **more)
            directory.check_in_place()
            return answer

        monkeypatch.setattr(SharedDirectory, where, unmounted)
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.3)
    accepted = engine.process(session_id)
    until(lambda: engine.blocked_by(accepted) is BlockReason.STORE_UNREACHABLE)
    monkeypatch.undo()
    assert [path for path in away.iterdir() if not path.name.startswith(".")] == []
    away.rename(engine.published)
    assert is_whole(engine, done(engine, accepted))
    assert names(engine) == [NAME]


def test_a_folder_that_is_gone_ends_the_job_and_keeps_its_segments(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = engine.published / "folder"
    folder.mkdir()
    create = SharedDirectory.create

    def gone(directory: SharedDirectory, name: str) -> int:
        folder.rmdir()
        return create(directory, name)

    with monkeypatch.context() as patch:
        patch.setattr(SharedDirectory, "create", gone)
        assert refusal(engine, engine.process(ready(engine, path="folder"))) == "NO_SUCH_PATH"
    assert engine.state() is VideoState.PENDING
    assert {segment.state for segment in engine.segments()} == {SegmentState.DONE}
    assert done(engine, engine.process(ready(engine)))


def test_a_folder_that_was_moved_out_of_the_root_keeps_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, moved = engine.published / "folder", engine.folder / "moved"
    folder.mkdir()
    give_names = DeliveryBatch.give_names

    def move(batch: DeliveryBatch) -> None:
        folder.rename(moved)
        give_names(batch)

    monkeypatch.setattr(DeliveryBatch, "give_names", move)
    assert refusal(engine, engine.process(ready(engine, path="folder"))) == "NO_SUCH_PATH"
    assert list(moved.iterdir()) == []


def test_a_root_that_the_user_lost_ends_the_job(engine: Engine) -> None:
    session_id = ready(engine)
    roots = engine.deliveries._roots
    assert isinstance(roots, dict)
    roots["out"] = replace(roots["out"], user_ids=frozenset({999}))
    assert refusal(engine, engine.process(session_id)) == "UNKNOWN_ROOT"
    roots["out"] = replace(roots["out"], user_ids=frozenset(), writable=False)
    assert refusal(engine, engine.process(session_id)) == "DIRECTORY_NOT_WRITABLE"


STOPS: dict[str, Callable[[Engine, str], object]] = {
    "interrupt": lambda engine, session_id: engine.stops.interrupt(CALLER, session_id, ()),
    "reset": lambda engine, session_id: engine.stops.reset(CALLER, session_id),
    "remove": lambda engine, session_id: engine.removals.remove(CALLER, session_id, "v", restorable=False),
}


@pytest.mark.parametrize("stop", STOPS)
def test_a_job_that_is_stopped_while_it_copies_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    gate = Gate(monkeypatch, shared_directory, "_copy")
    session_id = ready(engine)
    accepted = engine.process(session_id)
    assert gate.reached.wait(10)
    assert len(engine.job(accepted.job.job_id).deliveries) == len(names(engine)) == 1
    STOPS[stop](engine, session_id)
    gate.opened.set()
    event = engine.end_of(accepted)
    assert event.fault is not None
    assert event.fault.error_code is ErrorCode.ABORT
    until(lambda: not names(engine))
    until(lambda: engine.sweeper.sweep() or not tombstones(engine))
    assert done(engine, engine.process(ready(engine)))
    assert names(engine) == [NAME]


def test_a_job_that_is_only_to_yield_brings_its_file_first(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, shared_directory, "_copy")
    accepted = engine.process(ready(engine))
    assert gate.reached.wait(10)
    engine.close_gate(BlockReason.OVERHEAT)
    gate.opened.set()
    assert done(engine, accepted)


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (DeliveryBatch, "create", False),
        (DeliveryBatch, "create", True),
        (shared_directory, "_copy", False),
        (shared_directory, "_copy", True),
        (DeliveryBatch, "give_names", False),
        (DeliveryBatch, "give_names", True),
    ],
)
@pytest.mark.parametrize("replace_existing", [False, True])
def test_after_a_kill_the_file_is_there_once(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    after: bool,
    replace_existing: bool,
) -> None:
    if replace_existing:
        (engine.published / NAME).write_text("an older one")
    gate = Gate(monkeypatch, owner, name, after=after)
    accepted = engine.process(ready(engine, replace_existing=replace_existing))
    assert gate.reached.wait(10)
    inode = (engine.published / NAME).stat().st_ino if (engine.published / NAME).exists() else None
    engine.restart()
    artifact = done(engine, accepted)
    assert is_whole(engine, artifact)
    assert names(engine) == [NAME]
    assert len(engine.events()) == 1
    if name == "give_names" and after:
        assert (engine.published / NAME).stat().st_ino == inode, "it was there already"


@pytest.mark.parametrize("after", [False, True])
def test_a_job_that_ends_otherwise_after_a_kill_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Killed before or after the file got its name; what ends the job is asked of the next service."""
    gate = Gate(monkeypatch, DeliveryBatch, "give_names", after=after)
    session_id = ready(engine)
    accepted = engine.process(session_id)
    assert gate.reached.wait(10)
    engine.close_gate(BlockReason.MANUAL)
    engine.restart()
    assert len(names(engine)) == 1
    STOPS["interrupt"](engine, session_id)
    assert engine.end_of(accepted).kind is EventKind.ERROR
    away = engine.folder / "away"
    engine.published.rename(away)
    engine.sweeper.sweep()
    assert len(tombstones(engine)) == 1, "it is not forgotten while the root is away"
    away.rename(engine.published)
    engine.sweeper.sweep()
    assert (names(engine), tombstones(engine)) == ([], [])


def test_of_what_came_to_nothing_others_files_stay(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same name, the same bytes, but another file: as a copy that somebody made."""
    gate = Gate(monkeypatch, DeliveryBatch, "give_names", after=True)
    session_id = ready(engine)
    accepted = engine.process(session_id)
    assert gate.reached.wait(10)
    (engine.published / "copy").write_bytes((engine.published / NAME).read_bytes())
    (engine.published / "copy").rename(engine.published / NAME)
    engine.close_gate(BlockReason.MANUAL)
    engine.restart()
    STOPS["interrupt"](engine, session_id)
    assert engine.end_of(accepted).kind is EventKind.ERROR
    engine.sweeper.sweep()
    assert (names(engine), tombstones(engine)) == ([NAME], [])


def test_the_same_result_for_another_folder_is_made_and_written_there(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    (engine.published / "folder").mkdir()
    first = done(engine, engine.process(ready(engine)))
    assert done(engine, engine.process(ready(engine))).artifact_id == first.artifact_id
    second = done(engine, engine.process(ready(engine, path="folder")))
    assert second.published_path == f"folder/{NAME}"
    assert names(engine) == ["folder", NAME, NAME]


def test_two_directories_are_other_settings_while_a_job_runs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, shared_directory, "_copy")
    accepted = engine.process(ready(engine))
    assert gate.reached.wait(10)
    assert refusal(engine, engine.process(ready(engine, name_template="other.mp4"))) == "ALREADY_RUNNING"
    assert engine.process(ready(engine)).job.job_id == accepted.job.job_id
    gate.opened.set()
    assert done(engine, accepted)


def test_a_video_interrupted_for_one_folder_goes_on_for_another(
    engine: Engine, workers: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoints are the same, and the frozen driver's next job has its own targets."""
    gate = Gate(monkeypatch, DeliveryBatch, "create")
    session_id = ready(engine)
    accepted = engine.process(session_id)
    assert gate.reached.wait(10)
    STOPS["interrupt"](engine, session_id)
    gate.opened.set()
    assert engine.end_of(accepted).kind is EventKind.ERROR
    artifact = done(engine, engine.process(ready(engine, name_template="other.mp4")))
    assert artifact.published_path == "other.mp4"
    assert names(engine) == ["other.mp4"]


def test_no_temporary_name_is_what_a_template_makes(engine: Engine, tmp_path: Path) -> None:
    artifact = done(engine, engine.process(ready(engine, name_template=".videoprocess-{ext}")))
    assert artifact.published_path == "_videoprocess-mp4"
