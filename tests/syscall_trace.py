"""What a program and its children ask the kernel to do with files, as strace saw it."""

from __future__ import annotations

import itertools
import operator
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

#: all calls that change files or folders, say where the next write goes, or send an answer
CALLS = (
    "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,"
    "fallocate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,fsync,fdatasync,"
    "sync_file_range,mmap,copy_file_range,sendfile,splice,sendmsg,sendto,clone,clone3,vfork,fork"
)
_LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+|\?)")
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})*")
_DESCRIPTOR = re.compile(r"(\d+|AT_FDCWD)<([^<>]*)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OFFSET = re.compile(r"\[(\d+)\](?: => \[\d+\])?")
_UNFINISHED = " <unfinished ...>"
_KILLED = "+++ killed by SIGKILL +++"
#: in place of a result: the caller was killed in it, and whether it was done is not told
NOT_TOLD = -1


class CannotTraceError(Exception):
    """There is no strace, or the machine does not let it trace."""


@dataclass(frozen=True)
class Call:
    """One system call that succeeded, or was never told of. Line numbers of the trace order what happened."""

    process: int
    name: str
    arguments: str
    #: NOT_TOLD: see there
    result: int
    #: line at which it was entered
    begin: int
    #: line at which it had returned
    end: int
    #: of the entry, since the Unix epoch
    time_seconds: float

    @property
    def descriptor(self) -> int:
        """The first argument."""
        return int(self.arguments.split("<")[0].split(",")[0])

    @property
    def numbers(self) -> Sequence[int]:
        """The last arguments, from the end backwards, as far as they are numbers."""
        found = []
        for text in reversed(self.arguments.split(", ")):
            if not re.fullmatch(r"-?\d+", text):
                break
            found.append(int(text))
        return found

    @property
    def data(self) -> bytes:
        """What was written, of one buffer or of several."""
        return b"".join(map(_decode, _STRING.findall(self.arguments)))[: self.result]

    @property
    def paths(self) -> Sequence[str]:
        """The paths that the call names, those relative to a descriptor made absolute."""
        found = []
        at = 0
        for match in _STRING.finditer(self.arguments):
            folders = _DESCRIPTOR.findall(self.arguments, at, match.start())
            path = _decode(match[1]).decode()
            found.append(path if path.startswith("/") or not folders else f"{_text(folders[-1][1])}/{path}")
            at = match.end()
        return found

    @property
    def descriptors(self) -> Sequence[tuple[int, str]]:
        """All that are arguments, with what they are of."""
        found = _DESCRIPTOR.findall(self.arguments)
        return [(int(number), _text(path)) for number, path in found if number.isdigit()]

    @property
    def offsets(self) -> Sequence[int]:
        """Those that the call takes by their addresses, as they were when it was entered."""
        return [int(text) for text in _OFFSET.findall(self.arguments)]

    @property
    def descriptor_path(self) -> str:
        """What the first argument, or the result, is a descriptor of."""
        match = _DESCRIPTOR.search(self.arguments)
        return _text(match[2]) if match else ""


def command(trace: Path) -> Sequence[str]:
    """What to put before a command to have it traced; the process is the command's, strace is beside it.

    Raises:
        CannotTraceError: with the reason.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise CannotTraceError("there is no strace on this machine")
    options = ["-f", "-q", "-ttt", "-yy", "-xx", "-s", str(1 << 24), "--seccomp-bpf", "-e", f"trace={CALLS}"]
    tried = subprocess.run(
        [strace, *options, "-o", str(trace), "true"], check=False, capture_output=True, text=True
    )
    if tried.returncode != 0 or "exited with 0" not in trace.read_text():
        raise CannotTraceError(f"strace cannot trace here: {tried.stderr.strip()}")
    return [strace, "-D", *options, "-e", "signal=SIGKILL", "-o", str(trace)]


def wait_for_the_end(trace: Path, timeout_seconds: float) -> None:
    """strace ends, and has written everything, a little after all that it traces.

    Raises:
        TimeoutError: it has not.
    """
    deadline = time.monotonic() + timeout_seconds
    while any(str(trace) in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{trace} has no end")
        time.sleep(0.02)


def read_trace(trace: Path) -> list[Call]:
    """The calls that succeeded, in the order in which they returned.

    Of those that the caller was killed in, only the files themselves tell whether they were done: so they are asked, and
    this is to be called before anybody else writes there.
    """
    calls = [told for call in _whole_calls(trace) if (told := _told(call)) is not None]
    process_of = _processes(calls)
    return [_of_process(call, process_of) for call in calls]


def _whole_calls(trace: Path) -> Iterator[Call]:
    """Puts calls together that other threads' lines come into; `process` is still the thread."""
    entered: dict[int, tuple[int, float, str]] = {}
    with trace.open(encoding="ascii", errors="replace") as lines:
        for number, line in enumerate(lines):
            match = _LINE.match(line)
            if match is None:
                continue
            thread, time_seconds, text = int(match[1]), float(match[2]), match[3]
            begin = number
            if text == _KILLED and thread in entered:
                begin, time_seconds, head = entered.pop(thread)
                text = f"{head}) = ?"
            if text.endswith(_UNFINISHED):
                entered[thread] = (number, time_seconds, text.removesuffix(_UNFINISHED))
                continue
            if resumed := _RESUMED.match(text):
                if thread not in entered:
                    continue
                begin, time_seconds, head = entered.pop(thread)
                text = head + resumed[2]
            called = _CALL.match(text)
            if called and (called[3].isdigit() or text.endswith("= ?")):
                result = NOT_TOLD if called[3] == "?" else int(called[3])
                yield Call(thread, called[1], called[2], result, begin, number, time_seconds)


def _told(call: Call) -> Call | None:
    """The call as what it did, by what is there now; None where it did nothing that anybody could miss."""
    if call.result != NOT_TOLD:
        return call
    if call.name in {"sendmsg", "sendto"} or call.descriptor_path.startswith("TCP"):
        return replace(call, result=0)  # a client may have had it
    if call.name == "pwrite64" and call.descriptor_path.startswith("/"):
        return _written(call)
    if call.name == "openat" and "O_CREAT" in call.arguments and "O_TRUNC" not in call.arguments:
        return call if Path(call.paths[0]).exists() else None  # no descriptor, but a name
    if call.name in _IS_DONE and _IS_DONE[call.name](*map(Path, call.paths)):
        return replace(call, result=0)
    return None


def _written(call: Call) -> Call | None:
    """As much of a write as is in the file; it may have been there before, and then was written again."""
    meant = b"".join(map(_decode, _STRING.findall(call.arguments)))
    try:
        with Path(call.descriptor_path).open("rb") as file:
            file.seek(call.numbers[0])
            found = file.read(len(meant))
    except FileNotFoundError:
        return None
    count = sum(1 for _ in itertools.takewhile(bool, map(operator.eq, meant, found)))
    return replace(call, result=count) if count else None


#: of calls that change names, whether they were done
_IS_DONE: Mapping[str, Callable[..., bool]] = {
    "mkdir": Path.is_dir,
    "unlink": lambda path: not path.exists(),
    "unlinkat": lambda path: not path.exists(),
    "rmdir": lambda path: not path.exists(),
    "rename": lambda old, new: new.exists() and not old.exists(),
    "renameat2": lambda old, new: new.exists() and not old.exists(),
    "link": lambda _, new: new.exists(),
    "linkat": lambda _, new: new.exists(),
}


def _processes(calls: Sequence[Call]) -> Mapping[int, int]:
    """Each thread's process."""
    makers = {call.result: call for call in calls if call.name in {"clone", "clone3", "fork", "vfork"}}
    process_of: dict[int, int] = {}

    def find(thread: int) -> int:
        if thread not in process_of:
            maker = makers.get(thread)
            shares = maker is not None and "CLONE_THREAD" in maker.arguments
            process_of[thread] = find(maker.process) if maker is not None and shares else thread
        return process_of[thread]

    for call in calls:
        find(call.process)
    return process_of


def _of_process(call: Call, process_of: Mapping[int, int]) -> Call:
    process = process_of[call.process]
    return replace(call, process=process)


def _decode(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(path: str) -> str:
    """A descriptor's path; sockets and the like are not in hexadecimal digits."""
    return _decode(path).decode() if path and _HEX.fullmatch(path) else path
