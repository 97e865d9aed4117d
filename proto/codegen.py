"""Makes the Python code of the protos: messages, stubs and servicers, each with types.

`make proto` runs this file, and the build hook calls `generate`, so both make the same code. Nothing outside this Python
installation is used: protoc comes with grpcio-tools, its plugins for types with mypy-protobuf.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


class CodegenError(Exception):
    """Code could not be made from the protos."""


def generate(root: Path) -> list[Path]:
    """Makes the code of all protos below `root` and writes it beside them.

    Files whose text is unchanged are not touched, and generated files whose proto is gone are removed. A file is replaced as
    a whole, so a program that imports it at the same time reads the old or the new one.

    Args:
        root: The folder that proto imports and Python imports start from; `proto` of the repository.

    Returns:
        The generated files, sorted.

    Raises:
        CodegenError: A proto does not compile, or a plugin is not installed.
    """
    root = root.resolve()
    protos = sorted(path.relative_to(root) for path in root.rglob("*.proto"))
    if not protos:
        raise CodegenError(f"no protos below {root}")
    with tempfile.TemporaryDirectory(prefix="videoprocess-proto-") as folder:
        made = Path(folder)
        _compile(root, protos, made)
        generated = sorted(path.relative_to(made) for path in made.rglob("*.py*"))
        for path in generated:
            _replace_if_changed(root / path, (made / path).read_bytes())
    _remove_others(root, keep=set(generated))
    return [root / path for path in generated]


def _compile(root: Path, protos: list[Path], out: Path) -> None:
    """Runs protoc inside this process; it tells what is wrong on stderr."""
    arguments = [
        "protoc",
        f"--proto_path={root}",
        f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",  # google/protobuf/*.proto
        *(f"--plugin={name}={_plugin(name)}" for name in PLUGINS),
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet,readable_stubs:{out}",
        f"--mypy_grpc_out=quiet,readable_stubs,only_async:{out}",  # client and server are both grpc.aio
        *(path.as_posix() for path in protos),
    ]
    if protoc.main(arguments) != 0:
        raise CodegenError(f"protoc refused the protos below {root}")


def _plugin(name: str) -> Path:
    """Finds a plugin of the mypy-protobuf that this Python imports.

    Its own list of installed files tells where. Neither PATH nor the folder of `sys.executable` is safe: pip's build isolation
    installs into a folder of its own beside a Python of somewhere else.
    """
    for file in importlib.metadata.files("mypy-protobuf") or ():
        if file.name in {name, f"{name}.exe"}:
            return Path(str(file.locate())).resolve()
    raise CodegenError(f"{name} is not installed: pip install mypy-protobuf")


def _replace_if_changed(path: Path, text: bytes) -> None:
    if path.exists() and path.read_bytes() == text:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(text)
    temporary.replace(path)


def _remove_others(root: Path, keep: set[Path]) -> None:
    """Removes generated files that no proto makes any more."""
    for path in root.rglob("*_pb2*"):
        if path.name.endswith(GENERATED_SUFFIXES) and path.relative_to(root) not in keep:
            path.unlink()


def main() -> int:
    """Makes the code beside the protos of this folder and says what was made."""
    try:
        generated = generate(Path(__file__).parent)
    except CodegenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(generated)} files in {generated[0].parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
