"""A process that is confined as a worker is, then tries what a worker that was taken over would try.

python sandbox_attempts.py CONFINEMENT LANDLOCK FOLDER CANARY PARENT_PID: prints JSON, name → "done" or the error's name.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from videoprocess_server.execution import sandbox, sandbox_landlock

_CONFINEMENT, _LANDLOCK, FOLDER, CANARY, PARENT = sys.argv[1:] if __name__ == "__main__" else ("",) * 5
LIBC = ctypes.CDLL(None, use_errno=True)
IO_URING_SETUP, BPF_NUMBER = 425, {"x86_64": 321, "aarch64": 280}
CLONE_NEWUSER = 0x10000000
PTRACE_ATTACH = 16
PR_GET_DUMPABLE = 3


def _called(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _write(path: Path) -> None:
    path.write_bytes(b"x")


def _import_lazily() -> None:
    import colorsys  # noqa: F401  nothing else imports it


def _thread() -> None:
    ran: list[int] = []
    thread = threading.Thread(target=lambda: ran.append(1))
    thread.start()
    thread.join()
    assert ran == [1]


def _use_memory() -> None:
    with mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
        pass


def _open_many() -> None:
    held: list[int] = []
    try:
        while len(held) < 1000:
            held.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for fd in held:
            os.close(fd)


def _connect_tcp() -> None:
    with socket.socket() as made:
        made.connect(("127.0.0.1", 9))


def _rename_inside() -> None:
    _write(Path(FOLDER, "a"))
    Path(FOLDER, "deeper").mkdir()
    Path(FOLDER, "a").rename(Path(FOLDER, "deeper", "b"))
    Path(FOLDER, "deeper", "b").unlink()
    Path(FOLDER, "deeper").rmdir()


def _set_own_limit() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


ATTEMPTS: dict[str, Callable[[], object]] = {
    # what must work
    "write_inside": lambda: _write(Path(FOLDER, "inside")),
    "rename_inside": _rename_inside,
    "import": _import_lazily,
    "thread": _thread,
    "signal_itself": lambda: os.kill(os.getpid(), 0),
    "stop_writing": lambda: Path(FOLDER, "inside").unlink(),
    "descriptor": lambda: os.read(0, 1),
    # what must not
    "read_a_file": lambda: Path(CANARY).read_bytes(),
    "read_passwords": lambda: Path("/etc/passwd").read_bytes(),
    "list_a_folder": lambda: list(Path(CANARY).parent.iterdir()),
    "write_a_file": lambda: _write(Path(CANARY)),
    "make_a_file_beside": lambda: _write(Path(CANARY + ".new")),
    "remove_a_file": lambda: Path(CANARY).unlink(),
    "truncate_a_file": lambda: os.truncate(CANARY, 0),
    "climb_out": lambda: Path(FOLDER, "..", Path(CANARY).name).read_bytes(),
    "link_inside": lambda: Path(FOLDER, "link").symlink_to(CANARY),
    "hard_link_inside": lambda: os.link(CANARY, Path(FOLDER, "hard")),
    "make_a_pipe": lambda: os.mkfifo(Path(FOLDER, "pipe")),
    "read_through_service": lambda: os.open(f"/proc/{PARENT}/root{CANARY}", os.O_RDONLY),
    "read_environment_of_service": lambda: Path(f"/proc/{PARENT}/environ").read_bytes(),
    "read_memory_of_service": lambda: os.open(f"/proc/{PARENT}/mem", os.O_RDWR),
    "open_descriptors_of_service": lambda: list(Path(f"/proc/{PARENT}/fd").iterdir()),
    "signal_service": lambda: os.kill(int(PARENT), 0),
    "stop_service": lambda: os.kill(int(PARENT), signal.SIGCONT),
    "trace_service": lambda: _called(LIBC.ptrace(PTRACE_ATTACH, int(PARENT), 0, 0)),
    "socket": socket.socket,
    "socket_of_system": lambda: socket.socket(socket.AF_UNIX),
    "socket_raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW),
    "socket_netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "connect": _connect_tcp,
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "fork": _fork,
    "io_uring": lambda: _called(LIBC.syscall(IO_URING_SETUP, 4, None)),
    "bpf": lambda: _called(LIBC.syscall(BPF_NUMBER[os.uname().machine], 0, None, 0)),
    "unshare": lambda: _called(LIBC.unshare(CLONE_NEWUSER)),
    "mount": lambda: _called(LIBC.mount(b"none", FOLDER.encode(), b"tmpfs", 0, None)),
    "change_root": lambda: os.chroot(FOLDER),
    "memory": _use_memory,
    "many_files": _open_many,
    "raise_limit": _set_own_limit,
    "change_owner": lambda: os.chown(FOLDER, 12345, 12345),
    "become_another": lambda: os.setuid(12345),
}


def main() -> None:
    if _LANDLOCK == "without":
        sandbox_landlock._CREATE_RULESET = 9999  # no kernel has this call
    layers = sandbox.confine(sandbox.Confinement.from_argument(_CONFINEMENT))
    results = {"layers": ", ".join(layers), "dumpable": str(LIBC.prctl(PR_GET_DUMPABLE))}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except OSError as error:
            results[name] = errno.errorcode.get(error.errno or 0, str(error))
        except (MemoryError, ValueError) as error:
            results[name] = type(error).__name__
        else:
            results[name] = "done"
    print(json.dumps(results))


if __name__ == "__main__":
    main()
