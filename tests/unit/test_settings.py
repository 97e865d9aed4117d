from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from videoprocess_server.cli import EXIT_USAGE, app
from videoprocess_server.model.gates import QuietPeriod
from videoprocess_server.settings import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, Settings, SharedRootSetting

RUNNER = CliRunner()
VARIABLE = f"{ENVIRONMENT_PREFIX}MAX_SESSIONS"


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    file = tmp_path / "service.toml"
    file.write_text("max_sessions = 3\n")
    return file


def _settings(**values: Any) -> Settings:
    return Settings(**values)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _refusal(*flags: str) -> str:
    """What `serve` with these flags says before it starts anything: one line."""
    result = RUNNER.invoke(app, ["serve", *flags])
    assert result.exit_code == EXIT_USAGE, result.output
    (line,) = result.stderr.splitlines()
    assert not result.stdout
    assert line.startswith("videoprocess-server: ")
    return line


def test_flags_win_over_environment_over_file_over_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _settings().max_sessions == Settings.model_fields["max_sessions"].default
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    assert _settings().max_sessions == 3
    monkeypatch.setenv(VARIABLE, "4")
    assert _settings().max_sessions == 4
    assert _settings(max_sessions=5).max_sessions == 5


def test_every_setting_is_a_flag_with_its_variable_in_the_help() -> None:
    result = RUNNER.invoke(app, ["serve", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    words = set(result.stdout.replace("[", " ").replace("]", " ").split())
    missing = [name for name in Settings.model_fields if _flag(name) not in words]
    assert not missing
    assert {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields} <= words
    assert CONFIG_VARIABLE in words


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--workers", "-1"), "workers"),
        (("--workers", "257"), "workers"),
        (("--max-running-jobs", "0"), "max_running_jobs"),
        (("--stall-seconds", "0"), "stall_seconds"),
        (("--replica-lease-seconds", "0"), "replica_lease_seconds"),
        (("--replica-look-seconds", "-1"), "replica_look_seconds"),
        (("--replica-renew-seconds", "20"), "replica_renew_seconds is more than a third"),
        (("--replica-lease-seconds", "11"), "replica_renew_seconds is more than a third"),
        (("--segment-seconds", "9"), "longest_gop_seconds is less than segment_seconds"),
        (("--disk-reserve-bytes", "-1"), "disk_reserve_bytes"),
        (("--max-temperature-celsius", "151"), "max_temperature_celsius"),
        (("--max-temperature-celsius", "-1"), "max_temperature_celsius"),
        (("--max-cpu-pressure-percent", "101"), "max_cpu_pressure_percent"),
        (("--max-memory-pressure-percent", "-1"), "max_memory_pressure_percent"),
        (("--quiet-hours", "22:00"), "'22:00' is not HH:MM-HH:MM"),
        (("--quiet-hours", "22:00-25:00"), "there is no such time of day"),
        (("--quiet-hours", "01:00-02:00", "--quiet-hours", "03:00-03:00"), "'03:00-03:00' is empty"),
        (("--log-level", "loud"), "log_level"),
        (("--shared-root", "no-separator"), "is not NAME=PATH"),
        (("--shared-root", "a="), "is not NAME=PATH"),
        (("--shared-root", "A=/"), "use a-z, 0-9, - and _"),
        (("--shared-root", "a=/no/such/directory"), "/no/such/directory is not a directory"),
        (("--shared-root", "a=/", "--shared-root", "a=/tmp"), "two shared roots have the same name"),
    ],
)
def test_a_bad_value_is_told_in_one_line(flags: tuple[str, ...], said: str) -> None:
    assert said in _refusal(*flags)


def test_several_bad_values_are_told_in_one_line() -> None:
    line = _refusal("--workers", "-1", "--max-sessions", "0")
    assert "workers" in line
    assert "max_sessions" in line


def test_a_bad_variable_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "many")
    assert "max_sessions" in _refusal()


def test_a_file_that_is_no_toml_is_told_by_its_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, "")  # `serve --config` sets it; undone with the test
    file.write_text("max_sessions =")
    assert str(file) in _refusal("--config", str(file))


def test_a_setting_that_is_none_is_refused_in_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    file.write_text("max_session = 3\n")
    assert f"{file}: there is no setting max_session" in _refusal("--config", str(file))


