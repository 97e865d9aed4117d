"""Every command of the documents runs: as a reader would type it, against a real service, or it stands below with a reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from media_factory import Colours, make_clip
from service_harness import Server
from shell_fences import ROOT, Fence, fences, run

PAGES = sorted(str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
#: pages whose commands build on one another; of others each fence begins with the same files
READ_FROM_TOP_TO_BOTTOM = ("docs/getting-started.md",)
#: page and begin of a fence's first line → why it is not run here
EXCEPTIONS = {
    ("README.md", "grpcurl"): "follows without end: docs/grpcurl.md has the calls",
    (
        "docs/access.md",
        "videoprocess-server serve --listen 0.0.0.0",
    ): "serves the network: tests/acceptance/test_tls.py",
    (
        "docs/shared-roots.md",
        "videoprocess-server serve",
    ): "an operator's folders: tests/unit/test_settings.py",
    ("docs/settings.md", ".venv/bin/pip install"): "installs what `make setup` has installed already",
    ("docs/backup-and-upgrade.md", "mkdir -p backup"): "tests/acceptance/test_backup.py runs it",
    ("docs/backup-and-upgrade.md", "mv data"): "tests/acceptance/test_backup.py runs it",
    ("docs/grpcurl.md", ""): "tests/acceptance/test_grpcurl.py runs all of the page",
    ("docs/deployment.md", "docker"): "needs a Docker engine: make image-test builds the image and runs it",
    ("docs/deployment.md", "mkdir -p deploy/secrets"): "gives files to another group, as root",
    (
        "docs/deployment.md",
        "cd deploy/secrets",
    ): "gives a file to another group, as root, and needs a Docker engine",
    (
        "docs/deployment.md",
        "kubectl",
    ): "needs a cluster: tests/unit/test_image_deploy.py, test_replica_deploy.py",
    ("docs/s3.md", ""): "needs a bucket: tests/acceptance/test_s3_service.py",
    ("docs/postgresql.md", ""): "needs a server: tests/acceptance/test_postgres_service.py",
    ("docs/scaling.md", ""): "needs both servers: tests/replicas/test_moving_over.py",
    ("docs/ray.md", "pip install"): "installs 80 MB: make test-scale does it from a locked list",
    ("docs/ray.md", "export RAY_memory_monitor"): "needs machines: make test-scale starts two nodes",
    ("docs/ray.md", "docker"): "needs a cluster: tests/unit/test_kuberay_deploy.py",
    ("docs/observability.md", ".venv/bin/pip install"): "installs, and serves: tests/rpc/test_tracing.py",
}
if shutil.which("jq") is None:
    EXCEPTIONS["docs/observability.md", "jq"] = "needs jq, which is not here"


def _exception(fence: Fence) -> str | None:
    return next(
        (
            reason
            for (page, begin), reason in EXCEPTIONS.items()
            if page == fence.page and fence.text.startswith(begin)
        ),
        None,
    )


RUN_PAGES = [page for page in PAGES if any(_exception(fence) is None for fence in fences(page))]


@pytest.fixture(name="media", scope="module")
def _media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The videos that documents speak of, as short as can be."""
    folder = tmp_path_factory.mktemp("videos")
    make_clip(folder / "holiday.mp4", frames=5, width=1280, height=720, audio="aac")
    for name in ("night.mp4", "walk.mp4", "selfie.mp4"):
        shutil.copy(folder / "holiday.mp4", folder / name)
    hdr = Colours(primaries=9, transfer=18, matrix=9)
    make_clip(folder / "hdr.mov", frames=5, codec="libx265", pix_fmt="yuv420p10le", colours=hdr)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES)
def test_the_commands_of_a_page_run(page: str, media: Path, tmp_path: Path) -> None:
    reader = tmp_path / "reader"
    with Server(tmp_path / "data", "--workers", "1") as server:
        for fence in fences(page):
            if not reader.exists():
                shutil.copytree(media, reader)
                (reader / "data").symlink_to(server.data_dir)
                (reader / "service.log").symlink_to(server.log_path)
            if _exception(fence) is None:
                run(fence, reader, server.address)
            if page not in READ_FROM_TOP_TO_BOTTOM:
                shutil.rmtree(reader)


def test_every_exception_is_of_a_command_that_is_there() -> None:
    there = [(fence.page, fence.text) for page in PAGES for fence in fences(page)]
    unused = [
        (page, begin)
        for page, begin in EXCEPTIONS
        if not any(page == other and text.startswith(begin) for other, text in there)
    ]
    assert unused == []


def test_a_command_that_fails_fails_its_test(tmp_path: Path) -> None:
    for text in ("false\ntrue\n", "false | true\n", "echo $UNSET_BY_ALL\n", "videoprocess no-such-command\n"):
        with pytest.raises(AssertionError, match="ended with"):
            run(Fence("page", 1, "sh", text), tmp_path, "127.0.0.1:1")
