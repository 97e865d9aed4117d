"""The commands that prepare, process, stop and clear away, against the fake service."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from fake_service import FakeService, Refusal, State, cut, session_closed
from google.protobuf.timestamp_pb2 import Timestamp

from client_command import Command
from videoprocess.v1 import job_pb2, video_pb2
from videoprocess.v1 import video_process_callback_pb2 as callback
from videoprocess.v1.job_pb2 import Priority
from videoprocess_client.cli.app import run

DATA = bytes(range(256)) * 12_000


def nothing(state: State, job_id: str) -> None:
    """Work that never ends by itself."""


async def prepared(command: Command, video_id: str = "v") -> None:
    done = await command("prepare", video_id, "in.mp4")
    assert done.code == 0, done.err


async def test_upload_prepare_process_fetch(command: Command, state: State) -> None:
    (command.directory / "in.mp4").write_bytes(DATA)
    upload = (await command("upload", "in.mp4", "--json")).json
    assert (upload["size_bytes"], upload["sent_bytes"]) == (len(DATA), len(DATA))
    prepare = await command("prepare", "v", "--upload", upload["upload_id"], "--json")
    assert prepare.json["video"]["state"] == "VIDEO_STATE_PENDING"
    assert prepare.json["stream_descs"][0]["type"] == "MEDIA_STREAM_TYPE_VIDEO"
    done = await command("process", "v")
    assert (done.code, "300 in, 300 out" in done.out) == (0, True), done.err
    assert "videoprocess fetch v -o OUT" in done.out
    fetched = await command("fetch", "v", "-o", "out.mp4")
    assert (fetched.code, (command.directory / "out.mp4").read_bytes()) == (0, DATA[::-1])
    assert state.calls.count("CreateVideoProcessSession") == 1
    assert "CloseVideoProcessSession" not in state.calls


@pytest.mark.slow
async def test_streams_and_a_watermark_stay_with_the_session_and_all_files_are_fetched(
    command: Command, state: State
) -> None:
    state.further = {"a_cover.jpg": b"cover"}
    (command.directory / "logo.png").write_bytes(b"a picture")
    await prepared(command)
    asked = [
        "--stream",
        "video:h265",
        "--stream",
        "still-capture",
        "--watermark",
        "logo.png",
        "--watermark-at",
        "-4,8",
    ]
    done = await command("process", "v", *asked, "--json")
    assert done.code == 0, done.err
    assert [file["file_name"] for file in done.json["artifacts"]] == ["a_enhanced.mp4", "a_cover.jpg"]
    assert [(info.stream_id, info.intent, info.encode_type) for info in state.streams] == [
        (0, 1, 2),
        (1, 2, 0),
    ]
    placed = state.settings[0].typed.watermark
    assert (placed.x, placed.y, bytes(state.uploads[placed.image.upload_id])) == (-4, 8, b"a picture")
    again = await command("process", "v")
    assert "--watermark ... --stream video:h265 --stream still-capture" in again.err
    (command.directory / "into").mkdir()
    fetched = await command("fetch", "v", "-o", "into", "--json")
    assert [file["path"] for file in fetched.json["files"]] == ["into/a_enhanced.mp4", "into/a_cover.jpg"]
    beside = await command("fetch", "v", "-o", "out.mp4")
    assert beside.out.splitlines() == ["out.mp4: 3 B", "out_cover.jpg: 5 B"]


@pytest.mark.slow
async def test_an_upload_goes_on_over_a_restart_and_in_another_terminal(
    command: Command, fake: FakeService, state: State
) -> None:
    (command.directory / "in.mp4").write_bytes(DATA)
    state.fail_next(f"Upload at {1 << 20}", cut(), cut())
    first = await command("upload", "in.mp4", "--json")
    assert (first.code, state.received_bytes) == (0, len(DATA)), first.err
    held = asyncio.Event()
    state.hold_upload_at = {1 << 20: held}
    process = await command.start("upload", "in.mp4", "--video-id", "a b")
    await state.until_called("Upload held")
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    (line,) = [line for line in err.decode().splitlines() if "--upload-id" in line]
    upload_id = line.split("--upload-id ")[1].split()[0]
    assert line.endswith("--video-id 'a b' sends the rest.")
    held.set()
    again = await command("upload", "in.mp4", "--upload-id", upload_id, "--json")
    assert (again.code, again.json["upload_id"]) == (0, upload_id), again.err
    assert again.json["sent_bytes"] == len(DATA) - (1 << 20)


@pytest.mark.slow
async def test_prepare_takes_a_file_a_shared_path_or_what_the_id_has(command: Command, state: State) -> None:
    runs = [
        await command("prepare", "v", "in.mp4"),
        await command("prepare", "w", "--shared", "media/trip/a.mp4"),
        await command("prepare", "x", "--shared", "media:trip/a.mp4"),
        await command("prepare", "v"),
        await command("prepare", "v", "in.mp4", "--upload", "u"),
    ]
    assert [run.code for run in runs] == [0, 0, 0, 0, 2]
    assert [(path.root, path.path) for path in state.shared_paths] == [("media", "trip/a.mp4")] * 2
    assert list(state.uploads.values()) == [b"abc"]


async def test_interrupt_stops_what_another_terminal_processes(command: Command, state: State) -> None:
    state.work = nothing
    await prepared(command)
    process = await command.start("process", "v", "--zoom", "2", "--json")
    await state.until_called("Subscribe")
    stopped = await command("interrupt", "--json")
    assert stopped.json == {"job_ids": ["job-1"], "still_active": []}
    out, err = await process.communicate()
    error = json.loads(out)["error"]
    assert (process.returncode, error["reason"], error["error_code"]) == (6, "INTERRUPTED", "ABORT")
    assert b"What is done is kept: videoprocess process v goes on." in err
    idle = await command("interrupt")
    assert (idle.code, idle.out) == (0, "nothing to interrupt\n")
    state.work = None
    again = await command("process", "v")
    assert (again.code, "--zoom 2" in again.err) == (0, True)
    assert [setting.typed.zoom_ratio for setting in state.settings] == [2.0]


@pytest.mark.slow
async def test_interrupt_stops_an_enhance_too_which_then_removes_what_it_brought(
    command: Command, state: State, left: Callable[[], list[str]], state_home: Path
) -> None:
    state.work = nothing
    process = await command.start("enhance", "in.mp4", "-o", "out.mp4", "--video-id", "v")
    await state.until_called("Subscribe")
    assert (await command("interrupt")).out.startswith("1 job told to stop")
    _, err = await process.communicate()
    assert (process.returncode, b"with --video-id v goes on" in err) == (6, True)
    assert (list(state.videos), left()) == (["v"], ["in.mp4"])
    state.work = None
    again = await command("enhance", "in.mp4", "-o", "out.mp4", "--video-id", "v", "--json")
    assert (again.code, again.json["kept_on_server"], state.videos) == (0, False, {})
    remembered = json.loads((state_home / "videoprocess" / "sessions.json").read_bytes())
    assert [entry["enhancing"] for entry in remembered.values()] == [{}]


@pytest.mark.slow
async def test_enhance_keeps_what_the_user_prepared_or_processed_himself(
    command: Command, state: State
) -> None:
    await prepared(command)
    kept = await command("enhance", "in.mp4", "-o", "a.mp4", "--video-id", "v")
    assert "kept as v, until videoprocess remove v" in kept.out
    state.work = nothing
    process = await command.start("enhance", "in.mp4", "-o", "b.mp4", "--video-id", "w")
    await state.until_called("Subscribe", times=2)
    process.send_signal(signal.SIGINT)
    await process.communicate()
    state.work = None
    assert (await command("process", "w")).code == 0
    assert (await command("enhance", "in.mp4", "-o", "b.mp4", "--video-id", "w")).code == 0
    assert sorted(state.videos) == ["v", "w"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_stops_the_waiting_and_not_the_work(command: Command, state: State, number: int) -> None:
    state.work = nothing
    await prepared(command)
    process = await command.start("process", "v", "--json")
    await state.until_called("Subscribe")
    process.send_signal(number)
    out, err = await process.communicate()
    error = json.loads(out)["error"]
    assert (process.returncode, error["reason"]) == (130, "DETACHED")
    assert "goes on on the server" in error["message"]
    assert "videoprocess interrupt v" in error["message"]
    assert (b"Traceback" in err, "Interrupt" in state.calls, list(state.active)) == (False, False, ["job-1"])


@pytest.mark.slow
async def test_process_without_waiting(command: Command, state: State) -> None:
    state.work = nothing
    await prepared(command)
    done = await command("process", "v", "--no-wait", "--high", "--timestamp-us", "1500000", "--json")
    assert (done.code, done.json["job_id"], done.json["job"]["state"]) == (0, "job-1", "JOB_STATE_QUEUED")
    assert (state.processed[0].timestamp_us, state.processed[0].priority) == (
        1_500_000,
        Priority.PRIORITY_HIGH,
    )
    assert "Subscribe" not in state.calls
    unknown = await command("process", "none", "--no-wait", "--json")
    assert (unknown.code, unknown.json["error"]["reason"]) == (5, "UNKNOWN_VIDEO_ID")
    assert "videoprocess status" in unknown.json["error"]["hint"]
    waiting = await command("process", "none", "--from", "1.5")
    assert (waiting.code, state.processed[-1].timestamp_us) == (5, 1_500_000)
    assert "See which videos there are: videoprocess status" in waiting.err


@pytest.mark.slow
async def test_a_session_that_the_server_forgot_is_replaced_with_its_settings(
    command: Command, state: State
) -> None:
    await prepared(command)
    assert (await command("process", "v", "--codec", "h265", "--size", "64x32", "--max-fps", "30")).code == 0
    state.close_sessions()
    assert (await command("interrupt")).code == 0
    assert (await command("process", "v")).code == 0
    state.close_sessions()
    state.fail_next("ProcessVideo", session_closed())
    assert (await command("process", "v")).code == 0
    assert [(info.encode_type, info.width, info.height) for info in state.streams] == [(2, 64, 32)] * 3
    assert {setting.typed.frame_rate_range.max_fps for setting in state.settings} == {30}
    assert (await command("process", "v", "--defaults")).code == 0
    assert (state.streams[-1].encode_type, state.settings[-1].WhichOneof("mode_setting")) == (0, None)


@pytest.mark.slow
async def test_a_session_that_somebody_else_reset_gets_its_settings_again(
    command: Command, state: State
) -> None:
    await prepared(command)
    assert (await command("process", "v", "--zoom", "3")).code == 0
    state.committed.clear()
    assert (await command("process", "v")).code == 0
    assert [setting.typed.zoom_ratio for setting in state.settings] == [3.0, 3.0]


@pytest.mark.slow
async def test_refused_settings_are_not_remembered(command: Command, state: State) -> None:
    await prepared(command)
    state.fail_next("CommitStreams", Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SETTING"))
    assert (await command("process", "v", "--zoom", "99")).code == 4
    assert (await command("process", "v")).code == 0
    assert state.settings[-1].WhichOneof("mode_setting") is None


@pytest.mark.slow
async def test_a_session_can_be_given(command: Command, state: State, state_home: Path) -> None:
    state.sessions["mine"] = set()
    await prepared(command)
    shutil.rmtree(state_home / "videoprocess")
    state.work = nothing
    assert (await command("process", "v", "--no-wait", "--session", "mine")).code == 0
    assert [request.session_id for request in state.processed] == ["mine", "mine"]
    assert (await command("interrupt", "--session", "mine", "--json")).json["job_ids"] == ["job-2"]
    assert (await command("pending", "--session", "mine")).out == "v\n"
    assert (await command("remove", "v", "--session", "mine")).code == 0
    for arguments in (
        ["process", "v"],
        ["prepare", "v", "in.mp4"],
        ["interrupt"],
        ["remove", "v"],
        ["pending"],
    ):
        closed = await command(*arguments, "--session", "none", "--json")
        assert (closed.code, closed.json["error"]["reason"]) == (4, "SESSION_CLOSED")
        assert "Leave --session out" in closed.json["error"]["hint"]
    assert state.calls.count("CreateVideoProcessSession") == 1


@pytest.mark.slow
async def test_work_of_other_sessions_is_named_when_there_is_nothing_to_interrupt(
    command: Command, state: State
) -> None:
    state.videos["far away"] = video_pb2.Video(video_id="far away", state=video_pb2.VIDEO_STATE_RUNNING)
    done = await command("interrupt")
    assert done.out.splitlines() == [
        "nothing to interrupt",
        "queued or running elsewhere, name them to pause them: 'far away'",
    ]


@pytest.mark.slow
async def test_remove_and_restore(command: Command, state: State) -> None:
    state.work = nothing
    await prepared(command)
    assert (await command("process", "v", "--no-wait")).code == 0
    removed = await command("remove", "v", "--restorable", "--json")
    assert (removed.json["was_there"], removed.json["expire_time"]) == (True, "2027-01-15T08:00:00Z")
    assert (state.events[-1].on_error.reason, list(state.trash)) == ("REMOVED", ["v"])
    listed, trash = await command("status"), await command("status", "--trash")
    assert (listed.out, trash.out.split()) == ("no videos\n", ["deleted", "v"])
    restored = await command("restore", "v")
    assert (restored.code, restored.out.splitlines()[1].split()) == (0, ["state", "pending"])
    assert (await command("remove", "v")).out == "v is removed\n"
    gone = await command("remove", "v")
    assert (gone.code, gone.out) == (0, "there was no video v\n")
    assert (await command("restore", "v")).code == 5


@pytest.mark.slow
async def test_a_removed_video_ends_the_waiting_for_it(command: Command, state: State) -> None:
    state.work = nothing
    await prepared(command)
    process = await command.start("process", "v")
    await state.until_called("Subscribe")
    assert (await command("remove", "v", "--restorable")).code == 0
    _, err = await process.communicate()
    assert (process.returncode, b"videoprocess restore v" in err) == (6, True)


@pytest.mark.slow
async def test_watch_shows_what_happens(command: Command, state: State) -> None:
    head = {
        "session_id": "s",
        "video_id": "v",
        "job_id": "j",
        "create_time": Timestamp(seconds=1_700_000_000),
    }
    blocked = callback.OnStatusChanged(status=1, reason=job_pb2.BLOCK_REASON_SPACE_LIMIT, message="No space.")
    state.publish(**head, on_error=callback.OnError(error_code=5, reason="INTERRUPTED", message="Paused."))
    state.publish(**head, on_progress=callback.OnProgress(progress=job_pb2.JobProgress(percent=50, phase=4)))
    state.publish(**head, on_status_changed=blocked)
    state.publish(**head, on_process_done=callback.OnProcessDone())

    async def shown(*arguments: str, lines: int) -> list[str]:
        process = await command.start("watch", *arguments)
        assert process.stdout is not None
        read = [(await process.stdout.readline()).decode() for _ in range(lines)]
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")
        return read

    text, as_json, later, other = await asyncio.gather(
        shown("--after", "0", lines=5),
        shown("--after", "0", "--json", lines=5),
        shown("--after", "3", lines=2),
        shown("--after", "0", "--session", "none", lines=1),
    )
    assert [line[20:].strip() for line in text] == [
        "ready",
        "#1 v: stopped: Paused. (INTERRUPTED)",
        "#2 v: enhance, 50.0 %",
        "#3 v: waiting, disk or quota full: No space.",
        "#4 v: done, 0 frames, 0 B",
    ]
    values = [json.loads(line) for line in as_json]
    assert [value["event"] for value in values] == [
        "status_changed",
        "error",
        "progress",
        "status_changed",
        "process_done",
    ]
    assert (values[1]["sequence"], values[1]["error_code"], values[3]["blocked_by"]) == (
        1,
        "ABORT",
        "SPACE_LIMIT",
    )
    assert "#4 v: done" in later[1]
    assert other[0].endswith("ready\n")


@pytest.mark.slow
async def test_watch_refuses_a_number_that_is_not_there_and_ends_with_its_reader(
    command: Command, state: State
) -> None:
    beyond = await command("watch", "--after", "9", "--json")
    assert (beyond.code, beyond.json["error"]["reason"]) == (4, "SEQUENCE_OUT_OF_RANGE")
    assert "--after 0" in beyond.json["error"]["hint"]
    assert (await command("watch", "--mine")).code == 2
    process = await command.start("watch")
    assert process.stdout is not None
    await process.stdout.readline()
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        while process.returncode is None:
            state.publish(on_error=callback.OnError(error_code=1, reason="R"))
            await asyncio.sleep(0.1)
    assert process.stderr is not None
    assert (process.returncode, await process.stderr.read()) == (0, b"")


@pytest.mark.slow
async def test_status_says_what_a_video_waits_for(command: Command, state: State) -> None:
    state.videos["v"] = video_pb2.Video(
        video_id="v", state=video_pb2.VIDEO_STATE_QUEUED, blocked_by=job_pb2.BLOCK_REASON_RETRY_BACKOFF
    )
    listed, shown = await command("status"), await command("status", "v")
    assert listed.out == "queued (pause before another try) v\n"
    assert "state      queued (pause before another try)" in shown.out


@pytest.mark.slow
async def test_a_state_directory_that_cannot_be_written_is_told_and_spoils_nothing(
    command: Command, state: State
) -> None:
    (command.directory / "file").write_bytes(b"")
    command.environment["XDG_STATE_HOME"] = str(command.directory / "file")
    await prepared(command)
    done = await command("process", "v")
    assert (done.code, done.err.count("The session is not remembered")) == (0, 1)


async def test_the_version_is_told(command: Command) -> None:
    assert (await command("--version")).out.startswith("videoprocess 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["upload", "none.mp4"],
        ["prepare", "v", "none.mp4"],
        ["prepare", "v", "--shared", "a"],
        ["process"],
        ["process", "v", "--from", "1", "--timestamp-us", "1"],
        ["process", "v", "--timestamp-us", "-1"],
        ["process", "v", "--defaults", "--zoom", "2"],
        ["watch", "--mine", "--session", "s"],
        ["watch", "--after", "-1"],
        ["status", "v", "--trash"],
        ["pending", "--target", "localhost"],
        ["pending", "--target", "localhost:0"],
        ["pending", "--target", "localhost:65536"],
    ],
    ids=" ".join,
)
def test_wrong_use_ends_with_2(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments, "--json"]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["reason"] == "USAGE"
