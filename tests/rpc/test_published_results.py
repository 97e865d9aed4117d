"""Results written into shared roots, at the wire: what is there, what it is called, and what is refused."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from client_command import Command
from service_harness import Api, Server, connect, refused
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session
from videoprocess_server.errors import CATALOGUE

#: three frames
CLIP = "rot90_iphone_3f.mov"
OTHER_USER = 7


@pytest.fixture(name="out", scope="module")
def _out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A writable root with a folder in it."""
    root = tmp_path_factory.mktemp("out")
    (root / "trip").mkdir()
    return root


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory, media_root: Path, out: Path) -> Iterator[Server]:
    theirs = tmp_path_factory.mktemp("theirs")
    roots = (f"media={media_root}", f"out,rw={out}", f"theirs,rw,{OTHER_USER}={theirs}")
    flags = [text for root in roots for text in ("--shared-root", root)]
    with Server(tmp_path_factory.mktemp("service") / "data", *flags, "--workers", "1") as server:
        yield server


@pytest.fixture(name="api")
async def _api(server: Server) -> AsyncIterator[Api]:
    async with connect(server) as api:
        yield api


def _stream(intent: hdi.StreamIntent = hdi.STREAM_INTENT_VIDEO, **directory: Any) -> types.StreamInfoV11:
    queue = types.BufferQueue(directory=types.SharedDirectory(**({"root": "out"} | directory)))
    return types.StreamInfoV11(v1_0=types.StreamInfo(stream_id=intent, intent=intent, buffer_queue=queue))


async def _create(api: Api, session_id: str, *streams: types.StreamInfoV11) -> None:
    await api.session.CreateStreams(session.CreateStreamsRequest(session_id=session_id, stream_infos=streams))
    await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id))


async def _ended(api: Api, video_id: str, *streams: types.StreamInfoV11, clip: str = CLIP) -> Any:
    """The terminal event of a job that publishes."""
    session_id = await api.open_session()
    await _create(api, session_id, *streams)
    await api.prepare_path(session_id, video_id, clip)
    return await api.terminal(await api.process(session_id, video_id))


async def _done(api: Api, video_id: str, *streams: types.StreamInfoV11, clip: str = CLIP) -> Any:
    event = await _ended(api, video_id, *streams, clip=clip)
    assert event.HasField("on_process_done"), event.on_error
    return event.on_process_done.report


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


async def test_the_file_is_in_the_folder_and_can_be_downloaded_too(api: Api, out: Path) -> None:
    (file,) = (await _done(api, "plain", _stream(path="trip"))).artifacts
    name = f"rot90_iphone_3f_video_{hdi.STREAM_INTENT_VIDEO}_0.mov"
    assert (file.published_path.root, file.published_path.path) == ("out", f"trip/{name}")
    written = (out / "trip" / name).read_bytes()
    assert hashlib.sha256(written).hexdigest() == file.sha256
    assert written == await api.download(file.artifact_id)
    assert _names(out / "trip") == [name]
    assert stat.S_IMODE((out / "trip" / name).stat().st_mode) == 0o666 & ~_umask()
    video = await api.video("plain")
    assert video.artifacts[0].published_path == file.published_path


@pytest.mark.slow
async def test_every_file_of_every_stream_has_its_name(api: Api, out: Path) -> None:
    folder = out / "all"
    folder.mkdir()
    template = "{job_id}-{source}-{intent}-{stream_id}-{index} é.{ext}"
    streams = [_stream(intent, path="all", name_template=template) for intent in hdi.StreamIntent.values()]
    session_id = await api.open_session()
    await _create(api, session_id, *streams)
    await api.prepare_path(session_id, "all", CLIP)
    accepted = await api.process(session_id, "all")
    event = await api.terminal(accepted)
    files = event.on_process_done.report.artifacts
    assert len(files) == 8
    names = [file.published_path.path.removeprefix("all/") for file in files]
    assert sorted(names) == _names(folder)
    assert f"{accepted.job_id}-rot90_iphone_3f-post_view-3-2__.jpg" in names
    for file, name in zip(files, names, strict=True):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == file.sha256


