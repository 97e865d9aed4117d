"""The disk that forgets and the reader of traces, which the tests of power losses rest on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from simulated_disk import Change, Recorder, Sync, UnknownCallError, moments
from syscall_trace import read_trace

DATA = Path("/disk/data")
SERVICE, WORKER = 100, 200


def _hex(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def _trace(folder: Path, lines: Sequence[str]) -> Path:
    """Lines as strace writes them; a path or a text in braces stands for its hexadecimal digits."""
    written = []
    for number, line in enumerate(lines):
        process, _, call = line.partition(" ")
        while "{" in call and "}" in call:
            before, _, rest = call.partition("{")
            inside, _, after = rest.partition("}")
            call = f"{before}{_hex(inside)}{after}"
        written.append(f"{process} 1000.{number:06d} {call}\n")
    path = folder / "trace"
    path.write_text("".join(written))
    return path


MADE = (
    '100 mkdir("{/disk/data}", 0700) = 0',
    '100 openat(AT_FDCWD<{/}>, "{/disk}", O_RDONLY) = 3<{/disk}>',
    "100 fsync(3<{/disk}>) = 0",
    "100 close(3<{/disk}>) = 0",
    '100 openat(AT_FDCWD<{/}>, "{/disk/data/a}", O_WRONLY|O_CREAT, 0600) = 4<{/disk/data/a}>',
    '100 openat(AT_FDCWD<{/}>, "{/disk/data}", O_RDONLY) = 5<{/disk/data}>',
)


def _left(
    folder: Path, lines: Sequence[str], survives: Callable[[Change], bool] = lambda _: False
) -> dict[str, bytes]:
    """What is found after all of it, below the data directory."""
    recorder = Recorder(DATA)
    recorder.take_life(read_trace(_trace(folder, lines)), SERVICE)
    *_, (step, disk) = moments(recorder.recording)
    disk.take(step)
    return {name: file.read() for name, file in disk.after_power_loss(survives).below("data").items()}


WRITE = '100 write(4<{/disk/data/a}>, "{hello}", 5) = 5'
SYNC_FILE = "100 fsync(4<{/disk/data/a}>) = 0"
SYNC_FOLDER = "100 fsync(5<{/disk/data}>) = 0"


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ([WRITE], {}),
        ([WRITE, SYNC_FILE], {}),
        ([WRITE, SYNC_FOLDER], {"a": b""}),
        ([WRITE, SYNC_FILE, SYNC_FOLDER], {"a": b"hello"}),
        ([SYNC_FILE, WRITE, SYNC_FOLDER], {"a": b""}),
        ([WRITE, "100 fdatasync(4<{/disk/data/a}>) = 0", SYNC_FOLDER], {"a": b"hello"}),
    ],
)
def test_only_what_is_synced_is_left(tmp_path: Path, lines: list[str], left: dict[str, bytes]) -> None:
    assert left == _left(tmp_path, [*MADE, *lines])


def test_a_name_that_is_taken_away_is_there_until_its_folder_is_synced(tmp_path: Path) -> None:
    lines = [*MADE, WRITE, SYNC_FILE, SYNC_FOLDER, '100 unlink("{/disk/data/a}") = 0']
    assert {"a": b"hello"} == _left(tmp_path, lines)
    assert {} == _left(tmp_path, [*lines, SYNC_FOLDER])


def test_a_file_of_two_names_has_the_same_bytes_under_both(tmp_path: Path) -> None:
    link = '100 linkat(AT_FDCWD<{/}>, "{/disk/data/a}", AT_FDCWD<{/}>, "{/disk/data/b}", 0) = 0'
    assert {"a": b"hello", "b": b"hello"} == _left(tmp_path, [*MADE, WRITE, link, SYNC_FOLDER, SYNC_FILE])


def test_a_folder_whose_name_is_not_synced_takes_its_files_with_it(tmp_path: Path) -> None:
    lines = [
        *MADE,
        '100 mkdir("{/disk/data/f}", 0700) = 0',
        '100 openat(AT_FDCWD<{/}>, "{/disk/data/f}", O_RDONLY) = 6<{/disk/data/f}>',
        '100 openat(6<{/disk/data/f}>, "{c}", O_WRONLY|O_CREAT, 0600) = 7<{/disk/data/f/c}>',
        "100 fsync(6<{/disk/data/f}>) = 0",
    ]
    assert {} == _left(tmp_path, lines)
    assert {"a": b"", "f/c": b""} == _left(tmp_path, [*lines, SYNC_FOLDER])


def test_a_write_that_ends_after_an_fsync_began_is_not_kept_by_it(tmp_path: Path) -> None:
    lines = [
        *MADE,
        SYNC_FOLDER,
        '101 write(4<{/disk/data/a}>, "{hello}", 5 <unfinished ...>',
        "100 fsync(4<{/disk/data/a}> <unfinished ...>",
        "101 <... write resumed>) = 5",
        "100 <... fsync resumed>) = 0",
    ]
    thread = "100 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD}, 88) = 101".replace("{", "[").replace(
        "}", "]"
    )
    assert {"a": b""} == _left(tmp_path, [thread, *lines])
    assert {"a": b"hello"} == _left(tmp_path, [thread, *lines, SYNC_FILE])


def test_what_was_not_synced_survives_where_it_is_lucky(tmp_path: Path) -> None:
    lines = [
        *MADE,
        WRITE,
        "100 lseek(4<{/disk/data/a}>, 1, SEEK_SET) = 1",
        '100 write(4<{/disk/data/a}>, "{ipp}", 3) = 3',
        '100 pwrite64(4<{/disk/data/a}>, "{!}", 1, 6) = 1',
        "100 ftruncate(4<{/disk/data/a}>, 8) = 0",
    ]
    assert {"a": b"hippo\0!\0"} == _left(tmp_path, lines, lambda _: True)
    assert {"a": b"\0ipp\0\0!\0"} == _left(tmp_path, lines, lambda change: change.number != len(MADE))


def test_who_synced_what_is_told_without_ids(tmp_path: Path) -> None:
    path = f"/disk/data/{'0a' * 16}"
    lines = [
        *MADE,
        f'200 openat(AT_FDCWD<{{/}}>, "{{{path}}}", O_WRONLY|O_CREAT, 0600) = 4<{{{path}}}>',
        f"200 fsync(4<{{{path}}}>) = 0",
    ]
    recorder = Recorder(DATA)
    recorder.take_life(read_trace(_trace(tmp_path, lines)), SERVICE)
    sites = [step.site for step in recorder.recording.steps if isinstance(step, Sync)]
    assert ["service fsync ..", "worker fsync data/*"] == sites


def test_a_descriptor_that_was_given_again_before_its_close_was_told_of_is_open(tmp_path: Path) -> None:
    """The trace tells of a close after another thread has got its number."""
    lines = [
        "100 clone3([CLONE_VM|CLONE_THREAD], 88) = 101",
        *MADE,
        WRITE,
        SYNC_FILE,
        "100 close(5<{/disk/data}> <unfinished ...>",
        '101 openat(AT_FDCWD<{/}>, "{/disk/data}", O_RDONLY) = 5<{/disk/data}>',
        "100 <... close resumed>) = 0",
        "101 fsync(5<{/disk/data}>) = 0",
    ]
    assert {"a": b"hello"} == _left(tmp_path, lines)


@pytest.mark.parametrize(
    ("found", "left"), [(b"hello", b"hello"), (b"hel", b"hel"), (b"", b""), (b"other", b"")]
)
@pytest.mark.parametrize(
    "ending",
    [["100 <... pwrite64 resumed>) = ?", "100 +++ killed by SIGKILL +++"], ["100 +++ killed by SIGKILL +++"]],
)
def test_of_a_write_that_a_kill_came_into_there_is_what_the_file_has(
    tmp_path: Path, ending: list[str], found: bytes, left: bytes
) -> None:
    file = tmp_path / "data" / "a"
    file.parent.mkdir()
    file.write_bytes(found)
    lines = [*MADE, '100 pwrite64(4<{/disk/data/a}>, "{hello}", 5, 0 <unfinished ...>', *ending]
    lines = [line.replace("/disk", str(tmp_path)) for line in lines]
    recorder = Recorder(file.parent)
    recorder.take_life(read_trace(_trace(tmp_path, lines)), SERVICE)
    *_, (step, disk) = moments(recorder.recording)
    disk.take(step)
    assert {"a": left} == {
        name: one.read() for name, one in disk.after_power_loss(lambda _: True).below("data").items()
    }


def test_a_name_that_a_kill_came_into_making_is_there_if_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b").touch()
    killed = '101 openat(AT_FDCWD<{/}>, "{/disk/data/%s}", O_RDWR|O_CREAT, 0600 <unfinished ...>'
    lines = [
        *MADE,
        killed % "b",
        "101 +++ killed by SIGKILL +++",
        killed % "c",
        "101 +++ killed by SIGKILL +++",
    ]
    recorder = Recorder(tmp_path / "data")
    recorder.take_life(
        read_trace(_trace(tmp_path, [line.replace("/disk", str(tmp_path)) for line in lines])), SERVICE
    )
    *_, (step, disk) = moments(recorder.recording)
    disk.take(step)
    assert {"a", "b"} == set(disk.after_power_loss(lambda _: True).below("data"))


@pytest.mark.parametrize(
    "line",
    [
        '100 truncate("{/disk/data/a}", 0) = 0',
        '100 write(9<{/disk/data/a}>, "{x}", 1) = 1',
        "100 mmap(NULL, 1, PROT_READ|PROT_WRITE, MAP_SHARED, 4<{/disk/data/a}>, 0) = 0",
        '100 openat(AT_FDCWD<{/}>, "{/disk/data/z}", O_RDONLY) = 7<{/disk/data/z}>',
    ],
)
def test_a_change_that_is_not_understood_is_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(UnknownCallError):
        _left(tmp_path, [*MADE, line])
