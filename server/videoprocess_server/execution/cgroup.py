"""What the service's control group tells of the memory it ran out of."""

from __future__ import annotations

from pathlib import Path


def oom_kill_count(
    proc: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return how many processes of this process's control group (version 2) were killed for want of memory.

    Args:
        proc: says which group.
        mount: where the groups are.

    Returns:
        None where nothing tells.
    """
    try:
        lines = proc.read_text().splitlines()
        group = next(line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::"))
        events = mount.joinpath(group, "memory.events").read_text().splitlines()
        return next(int(line.split()[1]) for line in events if line.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
