"""Privileges: what a worker of a privileged service gives up (man 7 capabilities)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3: Final = 0x2008_0522
#: opens files whatever their mode
_CAP_DAC_OVERRIDE: Final = 1
_HEADER: Final = struct.Struct("=Ii")
#: effective, permitted, inheritable: the low 32 capabilities, then the high ones
_SETS: Final = struct.Struct("=IIIIII")


def set_no_new_privileges() -> None:
    """Let no program that is executed have more privileges than this one."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_not_dumpable() -> None:
    """Let no other process of the same user read this one's memory or trace it."""
    prctl(_PR_SET_DUMPABLE, 0)


def drop_capabilities(needed_folders: Sequence[str]) -> None:
    """Give up all capabilities, but the one to open files in these folders where they are another user's.

    Args:
        needed_folders: must stay writable.
    """
    held = _effective()
    if not held:
        return
    number = 0
    while prctl(_PR_CAPBSET_READ, number, check=False) >= 0:  # as many as the kernel knows
        prctl(_PR_CAPBSET_DROP, number, check=False)  # takes a privilege itself
        number += 1
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, check=False)
    kept = held & (1 << _CAP_DAC_OVERRIDE)
    _set(effective=0, permitted=kept)
    if kept and all(os.access(folder, os.W_OK | os.X_OK, effective_ids=True) for folder in needed_folders):
        kept = 0
    _set(effective=kept, permitted=kept)


def prctl(option: int, value: int, *, check: bool = True) -> int:
    """Ask the kernel about this process, or change it: man 2 prctl.

    Raises:
        OSError: it failed, unless `check` is off.
    """
    result: int = ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    if check and result < 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
    return result


def _effective() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return 0


def _set(*, effective: int, permitted: int) -> None:
    low = 0xFFFF_FFFF
    sets = _SETS.pack(effective & low, permitted & low, 0, effective >> 32, permitted >> 32, 0)
    if ctypes.CDLL(None, use_errno=True).capset(_HEADER.pack(_CAPABILITY_VERSION_3, 0), sets) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")
