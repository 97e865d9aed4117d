"""docs/grpcurl.md: a recipe for every call, and each works as the page says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from grpcurl_page import Recipe, called_methods, find_grpcurl, read_recipes
from service_harness import PATIENCE_SECONDS, Server

#: between the output of two blocks
MARK = "==== end of block"


def test_there_is_a_recipe_for_every_call_that_reflection_knows(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        reflection = ProtoReflectionDescriptorDatabase(channel)
        offered = set()
        for service in reflection.get_services():
            _, _, name = service.rpartition(".")
            file = reflection.FindFileContainingSymbol(service)
            (found,) = [each for each in file.service if each.name == name]
            offered |= {f"{service}/{method.name}" for method in found.method}
    assert len(offered) > 15
    assert offered == called_methods()


@pytest.mark.parametrize(
    ("answer", "printed", "is_there"),
    [
        ('"a": 1,', '  "a": 1\n', True),
        ('"a": "…"', '  "a": "b c",\n', True),
        ('"a_b": "a_b"', '  "aB": "a_b"', True),
        ('"a_b": "a_b"', '  "a_b": "aB"', False),
        ('"a": "…"', '  "a": 1,\n', False),
        ('"a": 1', '  "a": 12\n', False),
    ],
)
def test_an_answer_is_looked_for_line_by_line(answer: str, printed: str, is_there: bool) -> None:
    assert is_there is (not Recipe("", (answer,)).unanswered(printed))


@pytest.mark.slow
def test_every_recipe_works(tmp_path: Path, clips: Path) -> None:
    if not (grpcurl := find_grpcurl()):
        pytest.skip("no grpcurl here, and no Go to make one")
    shutil.copy(clips / "flower_540p_5s.mp4", tmp_path / "holiday.mp4")
    recipes = read_recipes()
    script = "set -euo pipefail\n" + "".join(f"{recipe.commands}echo '{MARK}'\n" for recipe in recipes)
    with Server(tmp_path / "data", "--workers", "1") as server:
        environment = {
            **os.environ,
            "A": server.address,
            "PATH": f"{Path(grpcurl).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            ("bash", "-c", script),
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    printed = done.stdout.split(MARK)
    assert done.returncode == 0, f"{recipes[len(printed) - 1].commands}\n{printed[-1]}"
    for recipe, answer in zip(recipes, printed, strict=False):
        assert recipe.unanswered(answer) == [], f"{recipe.commands}\n{answer[-4000:]}"
