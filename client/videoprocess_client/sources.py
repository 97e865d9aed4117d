"""What Prepare can be given: the contract's file descriptors, and the streams of a session."""

from __future__ import annotations

from pathlib import PurePath
from typing import IO, Any

from videoprocess.v1 import hdi_enums_pb2, types_pb2
from videoprocess_client.enums import EncodeType, StreamIntent
from videoprocess_client.passed_files import OpenFile


def uploaded(upload_id: str) -> types_pb2.FileDescriptor:
    """The file of a finished upload of the same user."""
    return types_pb2.FileDescriptor(upload_id=upload_id)


def shared(root: str, path: str) -> types_pb2.FileDescriptor:
    """A file on the server's side, read in place.

    Args:
        root: Name of one of the server's shared roots.
        path: Path below the root, `/` as separator.
    """
    return types_pb2.FileDescriptor(shared_path=types_pb2.SharedPath(root=root, path=path))


def passed(fd_token: str) -> types_pb2.FileDescriptor:
    """A descriptor that was passed over the server's Unix socket, by its token: single use, valid for 60 s."""
    return types_pb2.FileDescriptor(fd_token=fd_token)


def opened(file: IO[Any] | int, file_name: str | None = None) -> OpenFile:
    """A file that is open for reading here, for a service on the same machine: it is passed to it, and copied there.

    All of the file counts, wherever it is read at the moment, and that does not change. It may have been deleted, or never
    have had a name.

    Args:
        file: A file with a descriptor, or the descriptor. Keep it open until Prepare has answered.
        file_name: What it is called. None: the file's own name.
    """
    if file_name is None:
        name = getattr(file, "name", "")
        file_name = PurePath(name).name if isinstance(name, str) else ""
    return OpenFile(file, file_name)


def stream(
    stream_id: int,
    intent: StreamIntent = StreamIntent.VIDEO,
    *,
    encode_type: EncodeType = EncodeType.NULL,
    width: int = 0,
    height: int = 0,
    directory: types_pb2.SharedDirectory | None = None,
) -> types_pb2.StreamInfoV11:
    """A stream for `Session.create_streams`.

    Args:
        stream_id: Number of the stream, unique in the session.
        intent: What it is for.
        encode_type: How its output is encoded; NULL is the usual form for the intent.
        width: Width of the output in pixels; 0 is the source's.
        height: Height of the output in pixels; 0 is the source's.
        directory: A folder of the server that its files are written to as well; see `directory`.
    """
    info = types_pb2.StreamInfo(
        stream_id=stream_id,
        width=width,
        height=height,
        intent=hdi_enums_pb2.StreamIntent.ValueType(intent),
        encode_type=hdi_enums_pb2.EncodeType.ValueType(encode_type),
    )
    if directory is not None:
        info.buffer_queue.directory.CopyFrom(directory)
    return types_pb2.StreamInfoV11(v1_0=info)


def directory(
    root: str, path: str = "", *, name_template: str = "", replace_existing: bool = False
) -> types_pb2.SharedDirectory:
    """A folder of the server, for `stream`.

    Args:
        root: Name of one of the server's writable shared roots.
        path: Path below the root, `/` as separator; empty: the root itself.
        name_template: What files are called, with `{source}`, `{intent}`, `{stream_id}`, `{job_id}`, `{index}` and
            `{ext}` filled in; empty: the server's.
        replace_existing: Replace files of these names instead of failing with OUTPUT_EXISTS.
    """
    return types_pb2.SharedDirectory(
        root=root, path=path, name_template=name_template, replace_existing=replace_existing
    )
