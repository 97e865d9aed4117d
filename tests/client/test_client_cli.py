from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import grpc
import pytest
import typer
from fake_service import Refusal, State
from google.protobuf import json_format

from client_command import Command
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import report_pb2, video_pb2
from videoprocess.v1.mode_setting_pb2 import (
    TONE_MAPPING_TO_SDR,
    Enhancement,
    FrameRateRange,
    ModeSetting,
    Quality,
    Rect,
)
from videoprocess_client.cli import picture_options
from videoprocess_client.cli.app import run
from videoprocess_client.cli.picture_options import PictureOptions, described
from videoprocess_client.cli.plain import plain


async def test_enhance_makes_the_file_and_tells_what_it_did(command: Command, state: State) -> None:
    done = await command("enhance", "in.mp4", "-o", "out.mp4", "--report", "report.json")
    assert done.code == 0, done.err
    assert (command.directory / "out.mp4").read_bytes() == b"cba"
    for text in ("out.mp4", "300 in, 300 out", "3 B in, 3 B out", "Y 4.00 -> 1.00", "enhance 2.0"):
        assert text in done.out
    assert "quality    sharpness 8.00 -> 9.00, SSIM 0.9877, XPSNR 41.3 dB\n" in done.out
    assert "chapter (2): [red]No[/red]." in done.out
    assert "upload" in done.err
    report = json.loads((command.directory / "report.json").read_text())
    assert report["frames"]["encoded"] == 300
    assert [score["name"] for score in report["quality"]] == [
        "sharpness_before",
        "sharpness_after",
        "ssim",
        "xpsnr",
    ]
    assert state.videos == {}


@pytest.mark.slow
async def test_enhance_passes_on_what_is_asked_for(command: Command, state: State) -> None:
    asked = [
        "--zoom",
        "2",
        "--fps",
        "24-30",
        "--codec",
        "h264",
        "--size",
        "640x360",
        "--from",
        "1.5",
        "--keep",
    ]
    done = await command(
        "enhance", "--shared", "media:a.mp4", "-o", "out.mp4", "--video-id", "v", *asked, "--json"
    )
    assert (done.code, done.json["video_id"], done.json["kept_on_server"]) == (0, "v", True)
    assert done.json["artifact"]["size_bytes"] == 6
    typed = state.settings[0].typed
    assert (typed.zoom_ratio, typed.frame_rate_range.min_fps, typed.frame_rate_range.max_fps) == (2.0, 24, 30)
    assert (state.streams[0].width, state.streams[0].height, state.streams[0].encode_type) == (640, 360, 1)


ASKED: dict[str, dict[str, Any]] = {
    "--mode night": {"operation_mode": hdi.OPERATION_MODE_NIGHT},
    "--mode super-stab": {"operation_mode": hdi.OPERATION_MODE_SUPER_STAB},
    "--stabilise off": {"video_stabilization": hdi.VIDEO_STABILIZATION_OFF},
    "--stabilise auto": {"video_stabilization": hdi.VIDEO_STABILIZATION_AUTO},
    "--denoise 0 --sharpen 0.5 --deband 1": {
        "enhancement": Enhancement(denoise_strength=0, sharpen_strength=0.5, deband_strength=1)
    },
    "--denoise 0": {"enhancement": Enhancement(denoise_strength=0)},
    "--crf 18.5": {"quality": Quality(crf=18.5)},
    "--bitrate 2.5M": {"quality": Quality(bitrate_bps=2_500_000)},
    "--bitrate 800k": {"quality": Quality(bitrate_bps=800_000)},
    "--bitrate 1000": {"quality": Quality(bitrate_bps=1_000)},
    "--to-sdr": {"tone_mapping": TONE_MAPPING_TO_SDR},
    "--mirror": {"mirror": True},
    "--orientation 0": {"orientation_degrees": 0},
    "--orientation 270": {"orientation_degrees": 270},
    "--zoom 2 --crop 8,4,640,360": {
        "zoom_ratio": 2.0,
        "zoom_crop_region": Rect(x=8, y=4, width=640, height=360),
    },
    "--fps 60": {"frame_rate_range": FrameRateRange(min_fps=60, max_fps=60)},
}


@pytest.mark.parametrize("options", ASKED)
def test_options_of_the_picture_are_its_settings_and_back(options: str) -> None:
    """What a remembered setting is described as asks for the same."""
    words = options.split()
    expected = ModeSetting(**ASKED[options])
    assert picture_of(words).setting() == expected
    again = " ".join(described(expected)).split()
    assert picture_of(again).setting() == expected


