"""Any set of streams becomes files of one job: all named and told of at once, or none."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.engine_under_test import CALLER, USER, Engine, outcome, running_engine
from engine.made_up_media import MEASURES, MEDIA, plan_of
from engine.scripted_executor import PATIENCE_SECONDS, Gate, ScriptedExecutor, crash, fail
from videoprocess_server.blobs.blob_store import BlobKind, BlobStoreFullError
from videoprocess_server.engine import scheduler
from videoprocess_server.engine.outcome import Outcome
from videoprocess_server.model.hdi import ErrorCode, StreamIntent
from videoprocess_server.model.records import Artifact, ArtifactKind, Event, EventKind
from videoprocess_server.model.settings_snapshot import StreamInfo
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import (
    EncodeTask,
    JoinTask,
    MakerTask,
    PlanTask,
    StillsTask,
    StripTask,
    VerifyTask,
)
from videoprocess_server.store.repository import Reader, Repository, StoreUnavailableError, Transaction

VIDEO = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO)
PREVIEW = StreamInfo(stream_id=2, intent=StreamIntent.PREVIEW)
COVER = StreamInfo(stream_id=3, intent=StreamIntent.STILL_CAPTURE)
THUMBNAILS = StreamInfo(stream_id=4, intent=StreamIntent.POST_VIEW)
REPORT = StreamInfo(stream_id=5, intent=StreamIntent.ANALYZE)
MAKER = StreamInfo(stream_id=6, intent=StreamIntent.CUSTOM)
SECOND_VIDEO = StreamInfo(stream_id=7, intent=StreamIntent.VIDEO)
ALL = (VIDEO, PREVIEW, COVER, THUMBNAILS, REPORT, MAKER)


def done(engine: Engine, *streams: StreamInfo, video_id: str = "v") -> Event:
    session_id = engine.ready_session(streams=streams)
    engine.prepare(session_id, video_id)
    event = engine.finished(session_id, video_id)
    assert event.kind is EventKind.PROCESS_DONE, event.fault
    return event


def names(artifacts: Sequence[Artifact]) -> list[tuple[int, str]]:
    return [(artifact.stream_id, artifact.file_name) for artifact in artifacts]


def content(engine: Engine, artifact: Artifact) -> bytes:
    found, fd = engine.results.open(CALLER, USER, artifact.artifact_id, 0)
    assert found == artifact
    with os.fdopen(fd, "rb") as file:
        return file.read()


def analysis(engine: Engine, event: Event) -> dict[str, Any]:
    (report,) = (artifact for artifact in event.artifacts if artifact.kind is ArtifactKind.REPORT)
    told = json.loads(content(engine, report))
    assert isinstance(told, dict)
    return told


class TestFiles:
    def test_every_stream_has_its_files(self, engine: Engine) -> None:
        event = done(engine, *ALL)
        assert names(event.artifacts) == [
            (1, "v_enhanced.mp4"),
            (2, "v_preview.mp4"),
            (3, "v_cover.jpg"),
            (4, "v_thumbnail_01.jpg"),
            (4, "v_thumbnail_02.jpg"),
            (5, "v_comparison.jpg"),
            (5, "v_report.json"),
        ]
        assert [artifact.media_time_us for artifact in event.artifacts] == [
            None,
            None,
            1_500_000,
            500_000,
            1_500_000,
            None,
            None,
        ]
        for artifact in event.artifacts:
            data = content(engine, artifact)
            assert (artifact.size_bytes, artifact.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        view = engine.videos.get(CALLER, USER, "v")
        assert list(view.artifacts) == list(event.artifacts)
        assert engine.blobs.keys(BlobKind.WORK) == []

    def test_the_maker_track_is_in_the_video(self, engine: Engine, workers: ScriptedExecutor) -> None:
        done(engine, *ALL)
        joins = [task for task in workers.begun if isinstance(task, JoinTask)]
        assert [(task.rendition_index, task.maker) for task in joins] == [(0, True), (1, False)]
        assert workers.count(MakerTask) == 0

    @pytest.mark.parametrize("streams", [(MAKER,), (PREVIEW, MAKER), (COVER, MAKER)])
    def test_without_a_video_it_is_a_file(self, engine: Engine, streams: tuple[StreamInfo, ...]) -> None:
        (made,) = (file for file in done(engine, *streams).artifacts if file.stream_id == MAKER.stream_id)
        assert (made.kind, made.file_name, made.media_type) == (
            ArtifactKind.METADATA,
            "v_maker.mp4",
            "application/mp4",
        )

    def test_streams_of_one_intent_are_told_apart(self, engine: Engine) -> None:
        event = done(engine, VIDEO, SECOND_VIDEO)
        assert names(event.artifacts) == [(1, "v_enhanced_1.mp4"), (7, "v_enhanced_7.mp4")]
        assert event.report
        assert [encoding.stream_id for encoding in event.report.encodings] == [1, 7]

    @pytest.mark.parametrize("stream", [REPORT, MAKER])
    def test_what_only_tells_of_frames_encodes_none(
        self, engine: Engine, workers: ScriptedExecutor, stream: StreamInfo
    ) -> None:
        event = done(engine, stream)
        assert workers.count(EncodeTask) == workers.count(JoinTask) == 0
        assert len(event.artifacts) == 1
        assert event.report
        assert (event.report.frame_count, event.report.noise_after) == (0, None)
        assert engine.state() is VideoState.COMPLETED

    def test_a_result_with_other_streams_is_made_anew(self, engine: Engine) -> None:
        first = done(engine, VIDEO)
        both = done(engine, VIDEO, COVER)
        assert len(both.artifacts) == 2
        again = done(engine, VIDEO, COVER)
        assert again.artifacts == both.artifacts != first.artifacts

    def test_an_encoder_that_a_stream_cannot_have_here_is_a_slip(
        self, engine: Engine, workers: ScriptedExecutor
    ) -> None:
        workers.will(PlanTask, fail("STREAM_NOT_SUPPORTED"))
        session_id = engine.ready_session(streams=[COVER])
        engine.prepare(session_id, "v")
        assert outcome(engine.finished(session_id)) == (ErrorCode.PROCESS, "STREAM_NOT_SUPPORTED")
        assert engine.state() is VideoState.PENDING


class Lying:
    """A store that says once that a completed job could not be kept, though it was."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner
        self._has_lied = False

    def read(self) -> AbstractContextManager[Reader]:
        return self._inner.read()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._inner.transaction() as tx:
            yield tx
            is_end = bool(tx.list_all_artifact_ids())
        if is_end and not self._has_lied:
            self._has_lied = True
            raise StoreUnavailableError("it was durable, and then the store went away")


