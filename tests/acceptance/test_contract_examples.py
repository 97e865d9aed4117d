"""proto/README.md: what it says to type makes code of the contract, and finds no fault in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from buf_module import ROOT, find_buf, readme_blocks

pytestmark = pytest.mark.slow

BLOCKS = readme_blocks()
TYPING_SECONDS = 600.0
#: a word of a block → programs that it needs
NEEDS = {
    "grpc_cpp_plugin": ("protoc", "grpc_cpp_plugin"),
    "buf.gen.cpp.yaml": ("protoc", "grpc_cpp_plugin"),
    "buf.gen.go.yaml": ("go",),
    "buf.gen.kotlin.yaml": ("protoc", "mvn", "java"),
}
#: a template → a file that it makes, and what must be in that
MADE = {
    "buf.gen.cpp.yaml": ("cpp/videoprocess/v1/file_transfer.grpc.pb.h", "class FileTransferService"),
    "buf.gen.go.yaml": ("go/videoprocess/v1/file_transfer_grpc.pb.go", "type FileTransferServiceClient interface"),
    "buf.gen.kotlin.yaml": ("kotlin/videoprocess/v1/FileTransferGrpcKt.kt", "class FileTransferServiceCoroutineStub"),
}  # fmt: skip


def _title(block: str) -> str:
    """The last file or command that a block names."""
    return re.findall(r"[\w.]+", block.strip().splitlines()[-1])[-2]


@pytest.mark.parametrize("block", BLOCKS, ids=_title)
def test_what_the_page_says_to_type_works(block: str) -> None:
    if not (buf := find_buf()) and "buf " in block:
        pytest.skip("no buf here, and no npm to fetch it")
    needed = {program for word, programs in NEEDS.items() if word in block for program in programs}
    if missing := sorted(program for program in needed if shutil.which(program) is None):
        pytest.skip(f"no {', '.join(missing)} here")
    made = [ROOT / "build" / "generated" / MADE[word][0] for word in MADE if word in block]
    for path in made:
        path.unlink(missing_ok=True)
    environment = {**os.environ, "PATH": f"{Path(buf).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ("bash", "-euo", "pipefail", "-c", block),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TYPING_SECONDS,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    for word, (path, text) in MADE.items():
        if word in block:
            assert text in (ROOT / "build" / "generated" / path).read_text()


def test_every_template_is_typed_somewhere() -> None:
    templates = {path.name for path in (ROOT / "proto").glob("buf.gen.*.yaml")}
    assert templates == set(MADE)
    assert all(any(template in block for block in BLOCKS) for template in templates)
