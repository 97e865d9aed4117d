"""What is looked at before anything is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from videoprocess_server.media.build_info import ENCODERS, describe
from videoprocess_server.model.tasks import BuildInfo, DescribeTask
from videoprocess_server.preflight import (
    ESSENTIAL_ENCODERS,
    PreflightError,
    check_address_file,
    check_build,
    check_listen,
)


def _refusal(listen: str) -> str:
    with pytest.raises(PreflightError) as refused:
        check_listen(listen)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"cannot listen on {listen}: ")
    return line


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "localhost:0", "0.0.0.0:0"])
def test_a_free_address_is_fine_and_stays_free(listen: str) -> None:
    check_listen(listen)
    check_listen(listen)


def test_a_port_that_is_taken_is_refused_until_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        assert "another program listens there" in _refusal(listen)
    check_listen(listen)


def test_an_address_of_another_machine_is_refused() -> None:
    assert "this machine has no such address" in _refusal("192.0.2.1:0")


def test_a_unix_socket_at_which_somebody_listens_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "another program listens there" in _refusal(f"unix:{path}")
    check_listen(f"unix:{path}")  # left over by a service that was killed


def test_a_unix_socket_in_no_directory_or_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    assert "there is no such directory" in _refusal(f"unix:{tmp_path}/none/socket")
    (tmp_path / "file").touch()
    assert "that is a file" in _refusal(f"unix:{tmp_path}/file")


def test_an_address_file_is_tried_without_being_changed(tmp_path: Path) -> None:
    path = tmp_path / "address"
    path.write_text("of the service that runs\n")
    check_address_file(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["address"]
    assert path.read_text() == "of the service that runs\n"
    with pytest.raises(PreflightError, match="choose an --address-file in a directory"):
        check_address_file(tmp_path / "none" / "address")
    with pytest.raises(PreflightError, match="is a directory"):
        check_address_file(tmp_path)


def test_the_build_of_this_installation_is_fine() -> None:
    check_build(describe(DescribeTask(), -1))
    assert tuple(ESSENTIAL_ENCODERS) == ENCODERS


@pytest.mark.parametrize("missing", ENCODERS)
def test_a_build_without_an_encoder_is_refused_by_its_name(missing: str) -> None:
    there = tuple(name for name in ENCODERS if name != missing)
    build = BuildInfo(versions={"pyav": "18.1.0"}, video_decoders=(), video_encoders=there, filters=())
    with pytest.raises(PreflightError, match=rf"PyAV 18.1.0 lacks {missing} \(.*install PyAV's own wheel"):
        check_build(build)
