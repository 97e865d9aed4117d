"""v1_5's three files: pictures from the first, sound and metadata from the third; the second is the first again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction

import pytest

from engine.engine_under_test import CALLER, HOUR_US, USER, Engine, outcome
from engine.made_up_media import MEDIA
from engine.scripted_executor import Gate, ScriptedExecutor
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.source_files import FileReference, SharedReference, UploadReference
from videoprocess_server.engine.videos import VideoView
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import ErrorCode, MediaStreamType
from videoprocess_server.model.media_info import MediaInfo, TrackInfo, TrackKind
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import DigestTask, EncodeTask, JoinTask, ProbeTask, VerifyTask
from videoprocess_server.rpc.convert import videos

RATE = Fraction(25)
MOVIE = replace(MEDIA, video=replace(MEDIA.video, duration=Fraction(10), average_frame_rate=RATE))
INPUT = replace(
    MOVIE,
    tracks=(
        TrackInfo(index=1, kind=TrackKind.DATA, codec="mebx", packet_count=1, duration=None, language=""),
    ),
)


def lasting(seconds: Fraction) -> MediaInfo:
    return replace(INPUT, video=replace(INPUT.video, duration=seconds))


class Files:
    """Files below the shared root, and uploads."""

    def __init__(self, engine: Engine, workers: ScriptedExecutor) -> None:
        self.engine = engine
        self.workers = workers
        self.session_id = engine.ready_session()

    def write(self, name: str, content: bytes) -> SharedReference:
        (self.engine.shared / name).write_bytes(content)
        return SharedReference(root="media", path=name)

    def upload(self, content: bytes) -> UploadReference:
        uploads = self.engine.uploads
        writer = uploads.open(CALLER, USER, "", "clip.mp4", "", len(content))
        uploads.append(writer, 0, content)
        digest = hashlib.sha256(content).hexdigest()
        return UploadReference(upload_id=uploads.finish(writer, digest).upload_id)

    def prepare(self, *files: FileReference, input_media: MediaInfo = INPUT) -> VideoView:
        self.workers.media.clear()
        self.workers.media.extend([MOVIE, input_media])
        return self.engine.videos.prepare(CALLER, self.session_id, "v", files)

    def prepare_three(self) -> VideoView:
        movie, last = self.write("movie.mp4", b"movie"), self.write("input.mp4", b"input")
        return self.prepare(movie, movie, last)


@pytest.fixture(name="files")
def _files(engine: Engine, workers: ScriptedExecutor) -> Files:
    return Files(engine, workers)


class TestPrepare:
    def test_both_files_are_looked_at_and_told(self, files: Files, workers: ScriptedExecutor) -> None:
        view = files.prepare_three()
        assert workers.count(ProbeTask) == 2
        assert (view.video.media, view.video.companion_media) == (MOVIE, INPUT)
        message = videos.video(view)
        assert [source.file_name for source in message.sources] == ["movie.mp4", "movie.mp4", "input.mp4"]
        told = [description.type for description in message.stream_descs]
        assert told == [MediaStreamType.VIDEO, MediaStreamType.METADATA, MediaStreamType.MAKER]

    def test_three_times_the_same_is_one_file(self, files: Files, workers: ScriptedExecutor) -> None:
        movie = files.write("movie.mp4", b"movie")
        assert files.prepare(movie, movie, movie).video.companion is None
        assert workers.count(ProbeTask) == 1

    def test_the_same_three_again_change_nothing(self, files: Files, workers: ScriptedExecutor) -> None:
        movie, last = files.write("movie.mp4", b"movie"), files.write("input.mp4", b"input")
        view = files.prepare(movie, movie, last)
        assert files.prepare(movie, movie, last) == view
        assert files.prepare() == view
        assert workers.count(ProbeTask) == 2

    @pytest.mark.parametrize("other", ["another input", "no input"])
    def test_another_input_is_another_source(self, engine: Engine, files: Files, other: str) -> None:
        files.prepare_three()
        assert engine.finished(files.session_id).kind is EventKind.PROCESS_DONE
        movie = SharedReference(root="media", path="movie.mp4")
        more = [movie, files.write("other.mp4", b"other")] if other == "another input" else []
        files.prepare(movie, *more)
        assert engine.state() is VideoState.PENDING
        assert not engine.videos.get(CALLER, USER, "v").artifacts

    def test_the_second_must_be_the_first(self, files: Files) -> None:
        movie, last = files.write("movie.mp4", b"movie"), files.write("input.mp4", b"input")
        with pytest.raises(VideoProcessError, match="MOVIES_DIFFER"):
            files.prepare(movie, last, last)

    def test_two_files_are_too_few(self, files: Files) -> None:
        movie = files.write("movie.mp4", b"movie")
        with pytest.raises(VideoProcessError, match="BAD_FD_COUNT"):
            files.prepare(movie, movie)

    @pytest.mark.parametrize(
        ("seconds", "differs"),
        [
            (Fraction(10) + 1 / RATE, False),
            (Fraction(10) - 1 / RATE, False),
            (Fraction(10) + 1 / RATE + Fraction(1, 1000), True),
            (Fraction(9), True),
        ],
    )
    def test_durations_may_differ_by_a_frame(self, files: Files, seconds: Fraction, *, differs: bool) -> None:
        movie, last = files.write("movie.mp4", b"movie"), files.write("input.mp4", b"input")
        if not differs:
            assert files.prepare(movie, movie, last, input_media=lasting(seconds)).video.companion
            return
        with pytest.raises(VideoProcessError, match="DURATIONS_DIFFER"):
            files.prepare(movie, movie, last, input_media=lasting(seconds))


class TestJob:
    def test_the_join_reads_the_input_and_the_segments_the_movie(
        self, engine: Engine, files: Files, workers: ScriptedExecutor
    ) -> None:
        files.prepare_three()
        assert engine.finished(files.session_id).kind is EventKind.PROCESS_DONE
        read = workers.read
        assert (read[EncodeTask], read[JoinTask], read[VerifyTask]) == (b"movie", b"input", b"input")
        joins = [task for task in workers.begun if isinstance(task, JoinTask | VerifyTask)]
        assert [task.media for task in joins] == [INPUT, INPUT]
        event = engine.events()[-1]
        assert event.report
        assert event.report.source_size_bytes == len(b"movieinput")

    def test_an_input_that_is_replaced_ends_the_job(
        self, engine: Engine, files: Files, workers: ScriptedExecutor
    ) -> None:
        files.prepare_three()
        gate = Gate()
        workers.will(JoinTask, gate)
        accepted = engine.process(files.session_id)
        gate.wait()
        files.write("other.mp4", b"other")
        (engine.shared / "other.mp4").rename(engine.shared / "input.mp4")
        gate.open()
        assert outcome(engine.end_of(accepted)) == (ErrorCode.PROCESS, "SOURCE_CHANGED")

    def test_an_input_that_is_touched_is_read_again(
        self, engine: Engine, files: Files, workers: ScriptedExecutor
    ) -> None:
        files.prepare_three()
        gate = Gate()
        workers.will(JoinTask, gate)
        accepted = engine.process(files.session_id)
        gate.wait()
        (engine.shared / "input.mp4").chmod(0o640)
        gate.open()
        assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
        assert workers.count(JoinTask) == 2
        assert workers.count(DigestTask) == 0  # nothing was made of it but the join
        assert workers.encoded == [0, 1, 2]


class TestUploads:
    def test_both_uploads_live_as_long_as_the_video(self, engine: Engine, files: Files) -> None:
        movie, last, unused = files.upload(b"movie"), files.upload(b"input"), files.upload(b"unused")
        files.prepare(movie, movie, last)
        engine.clock.advance(48 * HOUR_US / 1e6)
        engine.housekeeping.tidy()
        assert _uploads_kept(engine) == {movie.upload_id, last.upload_id}
        assert unused.upload_id not in _uploads_kept(engine)

    def test_both_go_with_the_video(self, engine: Engine, files: Files) -> None:
        movie, last = files.upload(b"movie"), files.upload(b"input")
        files.prepare(movie, movie, last)
        engine.removals.remove(CALLER, files.session_id, "v", restorable=False)
        assert engine.blobs.keys(BlobKind.UPLOAD) == []

    def test_another_video_keeps_what_it_uses(self, engine: Engine, files: Files) -> None:
        movie, last = files.upload(b"movie"), files.upload(b"input")
        files.prepare(movie, movie, last)
        engine.videos.prepare(CALLER, files.session_id, "w", [last])
        engine.removals.remove(CALLER, files.session_id, "v", restorable=False)
        assert _uploads_kept(engine) == {last.upload_id}


def _uploads_kept(engine: Engine) -> set[str]:
    """Ids of the uploads that have a row and bytes, as all that have one do."""
    with engine.repository.read() as reader:
        keys = {upload.upload_id: upload.key for upload in reader.list_all_uploads()}
    assert sorted(keys.values()) == engine.blobs.keys(BlobKind.UPLOAD)
    return set(keys)
