"""The programs of examples/: whether this machine can build them, and where they are when it has."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "examples"
#: a clean machine compiles gRPC's headers, or fetches modules
BUILD_SECONDS = 1200.0
_PROTOC = f"{sys.executable} -m grpc_tools.protoc"


@dataclass(frozen=True)
class Example:
    """How one of them is built.

    Attributes:
        name: of its folder.
        programs: what building needs on the PATH.
        libraries: what building needs, by the names that pkg-config knows.
        needs: what to install for all that, as examples/README.md has it.
        commands: what builds it, one after another.
    """

    name: str
    programs: tuple[str, ...]
    libraries: tuple[str, ...]
    needs: str
    commands: tuple[tuple[str, ...], ...]

    @property
    def program(self) -> Path:
        """What is built."""
        return BUILD / self.name / "enhance"

    def missing(self) -> str:
        """What this machine lacks to build it; empty when nothing."""
        lacks = [program for program in self.programs if shutil.which(program) is None]
        if not lacks:
            lacks = [library for library in self.libraries if not _has_library(library)]
        return f"no {', '.join(lacks)} here: install {self.needs}" if lacks else ""

    def build(self) -> Path:
        """Build it, or what has changed of it; one process at a time."""
        self.program.parent.mkdir(parents=True, exist_ok=True)
        with (BUILD / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for command in self.commands:
                done = subprocess.run(
                    command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_SECONDS
                )
                assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return self.program


def _has_library(name: str) -> bool:
    return subprocess.run(["pkg-config", "--exists", name]).returncode == 0


EXAMPLES = (
    Example(
        "cpp",
        programs=("cmake", "c++", "make", "pkg-config", "protoc", "grpc_cpp_plugin"),
        libraries=("grpc++", "protobuf", "libcrypto"),
        needs="cmake g++ make pkg-config protobuf-compiler protobuf-compiler-grpc libgrpc++-dev libprotobuf-dev libssl-dev",
        commands=(
            ("cmake", "-S", "examples/cpp", "-B", str(BUILD / "cpp")),
            ("cmake", "--build", str(BUILD / "cpp")),
        ),
    ),
    Example(
        "go",
        programs=("go", "make"),
        libraries=(),
        needs="Go 1.26 or newer, and protoc",
        commands=(("make", "-C", "examples/go", f"OUT={BUILD / 'go'}", f"PROTOC={_PROTOC}"),),
    ),
)