async def test_a_file_that_is_there_is_left_alone_and_the_video_is_as_it_was(api: Api, out: Path) -> None:
    (out / "taken.mov").write_text("somebody's")
    event = await _ended(api, "taken", _stream(name_template="taken.{ext}"))
    assert (event.on_error.error_code, event.on_error.reason) == (hdi.ERROR_CODE_PROCESS, "OUTPUT_EXISTS")
    assert (out / "taken.mov").read_text() == "somebody's"
    video = await api.video("taken")
    assert (_state(video), [*video.artifacts]) == ("VIDEO_STATE_PENDING", [])
    again = await _done(api, "taken", _stream(name_template="taken.{ext}", replace_existing=True))
    assert hashlib.sha256((out / "taken.mov").read_bytes()).hexdigest() == again.artifacts[0].sha256


async def test_a_link_of_that_name_is_not_followed(api: Api, out: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("outside")
    (out / "link.mov").symlink_to(outside)
    stream = _stream(name_template="link.{ext}")
    assert (await _ended(api, "link", stream)).on_error.reason == "OUTPUT_EXISTS"
    stream = _stream(name_template="link.{ext}", replace_existing=True)
    await _done(api, "link", stream)
    assert outside.read_text() == "outside"
    assert not (out / "link.mov").is_symlink()


async def test_two_files_of_a_job_cannot_have_one_name(api: Api, out: Path) -> None:
    streams = [
        _stream(intent, path="trip", name_template="same", replace_existing=True)
        for intent in (hdi.STREAM_INTENT_VIDEO, hdi.STREAM_INTENT_PREVIEW)
    ]
    before = _names(out / "trip")
    assert (await _ended(api, "same", *streams)).on_error.reason == "OUTPUT_EXISTS"
    assert _names(out / "trip") == before


async def test_two_files_of_a_job_cannot_have_one_name_by_two_paths(api: Api, out: Path) -> None:
    (out / "same_trip").symlink_to("trip")
    streams = [
        _stream(intent, path=path, name_template="same", replace_existing=True)
        for intent, path in ((hdi.STREAM_INTENT_VIDEO, "trip"), (hdi.STREAM_INTENT_PREVIEW, "same_trip"))
    ]
    before = _names(out / "trip")
    assert (await _ended(api, "same by links", *streams)).on_error.reason == "OUTPUT_EXISTS"
    assert _names(out / "trip") == before


async def test_a_source_is_never_replaced_by_its_own_result(api: Api, out: Path, media_root: Path) -> None:
    source = out / "own.mov"
    source.write_bytes((media_root / CLIP).read_bytes())
    session_id = await api.open_session()
    await _create(api, session_id, _stream(name_template="own.{ext}", replace_existing=True))
    await api.prepare_path(session_id, "own", "own.mov", root="out")
    event = await api.terminal(await api.process(session_id, "own"))
    assert event.on_error.reason == "OUTPUT_EXISTS"
    assert source.read_bytes() == (media_root / CLIP).read_bytes()


async def test_the_same_streams_again_repeat_the_result_and_another_folder_has_it_made_anew(
    api: Api, out: Path
) -> None:
    for name in ("one", "two"):
        (out / name).mkdir()
    first = await _done(api, "again", _stream(path="one"))
    written = (out / first.artifacts[0].published_path.path).stat()
    repeated = await _done(api, "again", _stream(path="one"))
    assert repeated == first
    assert os.path.samestat(written, (out / first.artifacts[0].published_path.path).stat())
    other = await _done(api, "again", _stream(path="two"))
    assert other.artifacts[0].published_path.path.startswith("two/")
    assert other.artifacts[0].sha256 == first.artifacts[0].sha256
    assert _names(out / "two") == _names(out / "one")


@pytest.mark.slow
async def test_the_command_publishes_and_says_where(
    api: Api, server: Server, out: Path, tmp_path: Path
) -> None:
    videoprocess = Command(server.address, tmp_path, {"XDG_STATE_HOME": str(tmp_path / "state")})
    assert (await videoprocess("prepare", "cli", "--shared", f"media:{CLIP}")).code == 0
    options = ("--publish", "out:trip", "--publish-as", "by_command.{ext}")
    run = await videoprocess("process", "cli", *options)
    assert run.code == 0, run.err
    assert "out:trip/by_command.mov" in run.out
    (file,) = (await api.video("cli")).artifacts
    written = (out / "trip/by_command.mov").read_bytes()
    assert hashlib.sha256(written).hexdigest() == file.sha256
    (out / "trip/by_command.mov").unlink()


@pytest.mark.slow
async def test_the_main_command_publishes_too(
    server: Server, out: Path, media_root: Path, tmp_path: Path
) -> None:
    videoprocess = Command(server.address, tmp_path, {"XDG_STATE_HOME": str(tmp_path / "state")})
    options = ("--publish", "out:trip", "--publish-as", "by_enhance.{ext}", "--codec", "h264")
    run = await videoprocess("enhance", str(media_root / CLIP), "-o", str(tmp_path / "made.mov"), *options)
    assert run.code == 0, run.err
    assert "out:trip/by_enhance.mov" in run.out
    assert (out / "trip/by_enhance.mov").read_bytes() == (tmp_path / "made.mov").read_bytes()
    (out / "trip/by_enhance.mov").unlink()


@pytest.mark.parametrize(
    ("directory", "reason", "field"),
    [
        ({"root": ""}, "MISSING_FIELD", "root"),
        ({"root": "nowhere"}, "UNKNOWN_ROOT", ""),
        ({"root": "media"}, "INVALID_FIELD", "root"),
        ({"path": "none"}, "NO_SUCH_PATH", ""),
        ({"path": "trip/none"}, "NO_SUCH_PATH", ""),
        ({"path": "../out"}, "PATH_OUTSIDE_ROOT", ""),
        ({"path": "/"}, "PATH_OUTSIDE_ROOT", ""),
        ({"path": "leads_out"}, "PATH_OUTSIDE_ROOT", ""),
        ({"path": "a_file"}, "NO_SUCH_PATH", ""),
        ({"path": "a\0b"}, "NO_SUCH_PATH", ""),
        ({"name_template": "a/b"}, "INVALID_FIELD", "name_template"),
        ({"name_template": "{date}"}, "INVALID_FIELD", "name_template"),
        ({"name_template": "{source"}, "INVALID_FIELD", "name_template"),
        ({"name_template": "x" * 129}, "INVALID_FIELD", "name_template"),
    ],
)
async def test_create_streams_refuses_what_cannot_be_written(
    api: Api, out: Path, tmp_path: Path, directory: dict[str, str], reason: str, field: str
) -> None:
    (out / "a_file").write_text("no folder")
    if not (out / "leads_out").is_symlink():
        (out / "leads_out").symlink_to("/tmp")
    session_id = await api.open_session()
    request = session.CreateStreamsRequest(session_id=session_id, stream_infos=[_stream(**directory)])
    refusal = await refused(api.session.CreateStreams(request))
    assert refusal.reason == reason
    assert refusal.status.name == CATALOGUE[reason].status.value
    assert [name.rpartition(".")[2] for name in refusal.violations] == ([field] if field else [])


async def test_a_root_of_others_is_as_unknown_as_one_that_is_not_there(api: Api) -> None:
    session_id = await api.open_session()
    refusals = []
    for root in ("theirs", "absent"):
        request = session.CreateStreamsRequest(session_id=session_id, stream_infos=[_stream(root=root)])
        refusal = await refused(api.session.CreateStreams(request))
        refusals.append((refusal.status, refusal.reason, refusal.message.replace(root, "?")))
    assert refusals[0] == refusals[1]
    theirs = await api.open_session(OTHER_USER)
    await _create(api, theirs, _stream(root="theirs"))


async def test_capabilities_tell_the_callers_roots(api: Api) -> None:
    told = {}
    for user_id in (100, OTHER_USER):
        answer = await api.service.GetCapabilities(service.GetCapabilitiesRequest(user_id=user_id))
        told[user_id] = {root.name: root.writable for root in answer.shared_roots}
    assert told == {
        100: {"media": False, "out": True},
        OTHER_USER: {"media": False, "out": True, "theirs": True},
    }


def _umask() -> int:
    """Of this process, which the service has from it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)


def _state(video: Any) -> str:
    return str(type(video).DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[video.state].name)
