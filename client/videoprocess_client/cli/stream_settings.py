"""The streams and the settings that the command commits, in the form that is remembered."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import msgspec
from google.protobuf.message import DecodeError

from videoprocess.v1 import types_pb2
from videoprocess.v1.mode_setting_pb2 import ModeSetting
from videoprocess_client.cli.picture_options import described
from videoprocess_client.enums import EncodeType, StreamIntent
from videoprocess_client.session import Session
from videoprocess_client.sources import directory, stream

STREAM_ID = 0
#: streams of a session; those of this command are numbered from 0
MAX_STREAMS = 16


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What one stream asks for."""

    intent: StreamIntent = StreamIntent.VIDEO
    encode_type: EncodeType = EncodeType.NULL
    #: pixels; 0: the source's, or what suits the intent
    width: int = 0
    height: int = 0

    def message(self, stream_id: int) -> types_pb2.StreamInfoV11:
        """The stream as CreateStreams takes it."""
        return stream(
            stream_id, self.intent, encode_type=self.encode_type, width=self.width, height=self.height
        )

    def describe(self) -> str:
        """What is asked for, as the value of `--stream`."""
        parts = [self.intent.name.lower().replace("_", "-")]
        if self.encode_type:
            parts.append(self.encode_type.name.lower())
        if self.width or self.height:
            parts.append(f"{self.width}x{self.height}")
        return ":".join(parts)


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of a shared root of the server that results are written to as well."""

    root: str
    #: below the root; "": the root itself
    path: str = ""
    #: "": the server's
    name_template: str = ""
    replace_existing: bool = False

    def message(self) -> types_pb2.SharedDirectory:
        """It as CreateStreams takes it."""
        return directory(
            self.root, self.path, name_template=self.name_template, replace_existing=self.replace_existing
        )

    def options(self) -> Iterator[str]:
        """What is asked for, as options of the command."""
        yield f"--publish {shlex.quote(f'{self.root}:{self.path}' if self.path else self.root)}"
        if self.name_template:
            yield f"--publish-as {shlex.quote(self.name_template)}"
        if self.replace_existing:
            yield "--publish-over"


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the streams and their settings ask for."""

    #: none: one VIDEO stream, as the next three fields say
    streams: tuple[StreamSpec, ...] = ()
    encode_type: EncodeType = EncodeType.NULL
    #: of the result in pixels; 0: the source's
    width: int = 0
    height: int = 0
    #: OpenHarmony's serialised camera metadata
    metadata: bytes = b""
    #: a serialised `ModeSetting`; not together with `metadata`
    mode_setting: bytes = b""
    #: of all streams; None: results are kept for Download only
    publication: Publication | None = None

    def __post_init__(self) -> None:
        try:
            ModeSetting.FromString(self.mode_setting)
        except DecodeError as error:
            raise ValueError("mode_setting is not a ModeSetting") from error

    def settings(self) -> bytes | ModeSetting | None:
        """The settings as `Session.commit_streams` takes them."""
        return ModeSetting.FromString(self.mode_setting) if self.mode_setting else self.metadata or None

    async def commit(self, session: Session) -> None:
        """Make them the session's, instead of those that this command committed before."""
        await session.release_streams(range(MAX_STREAMS))
        await session.create_streams(self.messages())
        await session.commit_streams(self.settings())

    def messages(self) -> list[types_pb2.StreamInfoV11]:
        """The streams as CreateStreams takes them, numbered from 0."""
        alone = StreamSpec(encode_type=self.encode_type, width=self.width, height=self.height)
        made = [spec.message(number) for number, spec in enumerate(self.streams or (alone,), STREAM_ID)]
        if self.publication is not None:
            for message in made:
                message.v1_0.buffer_queue.directory.CopyFrom(self.publication.message())
        return made

    def describe(self) -> str:
        """What is asked for, as options of the command; empty for the defaults."""
        return " ".join(self._options())

    def _options(self) -> Iterator[str]:
        if self.metadata:
            yield "--settings-file ..."
        setting = ModeSetting.FromString(self.mode_setting)
        yield from described(setting)
        if self.encode_type:
            yield f"--codec {self.encode_type.name.lower()}"
        if self.width:
            yield f"--size {self.width}x{self.height}"
        if setting.HasField("watermark"):
            yield "--watermark ..."
        for spec in self.streams:
            yield f"--stream {spec.describe()}"
        if self.publication is not None:
            yield from self.publication.options()


def pack(
    settings: bytes | ModeSetting | None,
    encode_type: EncodeType,
    width: int,
    height: int,
    streams: Sequence[StreamSpec] = (),
    publication: Publication | None = None,
) -> StreamSettings:
    """The form that is remembered.

    Args:
        settings: Serialised camera metadata, the typed form, or None for the defaults.
        encode_type: Codec of the result; NULL: the source's.
        width: Width of the result in pixels; 0: the source's.
        height: Height of the result in pixels; 0: the source's.
        streams: What is made; none: one VIDEO stream of that codec and size.
        publication: Where on the server it is written to as well; None: nowhere.
    """
    typed = settings.SerializeToString(deterministic=True) if isinstance(settings, ModeSetting) else b""
    return StreamSettings(
        streams=tuple(streams),
        encode_type=encode_type,
        width=width,
        height=height,
        metadata=settings if isinstance(settings, bytes) else b"",
        mode_setting=typed,
        publication=publication,
    )
