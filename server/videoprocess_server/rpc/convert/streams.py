"""Streams: what CreateStreams asks for, and what Prepare describes."""

from __future__ import annotations

from collections.abc import Sequence

from videoprocess.v1 import hdi_enums_pb2, types_pb2
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.descriptions import StreamDescription
from videoprocess_server.model.hdi import EncodeType, ExtendedStreamInfoType, StreamIntent
from videoprocess_server.model.settings_snapshot import ExtendedStream, SharedDirectory, StreamInfo
from videoprocess_server.rpc.convert.fields import at_most, invalid, member, missing

#: entries a request may have; a session takes fewer streams (STREAM_LIMIT)
MAX_STREAMS = 256


def stream_infos(messages: Sequence[types_pb2.StreamInfoV11]) -> list[StreamInfo]:
    """Return what CreateStreams asks for.

    Raises:
        VideoProcessError: MISSING_FIELD, INVALID_FIELD, METHOD_NOT_SUPPORTED.
    """
    at_most(len(messages), MAX_STREAMS, "stream_infos")
    return [_stream_info(message, f"stream_infos[{position}]") for position, message in enumerate(messages)]


def stream_ids(messages: Sequence[types_pb2.StreamInfoV11]) -> list[int]:
    """Return what ReleaseStreams names.

    Raises:
        VideoProcessError: MISSING_FIELD where there is no `v1_0`: an absent one is not stream 0.
    """
    at_most(len(messages), MAX_STREAMS, "stream_infos")
    for position, message in enumerate(messages):
        if not message.HasField("v1_0"):
            raise missing(f"stream_infos[{position}].v1_0")
    return [message.v1_0.stream_id for message in messages]


def _stream_info(message: types_pb2.StreamInfoV11, field: str) -> StreamInfo:
    if not message.HasField("v1_0"):
        raise missing(f"{field}.v1_0")
    stream = message.v1_0
    if not stream.HasField("intent"):
        raise missing(f"{field}.v1_0.intent")
    at_most(len(message.extended_stream_infos), MAX_STREAMS, f"{field}.extended_stream_infos")
    return StreamInfo(
        stream_id=stream.stream_id,
        intent=member(StreamIntent, stream.intent, f"{field}.v1_0.intent"),
        encode_type=member(EncodeType, stream.encode_type, f"{field}.v1_0.encode_type"),
        width=stream.width,
        height=stream.height,
        format=stream.format,
        dataspace=stream.dataspace,
        tunneled_mode=stream.tunneled_mode,
        min_frame_duration=stream.min_frame_duration,
        extended=tuple(
            _extended(further, f"{field}.extended_stream_infos[{position}]")
            for position, further in enumerate(message.extended_stream_infos)
        ),
        directory=_directory(stream.buffer_queue, f"{field}.v1_0.buffer_queue"),
    )


def _extended(message: types_pb2.ExtendedStreamInfo, field: str) -> ExtendedStream:
    if not message.HasField("type"):
        raise missing(f"{field}.type")
    for name, length in (("width", message.width), ("height", message.height)):
        if length < 0:
            raise invalid(f"{field}.{name}", "is negative")
    if message.buffer_queue.WhichOneof("target") == "directory":
        raise VideoProcessError(
            "METHOD_NOT_SUPPORTED",
            f"{field}.buffer_queue: an extended stream has no files of its own; name the directory in v1_0",
            {f"{field}.buffer_queue.directory": "is not supported here"},
        )
    return ExtendedStream(
        type=member(ExtendedStreamInfoType, message.type, f"{field}.type"),
        width=message.width,
        height=message.height,
        format=message.format,
        dataspace=message.dataspace,
    )


def _directory(queue: types_pb2.BufferQueue, field: str) -> SharedDirectory | None:
    """Return where a stream's files are written to; whether they can be, the engine looks."""
    if queue.WhichOneof("target") != "directory":
        return None
    directory = queue.directory
    if not directory.root:
        raise missing(f"{field}.directory.root")
    return SharedDirectory(
        root=directory.root,
        path=_plain(directory.path),
        name_template=directory.name_template,
        replace_existing=directory.replace_existing,
    )


def _plain(path: str) -> str:
    """Return a relative path in its one form, so that two ways to write a folder are no two folders."""
    if path.startswith("/"):
        return path  # which the engine refuses
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def description(described: StreamDescription) -> types_pb2.StreamDescription:
    """Return the message of a stream that Prepare found."""
    return types_pb2.StreamDescription(
        stream_id=described.stream_id,
        type=hdi_enums_pb2.MediaStreamType.ValueType(described.type),
        pixel_format=described.pixel_format,
        width=described.width,
        height=described.height,
        dataspace=described.dataspace,
    )