class TestPublishing:
    def test_files_that_rows_name_stay_though_their_commit_seemed_to_fail(self, engine: Engine) -> None:
        durable = engine.scheduler._durable
        durable._repository = Lying(durable._repository)  # type: ignore[assignment]
        event = done(engine, *ALL)
        engine.idle()
        assert len(event.artifacts) == 7
        for artifact in event.artifacts:
            assert len(content(engine, artifact)) == artifact.size_bytes
        assert len(engine.events()) == 1


class TestReport:
    def test_it_tells_what_was_made(self, engine: Engine) -> None:
        event = done(engine, *ALL)
        told = analysis(engine, event)
        assert told["schema"] == "videoprocess.analysis/2"
        assert [(file["stream_id"], file["kind"]) for file in told["files"]] == [
            (1, "video"),
            (2, "preview"),
            (3, "still"),
            (4, "thumbnail"),
            (4, "thumbnail"),
            (5, "comparison"),
        ]
        assert [file["sha256"] for file in told["files"]] == [file.sha256 for file in event.artifacts[:-1]]
        assert [encoding["stream_id"] for encoding in told["encodings"]] == [1, 2, 3, 4]
        assert told["noise"]["before"] == {"sigma_y": 2.0, "sigma_u": 1.0, "sigma_v": 1.0}
        assert told["frames"] == {
            "source": 30,
            "decoded": 30,
            "made": 30,
            "dropped": 0,
            "interpolated": 0,
            "enhanced": 30,
        }

    def test_it_tells_the_quality_of_the_whole_and_of_each_segment(self, engine: Engine) -> None:
        event = done(engine, VIDEO, REPORT)
        told = analysis(engine, event)["quality"]
        assert (told["stream_id"], told["sampled_frames"]) == (1, 12)
        assert (told["before"]["sigma_y"], told["after"]["sigma_y"]) == (2.0, 0.5)
        assert told["seams"]["elsewhere"]["xpsnr_db"] - told["seams"]["at_seams"]["xpsnr_db"] == 1.0
        assert [(part["start_us"], part["bitrate_bps"]) for part in told["segments"]] == [
            (0, 1_000_000),
            (1_000_000, 1_000_000),
            (2_000_000, 1_000_000),
        ]
        assert event.report
        assert event.report.quality
        assert event.report.quality.segments[2].measures.after == MEASURES.after

    def test_without_a_video_there_is_no_quality(self, engine: Engine) -> None:
        event = done(engine, COVER, REPORT)
        assert analysis(engine, event)["quality"] is None
        assert event.report
        assert event.report.quality is None

    def test_a_strip_is_made_of_the_segments_files(self, engine: Engine, workers: ScriptedExecutor) -> None:
        event = done(engine, COVER, REPORT)
        (task,) = (task for task in workers.begun if isinstance(task, StripTask))
        assert len(task.segment_paths) == len(task.plan.segments)
        (strip,) = (file for file in event.artifacts if file.kind is ArtifactKind.COMPARISON)
        assert (strip.stream_id, strip.file_name, strip.media_type) == (5, "v_comparison.jpg", "image/jpeg")

    def test_rates_of_segments_are_told_with_the_least_and_the_most(self) -> None:
        plan = plan_of(2, streams=[VIDEO, SECOND_VIDEO])
        rates = ({1: {"b": "900", "bufsize": "5"}}, {1: {"b": "1000", "bufsize": "5"}})
        segments = [
            replace(part, encoder_options=own) for part, own in zip(plan.segments, rates, strict=True)
        ]
        made = Outcome(
            plan=replace(plan, segments=tuple(segments)), media=MEDIA, products=(), joins={}, verifications={}
        )
        common = plan.renditions[0].encoder.options
        assert [encoding.options for encoding in made.encodings] == [
            common | {"b": "900..1000", "bufsize": "5"},
            common,
        ]

    def test_its_bytes_are_the_same_however_often_it_is_made(self, folder: Path) -> None:
        """In other runs, at another time, after crashes: nothing of those is in it."""
        digests = []
        for run, acts in enumerate(([], [crash(-11)])):
            (folder / str(run)).mkdir()
            workers = ScriptedExecutor()
            workers.will(0, *acts)
            workers.will(JoinTask, *acts)
            with running_engine(folder / str(run), workers) as engine:
                engine.clock.advance(1000.0 * run)
                digests.append([file.sha256 for file in done(engine, *ALL).artifacts])
        assert digests[0] == digests[1]

    def test_what_was_carried_over_is_told_of_pictures_too(self, engine: Engine) -> None:
        session_id = engine.ready_session(streams=[THUMBNAILS, REPORT])
        engine.prepare(session_id, "v")
        event = engine.end_of(engine.process(session_id, timestamp_us=1_000_000))
        assert event.report
        assert (event.report.frame_count, event.report.enhanced_frame_count) == (2, 1)
        assert [(part.start_us, part.end_us) for part in event.report.carried_over] == [(0, 1_000_000)]
        assert analysis(engine, event)["carried_over_ranges"] == [{"start_us": 0, "end_us": 1_000_000}]


