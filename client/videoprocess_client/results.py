"""The files that a job made, fetched into a directory or beside each other."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from videoprocess.v1.report_pb2 import Artifact
from videoprocess_client.jobs import find_video
from videoprocess_client.transfer_progress import TransferProgress

if TYPE_CHECKING:
    from videoprocess_client.client import Client


@dataclass(frozen=True)
class FetchedFile:
    """A file of a job, on this machine."""

    path: Path
    #: as the service described it, with size in bytes and SHA-256
    artifact: Artifact


def place(artifacts: Sequence[Artifact], output: Path) -> list[FetchedFile]:
    """Where the files of a job go, the main one first: the enhanced video, or else the first of all.

    Args:
        artifacts: The files, at least one.
        output: A directory that is there: all go into it by their own names. Else where the main one goes; the others go
            beside it, named after it: `out.mp4`, `out_cover.jpg`, `out_thumbnail_01.jpg`.
    """
    main = find_video(artifacts) or artifacts[0]
    ordered = [main, *(artifact for artifact in artifacts if artifact is not main)]
    if output.is_dir():
        return [FetchedFile(output / _name(artifact), artifact) for artifact in ordered]
    common = _common_stem(ordered)
    beside = [
        FetchedFile(output.with_name(f"{output.stem}_{_name(artifact).removeprefix(common)}"), artifact)
        for artifact in ordered[1:]
    ]
    return [FetchedFile(output, main), *beside]


async def fetch_all(
    client: Client, files: Sequence[FetchedFile], *, overwrite: bool, on_progress: TransferProgress | None
) -> list[FetchedFile]:
    """Fetch files, each of which appears whole and with the right SHA-256, or not at all.

    Args:
        client: Of the service.
        files: What goes where.
        overwrite: Whether files that are there are replaced.
        on_progress: Called with bytes fetched so far and bytes of all files.

    Raises:
        FileExistsError: One of the files is there, and may not be replaced. Nothing was fetched then.
    """
    if not overwrite:
        refuse_existing([file.path for file in files])
    total = sum(file.artifact.size_bytes for file in files)
    fetched: list[FetchedFile] = []
    for file in files:
        before = sum(done.artifact.size_bytes for done in fetched)

        def tell(done: int, _size: int, before: int = before) -> None:
            if on_progress is not None:
                on_progress(before + done, total)

        artifact = await client.download(
            file.artifact.artifact_id, file.path, overwrite=overwrite, on_progress=tell
        )
        fetched.append(FetchedFile(file.path, artifact))
    return fetched


def refuse_existing(paths: Sequence[Path]) -> None:
    """Return if none of the paths is taken.

    Raises:
        FileExistsError: One is.
    """
    for path in paths:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _name(artifact: Artifact) -> str:
    """A name without directories, whatever the service said."""
    return PurePath(artifact.file_name).name or artifact.artifact_id


def _common_stem(artifacts: Sequence[Artifact]) -> str:
    """What all names begin with, up to a `_`: the name of the source."""
    names = [_name(artifact) for artifact in artifacts]
    first, last = min(names), max(names)
    same = next(
        (at for at, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1), len(first)
    )
    head, separator, _ = first[:same].rpartition("_")
    return head + separator