@pytest.mark.parametrize("name", ["0.0.0.0", "192.168.1.2", "[::]", "example.org", "127.0.0.1.example.org"])
def test_listening_beyond_this_machine_is_refused_unless_asked_for(name: str) -> None:
    listen = f"{name}:50051"
    assert "--insecure-listen-anywhere" in _refusal("--listen", listen)
    assert _settings(listen=listen, insecure_listen_anywhere=True).listen == listen


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:0", "127.1.2.3:1", "localhost:50051", "[::1]:1", "unix:/tmp/s"]
)
def test_listening_on_this_machine_is_fine(listen: str) -> None:
    assert _settings(listen=listen).listen == listen


# gates


def test_quiet_hours_come_as_flags_as_variable_and_in_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (QuietPeriod(22 * 60, 7 * 60), QuietPeriod(12 * 60, 13 * 60 + 30))
    texts = ["22:00-07:00", "12:00-13:30"]
    assert _settings().quiet_hours == ()
    assert _settings(quiet_hours=texts).quiet_hours == expected
    monkeypatch.setenv(f"{ENVIRONMENT_PREFIX}QUIET_HOURS", ", ".join(texts))
    assert _settings().quiet_hours == expected
    monkeypatch.delenv(f"{ENVIRONMENT_PREFIX}QUIET_HOURS")
    file.write_text(f"quiet_hours = {texts}\n")
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    assert _settings().quiet_hours == expected


def test_an_unset_disk_reserve_is_told_from_none() -> None:
    assert _settings().disk_reserve_bytes is None
    assert _settings(disk_reserve_bytes=0).disk_reserve_bytes == 0


# shared roots


def test_shared_roots_come_as_flags_as_variable_and_in_the_file(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (
        SharedRootSetting(name="a", path=tmp_path),
        SharedRootSetting(name="b", path=Path("/")),
    )
    texts = [f"a={tmp_path}", "b=/"]
    assert _settings(shared_root=texts).shared_root == expected
    monkeypatch.setenv(f"{ENVIRONMENT_PREFIX}SHARED_ROOT", os.pathsep.join(texts))
    assert _settings().shared_root == expected
    monkeypatch.delenv(f"{ENVIRONMENT_PREFIX}SHARED_ROOT")
    file.write_text(f'shared_root = ["a={tmp_path}", {{name = "b", path = "/"}}]\n')
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    assert _settings().shared_root == expected


def test_a_shared_roots_path_may_hold_an_equals_sign(tmp_path: Path) -> None:
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert SharedRootSetting.parse(f"root={folder}").path == folder


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("out", {}),
        ("out,rw", {"writable": True}),
        ("out,100,-7", {"users": (100, -7)}),
        ("out,rw,100", {"writable": True, "users": (100,)}),
        ("out,100,rw", {"writable": True, "users": (100,)}),
    ],
)
def test_a_shared_root_may_be_writable_and_for_some_users_only(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, head: str, expected: dict[str, Any]
) -> None:
    folder = tmp_path / "a,rw=b:c"
    folder.mkdir()
    root = SharedRootSetting(name="out", path=folder, **expected)
    assert _settings(shared_root=[f"{head}={folder}"]).shared_root == (root,)
    table = {"name": '"out"', "path": f'"{folder}"'} | {
        key: str(list(value) if isinstance(value, tuple) else value).lower()
        for key, value in expected.items()
    }
    file.write_text("[[shared_root]]\n" + "".join(f"{key} = {value}\n" for key, value in table.items()))
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    assert _settings().shared_root == (root,)


@pytest.mark.parametrize(
    "head", ["out,ro", "out,", "out,rw,rw", "out,rw,1e3", "out,all", "out;rw", "out,99999999999"]
)
def test_what_is_no_option_of_a_shared_root_is_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(ValueError, match="shared root"):
        SharedRootSetting.parse(f"{head}={tmp_path}")


@pytest.mark.parametrize(
    ("shared", "data", "apart"),
    [
        ("a", "b", True),
        ("a", "a", False),
        ("a", "a/data", False),
        ("a/shared", "a", False),
        ("link", "a", False),
        ("ab", "a", True),
    ],
)
def test_a_writable_root_and_the_data_directory_are_apart(
    tmp_path: Path, shared: str, data: str, apart: bool
) -> None:
    for name in ("a/data", "a/shared", "ab", "b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/shared")
    values = {"shared_root": [f"out,rw={tmp_path / shared}"], "data_dir": tmp_path / data}
    if apart:
        assert _settings(**values).shared_root[0].writable
    else:
        with pytest.raises(ValueError, match="are not apart"):
            _settings(**values)


def test_no_shared_root_is_the_default() -> None:
    assert _settings().shared_root == ()
