"""What names other files, or declares more than it is, is refused before anything is opened or allocated for it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import psutil
import pytest

import media_tasks
import videoprocess_server
from contract.executor_harness import new_pool
from hostile_files import BOMBS, HARMLESS, PACKED_PICTURES, PICTURES, REFERENCES, element, matroska
from iso_files import HandTrack, box, full, hand_made, picture_track, u32
from media_factory import make_clip
from media_tasks import encode, opened, plan_file, probe_file
from videoprocess_server.execution.executor import Slot, TaskFailedError
from videoprocess_server.execution.process_pool import ProcessPoolExecutor
from videoprocess_server.execution.sandbox import Confinement
from videoprocess_server.media.declared import Declared
from videoprocess_server.media.declared_iso import check_boxes
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.images import decode_image
from videoprocess_server.media.source import demuxer_of, open_source
from videoprocess_server.model.tasks import MediaLimits, ProbeTask, Task, WatermarkTask

#: references that are passed over: what is left is a whole video of the file's own
PASSED_OVER = {"data_reference.mov", "linked_segments.mkv"}
#: bombs that are taken: what they declare costs little
TAKEN = {
    "times_far.mp4",
    "edits_that_are_there.mp4",
    "cue_points.mkv",
    "tags.mkv",
    "deep_tags.mkv",
    "seeks.mkv",
}
#: bombs that the heads do not give away, but a demuxer or decoder does
FOUND_LATER = {
    "samples_many_enough.mp4",
    "samples_of_sound.mov",
    "descriptions.mp4",
    "deep_user_data.mp4",
    "deep_metadata.mp4",
    "compressed_movie.mov",
    "compressed_movie_untold.mov",
    "segment_index.mp4",
    "huge_picture.mp4",
    "large_picture.mp4",
    "no_end.mp4",
    "one_large_hole.mp4",
    "untold_sizes.mkv",
    "codec_private.mkv",
    "header.mkv",
}
SECONDS = 20.0
#: of the worker that probes: its own 60 MiB, and the largest index that is taken
MOST_RESIDENT_BYTES = 800 << 20


@pytest.mark.parametrize("name", HARMLESS)
def test_what_the_others_are_made_of_is_taken(tmp_path: Path, name: str) -> None:
    HARMLESS[name](tmp_path / name, tmp_path / "canary")
    assert probe_file(tmp_path / name).video.codec == "h264"


@pytest.mark.parametrize("name", REFERENCES)
def test_what_names_other_files_is_refused_or_passed_over(tmp_path: Path, name: str) -> None:
    """The canary is a whole video: had it been opened, there would be something to tell of it."""
    canary = make_clip(tmp_path / "canary.mp4", frames=3).path
    REFERENCES[name](tmp_path / name, canary)
    if name in PASSED_OVER:
        assert (probe_file(tmp_path / name).video.width, probe_file(canary).video.width) == (64, 320)
        return
    with pytest.raises(MediaFault) as caught:
        probe_file(tmp_path / name)
    assert caught.value.reason in {"NOT_A_VIDEO", "NO_VIDEO_TRACK", "NO_DECODABLE_FRAME"}
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("name", sorted(set(BOMBS) - TAKEN - FOUND_LATER))
def test_what_declares_too_much_is_over_the_limits(tmp_path: Path, name: str) -> None:
    BOMBS[name](tmp_path / name, tmp_path / "canary")
    with pytest.raises(MediaFault, match="OVER_LIMITS"):
        probe_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("plain.mp4", MediaLimits(max_packets=2)),
        ("plain.mp4", MediaLimits(max_tracks=0)),
        ("plain.mp4", MediaLimits(max_pixels=64 * 64 - 1)),
        ("plain.mp4", MediaLimits(max_index_bytes=100)),
        ("plain.mkv", MediaLimits(max_tracks=0)),
        ("plain.mkv", MediaLimits(max_pixels=64 * 48 - 1)),
        ("plain.mkv", MediaLimits(max_index_bytes=100)),
        ("plain.mkv", MediaLimits(max_metadata_bytes=3)),
    ],
)
def test_each_limit_holds_before_the_file_is_opened(tmp_path: Path, name: str, limits: MediaLimits) -> None:
    HARMLESS[name](tmp_path / name, tmp_path / "canary")
    with pytest.raises(MediaFault, match="OVER_LIMITS"):
        probe_file(tmp_path / name, limits)


def test_metadata_and_attachments_have_limits_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    path.write_bytes(matroska(element(0x1941A469, bytes(5000)), element(0x1254C367, bytes(3000))))
    assert probe_file(path).video.codec == "h264"
    for limits in (MediaLimits(max_attachment_bytes=4999), MediaLimits(max_metadata_bytes=2999)):
        with pytest.raises(MediaFault, match="OVER_LIMITS"):
            probe_file(path, limits)


def test_sound_counted_in_single_samples_is_no_index(tmp_path: Path) -> None:
    """An hour of PCM declares 173 million samples, in packets of 1,024."""
    count = 3600 * 48_000
    sound = HandTrack(
        track_id=2,
        handler="soun",
        tables={
            "stsz": full("stsz", u32(4, count)),
            "stts": full("stts", u32(1, count, 1)),
        },
    )
    path = hand_made(tmp_path / "clip.mov", picture_track(), sound)
    declared = Declared(MediaLimits())
    with opened(path) as fd:
        check_boxes(fd, path.stat().st_size, declared)
    assert declared.packets == 3 + -(-count // 1024)


def test_boxes_of_a_cameras_own_are_none_of_the_limits(tmp_path: Path) -> None:
    """FFmpeg passes over them, and many fragments are no index either."""
    path = make_clip(tmp_path / "clip.mp4", frames=3).path
    fragment = box("moof", full("mfhd", u32(1)), *[box("traf", full("tfhd", u32(1)))] * 3)
    with path.open("ab") as file:
        file.write(box("inst", bytes(3000)) + box("uuid", bytes(3000)) + fragment * 20_000)
    limits = MediaLimits(max_index_bytes=2000, max_metadata_bytes=1000)
    with opened(path) as fd:
        check_boxes(fd, path.stat().st_size, Declared(limits))


def test_one_demuxer_is_asked_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", frames=3).path.rename(tmp_path / "clip.mp4")
    with opened(path) as fd:
        assert demuxer_of(fd) == "matroska"
        with open_source(fd) as container:
            assert container.format.name == "matroska"


def test_a_frame_that_is_shown_for_weeks_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not as a worker that crashed, where the heads do not give it away: trying again would not help."""
    any_duration = MediaLimits(max_duration_seconds=1 << 40)
    monkeypatch.setattr(media_tasks, "probe_file", lambda path: probe_file(path, any_duration))
    path = make_clip(
        tmp_path / "clip.mkv", pts=[0, 40, 80, 1 << 32], time_base=Fraction(1, 1000), b_frames=0
    ).path
    plan = plan_file(path)
    with pytest.raises(MediaFault, match="ENCODE_FAILED"):
        encode(path, plan, plan.segments, tmp_path / "segments")


