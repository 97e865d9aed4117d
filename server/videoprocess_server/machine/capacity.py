"""How much of the machine the service may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from videoprocess_server.machine.cgroups import ROOT, folders, read_number, read_text

#: of the memory there is; the rest is the service's own, the page cache's and everyone else's
_MEMORY_SHARE = 0.8
_KIBIBYTE = 1024


def available_cores(root: Path = ROOT, *, affinity: int | None = None) -> int:
    """Return how many cores this process may keep busy, at least 1: its affinity, bounded by its cgroup's quota.

    Args:
        root: of the file system.
        affinity: cores the scheduler lets it run on; asked of the kernel if not given.
    """
    cores = len(os.sched_getaffinity(0)) if affinity is None else affinity
    return max(1, min((cores, *(int(quota) for quota in _cpu_quotas(root)))))


def memory_budget_bytes(root: Path = ROOT) -> int:
    """Return how much memory the workers may use together: a share of the machine's, or of the cgroup's limit if less.

    Raises:
        OSError: /proc/meminfo cannot be read.
    """
    return int(_MEMORY_SHARE * min((_total_memory_bytes(root), *_memory_limits(root))))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time that each cgroup grants."""
    for folder in folders("cpu", root):
        quota, _, period = read_text(folder / "cpu.max").partition(" ")  # version 2
        if quota.isdecimal() and period.isdecimal() and int(period):
            yield int(quota) / int(period)
        quota_us = read_number(folder / "cpu.cfs_quota_us")  # version 1; -1 is none
        period_us = read_number(folder / "cpu.cfs_period_us")
        if quota_us is not None and period_us:
            yield quota_us / period_us


def _memory_limits(root: Path) -> Iterator[int]:
    for folder in folders("memory", root):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limit = read_number(folder / name)
            if limit is not None:
                yield limit


def _total_memory_bytes(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * _KIBIBYTE
    raise OSError(f"{root / 'proc/meminfo'} has no MemTotal")