def picture_of(words: list[str]) -> PictureOptions:
    """Read options as the command does."""
    made: list[PictureOptions] = []
    probe = typer.Typer()

    @probe.command()
    def collect(
        mode: picture_options.ModeOption = None,
        stabilise: picture_options.StabiliseOption = None,
        denoise: picture_options.Denoise = None,
        sharpen: picture_options.Sharpen = None,
        deband: picture_options.Deband = None,
        zoom: picture_options.Zoom = None,
        crop: picture_options.Crop = None,
        mirror: picture_options.Mirror = False,
        orientation: picture_options.OrientationOption = None,
        fps: picture_options.Fps = None,
        to_sdr: picture_options.ToSdr = False,
        crf: picture_options.Crf = None,
        bitrate: picture_options.Bitrate = None,
    ) -> None:
        made.append(PictureOptions(**locals_of(locals())))

    probe(words, standalone_mode=False)
    return made[0]


def locals_of(names: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(PictureOptions)}
    return {name: value for name, value in names.items() if name in known}


def test_a_setting_of_a_later_version_is_described_by_its_number() -> None:
    later = ModeSetting.FromString(b"\x08\x63")
    assert list(described(later)) == ["--mode 99"]


ALL_OPTIONS = (
    "--mode night --stabilise high --denoise 0.25 --sharpen 0.5 --deband 0.75 --crf 18 --to-sdr "
    "--mirror --orientation 90 --zoom 2 --crop 8,4,640,360 --max-fps 30"
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enhance", "process"])
async def test_both_commands_pass_on_the_options_of_the_picture(
    name: str, command: Command, state: State
) -> None:
    options = ALL_OPTIONS.split()
    if name == "process":
        assert (await command("prepare", "v", "in.mp4")).code == 0
        done = await command("process", "v", *options)
    else:
        done = await command("enhance", "in.mp4", "-o", "out.mp4", *options)
    assert done.code == 0, done.err
    assert state.settings[-1].typed == ModeSetting(
        operation_mode=hdi.OPERATION_MODE_NIGHT,
        video_stabilization=hdi.VIDEO_STABILIZATION_HIGH,
        enhancement=Enhancement(denoise_strength=0.25, sharpen_strength=0.5, deband_strength=0.75),
        quality=Quality(crf=18),
        tone_mapping=TONE_MAPPING_TO_SDR,
        mirror=True,
        orientation_degrees=90,
        zoom_ratio=2,
        zoom_crop_region=Rect(x=8, y=4, width=640, height=360),
        frame_rate_range=FrameRateRange(min_fps=1, max_fps=30),
    )


async def test_enhance_sends_a_settings_file_as_it_is(command: Command, state: State) -> None:
    (command.directory / "tags").write_bytes(b"\x00\x01")
    done = await command("enhance", "in.mp4", "-o", "out.mp4", "--settings-file", "tags")
    assert (done.code, state.settings[0].serialized) == (0, b"\x00\x01")


async def test_a_failed_job_ends_with_1_and_its_reason(command: Command, state: State) -> None:
    state.work = lambda state, job_id: state.fail(job_id, 1, "DECODE_FAILED")
    text, as_json = await asyncio.gather(
        command("enhance", "in.mp4", "-o", "a.mp4"), command("enhance", "in.mp4", "-o", "b.mp4", "--json")
    )
    assert (text.code, text.out, as_json.code) == (1, "", 1)
    assert "Not \N{REPLACEMENT CHARACTER}[31m[b]possible[/b]." in text.err
    error = as_json.json["error"]
    assert (error["reason"], error["error_code"], "job_id" in error) == ("DECODE_FAILED", "PROCESS", True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["enhance", "none.mp4", "-o", "out.mp4"],
        ["enhance", "in.mp4"],
        ["enhance", "in.mp4", "--shared", "a:b", "-o", "out.mp4"],
        ["enhance", "in.mp4", "-o", "in.mp4", "--overwrite"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--stream", "film"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--stream", "video", "--codec", "h264"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--stream", "video", "--size", "64x48"],
        ["enhance", "in.mp4", "-o", "out.mp4", *["--stream", "video"] * 17],
        ["enhance", "in.mp4", "-o", "out.mp4", "--watermark", "none.png"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--watermark-at", "1,1"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--watermark", "in.mp4", "--settings-file", "in.mp4"],
        ["enhance", "in.mp4", "-o", "none/out.mp4"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--size", "big"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--zoom", "0.5"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--settings-file", "none"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--settings-file", "in.mp4", "--max-fps", "30"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--crf", "20", "--bitrate", "1M"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--crf", "52"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--bitrate", "0"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--bitrate", "1e6"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--bitrate", "2000M"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--mode", "portrait"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--stabilise", "9"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--denoise", "7"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--orientation", "45"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--crop", "0,0,0,4"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--crop=-1,0,4,4"],
        ["enhance", "in.mp4", "-o", "out.mp4", "--settings-file", "in.mp4", "--mirror"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_use_ends_with_2_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.mp4").write_bytes(b"abc")
    assert run([*arguments, "--json"]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["message"]
    assert run(arguments) == 2
    out, err = capfd.readouterr()
    assert (out, "Traceback" in err, bool(err)) == ("", False, True)


def test_no_server_ends_with_3(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["capabilities", "--target", "127.0.0.1:1", "--json"]) == 3
    message = json.loads(capfd.readouterr().out)["error"]["message"]
    assert message.startswith("No answer from the server at 127.0.0.1:1: ")


def test_help_tells_the_exit_codes(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["enhance", "--help"]) == 0
    assert "130  interrupted" in capfd.readouterr().out


async def test_a_refusal_ends_with_4_and_names_the_field(command: Command, state: State) -> None:
    refusal = Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SETTING", violations={"typed.zoom_ratio": "too far"}
    )
    state.fail_next("CommitStreams", refusal)
    done = await command("enhance", "in.mp4", "-o", "out.mp4", "--zoom", "99")
    assert (done.code, done.out) == (4, "")
    assert "typed.zoom_ratio: too far" in done.err


async def test_an_unknown_video_ends_with_5(command: Command) -> None:
    done = await command("fetch", "none", "-o", "out.mp4", "--json")
    assert (done.code, done.json["error"]["reason"]) == (5, "UNKNOWN_VIDEO")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_ends_with_130_and_leaves_nothing(
    command: Command, state: State, left: Callable[[], list[str]], number: int
) -> None:
    state.work = lambda state, job_id: None
    process = await command.start("enhance", "in.mp4", "-o", "out.mp4", "--video-id", "v", "--json")
    await state.until_called("Subscribe")
    process.send_signal(number)
    out, err = await process.communicate()
    assert (process.returncode, json.loads(out)["error"]["reason"]) == (130, "INTERRUPTED")
    assert b"Traceback" not in err
    assert b"with --video-id v goes on" in err
    assert left() == ["in.mp4"]
    assert "Interrupt" in state.calls


async def test_the_commands_that_look(command: Command, state: State) -> None:
    artifact = state.add_artifact(b"result")
    state.videos["v"] = video_pb2.Video(
        video_id="v", state=video_pb2.VIDEO_STATE_COMPLETED, artifacts=[artifact]
    )
    state.videos["w"] = video_pb2.Video(video_id="w", state=video_pb2.VIDEO_STATE_PENDING)
    runs = await asyncio.gather(
        command("status"),
        command("status", "v", "--json"),
        command("pending"),
        command("capabilities"),
        command("fetch", "v", "-o", "out.mp4", "--json"),
    )
    listed, shown, pending, capabilities, fetched = runs
    assert {run.code for run in runs} == {0}
    assert [line.split() for line in listed.out.splitlines()] == [["completed", "v"], ["pending", "w"]]
    assert shown.json["video"]["state"] == "VIDEO_STATE_COMPLETED"
    assert pending.out == "w\n"
    assert "videoprocess 0.1.0" in capabilities.out
    assert artifact.sha256 == fetched.json["artifact"]["sha256"]
    assert (command.directory / "out.mp4").read_bytes() == b"result"


def test_plain_values_can_be_read_back() -> None:
    report = report_pb2.ProcessReport(
        artifacts=[
            report_pb2.Artifact(artifact_id="a", kind=report_pb2.ARTIFACT_KIND_VIDEO, size_bytes=1 << 40)
        ],
        quality=[report_pb2.QualityScore(name="psnr_y", value=41.5)],
        filters=["a", "b"],
    )
    report.artifacts[0].create_time.GetCurrentTime()
    values = json.loads(json.dumps(plain(report)))
    assert values["artifacts"][0]["size_bytes"] == 1 << 40
    assert json_format.ParseDict(values, report_pb2.ProcessReport()) == report
