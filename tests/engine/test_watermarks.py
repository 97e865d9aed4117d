"""A watermark's picture is read when the settings are committed, looked at by a worker, and kept with them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from engine.engine_under_test import CALLER, USER, Engine
from engine.scripted_executor import Act, Gate, ScriptedExecutor, crash, fail
from videoprocess_server.engine.source_files import FileReference, SharedReference, UploadReference
from videoprocess_server.engine.watermarks import MAX_IMAGE_BYTES
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.settings_snapshot import ModeSetting, Watermark
from videoprocess_server.model.tasks import PlanTask, WatermarkTask

PLACE = Watermark(image=b"", scale_factor=1.0, rotation_degrees=0, x=1, y=2, width=3, height=4)
IMAGE = b"\x89PNG a picture \x00\xff"


def shared(engine: Engine, content: bytes, name: str = "logo.png") -> SharedReference:
    (engine.shared / name).write_bytes(content)
    return SharedReference(root="media", path=name)


def uploaded(engine: Engine, content: bytes) -> UploadReference:
    writer = engine.uploads.open(CALLER, USER, "", "logo.png", "", len(content))
    engine.uploads.append(writer, 0, content)
    digest = hashlib.sha256(content).hexdigest()
    return UploadReference(upload_id=engine.uploads.finish(writer, digest).upload_id)


def read(engine: Engine, session_id: str, file: FileReference) -> ModeSetting:
    return engine.watermarks.read(CALLER, session_id, ModeSetting(watermark=PLACE), file)


@pytest.mark.parametrize("give", [shared, uploaded])
def test_the_job_has_the_picture_as_it_was_committed(
    engine: Engine, workers: ScriptedExecutor, give: type[FileReference]
) -> None:
    """Through the store, which keeps bytes in JSON, and after the file has changed."""
    session_id = engine.ready()
    setting = read(engine, session_id, give(engine, IMAGE))  # type: ignore[call-arg, arg-type]
    assert setting.watermark == replace(PLACE, image=IMAGE)
    engine.commit(session_id, setting)
    shared(engine, b"another picture")
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE
    (task,) = (task for task in workers.begun if isinstance(task, PlanTask))
    assert task.snapshot.mode_setting.watermark == replace(PLACE, image=IMAGE)


@pytest.mark.parametrize("acts", [[], [fail("DECODE_FAILED")]])
def test_jobs_that_have_ended_keep_the_place_but_not_the_picture(
    engine: Engine, workers: ScriptedExecutor, acts: list[Act]
) -> None:
    """There may be many, and a list of videos would read the pictures of all."""
    workers.will(PlanTask, *acts)
    session_id = engine.ready()
    engine.commit(session_id, read(engine, session_id, shared(engine, IMAGE)))
    snapshot = engine.job(engine.finished(session_id).job_id).snapshot
    assert snapshot
    assert snapshot.mode_setting.watermark == PLACE


def test_no_view_of_a_video_holds_the_picture(engine: Engine, workers: ScriptedExecutor) -> None:
    gate = Gate()
    workers.will(PlanTask, gate)
    session_id = engine.ready()
    engine.commit(session_id, read(engine, session_id, shared(engine, IMAGE)))
    accepted = engine.process(session_id)
    gate.wait()
    view = engine.videos.get(CALLER, USER, "v")
    gate.open()
    assert view.job
    assert view.job.job_id == accepted.job.job_id
    assert view.job.snapshot is None
    engine.end_of(accepted)


def test_another_picture_is_another_setting(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    for content in (IMAGE, IMAGE, b"another"):
        engine.commit(session_id, read(engine, session_id, shared(engine, content)))
        assert engine.finished(session_id).kind is EventKind.PROCESS_DONE
    assert workers.count(PlanTask) == 2


@pytest.mark.parametrize("content", [b"x" * (MAX_IMAGE_BYTES + 1)])
def test_a_picture_that_is_too_large_is_not_even_read(
    engine: Engine, workers: ScriptedExecutor, content: bytes
) -> None:
    session_id = engine.ready()
    with pytest.raises(VideoProcessError, match="BAD_WATERMARK"):
        read(engine, session_id, shared(engine, content))
    assert workers.count(WatermarkTask) == 0


def test_the_largest_picture_is_taken(engine: Engine) -> None:
    session_id = engine.ready()
    setting = read(engine, session_id, shared(engine, b"x" * MAX_IMAGE_BYTES))
    engine.commit(session_id, setting)
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE


def test_what_does_not_decode_is_refused(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    workers.will(WatermarkTask, fail("BAD_WATERMARK"), crash(-11))
    with pytest.raises(VideoProcessError, match="BAD_WATERMARK") as caught:
        read(engine, session_id, shared(engine, b"text"))
    assert list(caught.value.violations) == ["typed.watermark.image"]
    with pytest.raises(VideoProcessError, match="PROBE_FAILED"):
        read(engine, session_id, shared(engine, b"text"))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (UploadReference(upload_id="0" * 32), "UNKNOWN_UPLOAD"),
        (SharedReference(root="media", path="none.png"), "NO_SUCH_PATH"),
        (SharedReference(root="media", path="../logo.png"), "PATH_OUTSIDE_ROOT"),
        (SharedReference(root="other", path="logo.png"), "UNKNOWN_ROOT"),
    ],
)
def test_a_file_that_is_not_there_is_refused_as_prepare_does(
    engine: Engine, file: FileReference, reason: str
) -> None:
    session_id = engine.ready()
    with pytest.raises(VideoProcessError, match=reason):
        read(engine, session_id, file)