class TestOneTransaction:
    def test_a_kill_between_the_files_leaves_none_of_them(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed when the second of seven has its name: the next start sweeps the first two, and makes all seven."""
        published: list[str] = []
        publish, killed = engine.blobs.publish, threading.Event()

        def publish_two(work_key: str, kind: BlobKind, key: str, *more: Any) -> None:
            publish(work_key, kind, key, *more)
            published.append(key)
            if len(published) == 2:
                engine.kill()
                killed.set()
                engine.blobs.delete(BlobKind.WORK, "x")  # this thread is not asked any more

        monkeypatch.setattr(engine.blobs, "publish", publish_two)
        session_id = engine.ready_session(streams=ALL)
        engine.prepare(session_id, "v")
        accepted = engine.process(session_id)
        assert killed.wait(PATIENCE_SECONDS)  # all of it: what came after would end the next life
        assert engine.events() == []
        assert sorted(engine.blobs.keys(BlobKind.RESULT)) == sorted(published)
        engine.start_again()
        event = engine.end_of(accepted)
        assert event.kind is EventKind.PROCESS_DONE
        ids = sorted(artifact.artifact_id for artifact in event.artifacts)
        assert sorted(engine.blobs.keys(BlobKind.RESULT)) == ids
        assert len(ids) == 7
        assert not set(ids) & set(published)

    def test_a_full_disk_at_the_last_file_leaves_none_of_them(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.05)
        publish, count, left_over = engine.blobs.publish, 0, list[str]()

        def publish_but_the_last(work_key: str, kind: BlobKind, key: str, *more: Any) -> None:
            nonlocal count
            count += 1
            if count == 7:
                raise BlobStoreFullError("no space left")
            if count == 8:
                left_over.extend(engine.blobs.keys(BlobKind.RESULT))
            publish(work_key, kind, key, *more)

        monkeypatch.setattr(engine.blobs, "publish", publish_but_the_last)
        event = done(engine, *ALL)  # after a while there is space again
        assert sorted(engine.blobs.keys(BlobKind.RESULT)) == sorted(
            file.artifact_id for file in event.artifacts
        )
        assert (count, left_over) == (14, [])

    def test_an_interrupt_between_joins_goes_on_with_the_second(
        self, engine: Engine, workers: ScriptedExecutor
    ) -> None:
        gate = Gate()
        workers.will(JoinTask, lambda _: None, gate)
        session_id = engine.ready_session(streams=ALL)
        engine.prepare(session_id, "v")
        accepted = engine.process(session_id)
        gate.wait()
        engine.stops.interrupt(CALLER, session_id, ())
        assert outcome(engine.end_of(accepted)) == (ErrorCode.ABORT, "INTERRUPTED")
        gate.open()
        event = engine.finished(session_id)
        assert len(event.artifacts) == 7
        assert workers.count(JoinTask) == workers.count(VerifyTask) == 2
        assert workers.count(StillsTask) == 2

    @pytest.mark.parametrize("task", [JoinTask, StillsTask, VerifyTask, StripTask])
    def test_a_file_that_cannot_be_made_ends_the_job_with_no_files(
        self, engine: Engine, workers: ScriptedExecutor, task: type[JoinTask]
    ) -> None:
        workers.will(task, fail("JOIN_FAILED"))
        session_id = engine.ready_session(streams=ALL)
        engine.prepare(session_id, "v")
        assert outcome(engine.finished(session_id)) == (ErrorCode.PROCESS, "JOIN_FAILED")
        assert engine.blobs.keys(BlobKind.RESULT) == engine.blobs.keys(BlobKind.WORK) == []
