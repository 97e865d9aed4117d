from __future__ import annotations

from pathlib import Path

import pytest

from videoprocess_server.execution.cgroup import oom_kill_count

EVENTS = "low 0\nhigh 3\nmax 9\noom 5\noom_kill 4\noom_group_kill 1\n"


@pytest.mark.parametrize(("line", "group"), [("0::/\n", ""), ("1:cpu:/x\n0::/a.slice/b\n", "a.slice/b")])
def test_the_count_is_that_of_the_group(tmp_path: Path, line: str, group: str) -> None:
    (tmp_path / "cgroup").write_text(line)
    folder = tmp_path / "mount" / group
    folder.mkdir(parents=True)
    (folder / "memory.events").write_text(EVENTS)
    assert oom_kill_count(tmp_path / "cgroup", tmp_path / "mount") == 4


@pytest.mark.parametrize(
    ("line", "events"),
    [
        (None, EVENTS),
        ("4:memory:/x\n", EVENTS),
        ("0::/\n", None),
        ("0::/\n", "oom 5\n"),
        ("0::/\n", "oom_kill many\n"),
    ],
)
def test_where_nothing_tells_there_is_no_count(tmp_path: Path, line: str | None, events: str | None) -> None:
    if line is not None:
        (tmp_path / "cgroup").write_text(line)
    if events is not None:
        (tmp_path / "memory.events").write_text(events)
    assert oom_kill_count(tmp_path / "cgroup", tmp_path) is None