def test_no_filter_that_opens_a_file_is_built() -> None:
    """They are read from strings, so a new one is seen in the source."""
    of_files = "a?movie|lut[13]d|haldclut|subtitles|ass|drawtext|psnr|ssim|a?sendcmd|dnn_\\w+|model|fontfile|stats_file"
    folder = Path(videoprocess_server.__file__).parent
    texts = {
        path.name: path.read_text() for part in ("media", "enhance") for path in (folder / part).rglob("*.py")
    }
    assert [name for name, text in texts.items() if re.search(rf"[\"',:]({of_files})=", text)] == []


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_absurd_sizes_are_refused(name: str) -> None:
    with pytest.raises(MediaFault, match="BAD_WATERMARK"):
        decode_image(PICTURES[name]())


@pytest.fixture(name="pool", scope="module")
def _pool() -> Iterator[ProcessPoolExecutor]:
    """A worker, whose memory is seen from outside."""
    confinement = Confinement(memory_bytes=2 << 30, cpu_seconds=60)
    module = "videoprocess_server.execution.worker_main"
    with new_pool(1, worker_module=module, probe_confinement=confinement) as pool:
        yield pool


@pytest.mark.slow
def test_bombs_take_little_time_and_memory(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    for name, make in {**REFERENCES, **BOMBS}.items():
        make(tmp_path / name, tmp_path / "canary")
        began = time.monotonic()
        answer = _answer(pool, ProbeTask(limits=MediaLimits()), os.open(tmp_path / name, os.O_RDONLY))
        assert time.monotonic() - began < SECONDS, name
        assert (answer == "taken") == (name in TAKEN | PASSED_OVER), name
        (tmp_path / name).unlink()
    assert _resident_bytes(pool) < MOST_RESIDENT_BYTES


@pytest.mark.slow
def test_packed_pictures_take_little_time_and_memory(pool: ProcessPoolExecutor) -> None:
    for name, make in PACKED_PICTURES.items():
        image, began = make(), time.monotonic()
        assert _answer(pool, WatermarkTask(image=image), None) in {"taken", "BAD_WATERMARK"}
        assert time.monotonic() - began < SECONDS, name
    assert _resident_bytes(pool) < MOST_RESIDENT_BYTES


def _answer(pool: ProcessPoolExecutor, task: Task, fd: int | None) -> str:
    try:
        pool.submit(task, source_fd=fd, slot=Slot.PROBE, stall_seconds=SECONDS).result()
    except TaskFailedError as error:
        return error.reason
    return "taken"


def _resident_bytes(pool: ProcessPoolExecutor) -> int:
    """The most that a worker has ever held."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pool.worker_pids()]
    assert all(psutil.pid_exists(pid) for pid in pool.worker_pids())
    return max(int(text.split("VmHWM:")[1].split()[0]) for text in texts) << 10
