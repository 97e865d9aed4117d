"""The one stream and the settings that the command commits, in the form that is remembered."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from google.protobuf.message import DecodeError

from videoprocess.v1.mode_setting_pb2 import ModeSetting
from videoprocess_client.enums import EncodeType
from videoprocess_client.session import Session
from videoprocess_client.sources import stream

STREAM_ID = 0


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a VIDEO stream and its settings ask for."""

    encode_type: EncodeType = EncodeType.NULL
    #: of the result in pixels; 0: the source's
    width: int = 0
    height: int = 0
    #: OpenHarmony's serialised camera metadata
    metadata: bytes = b""
    #: a serialised `ModeSetting`; not together with `metadata`
    mode_setting: bytes = b""

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
        await session.release_streams([STREAM_ID])
        await session.create_streams(
            [stream(STREAM_ID, encode_type=self.encode_type, width=self.width, height=self.height)]
        )
        await session.commit_streams(self.settings())

    def describe(self) -> str:
        """What is asked for, as options of the command; empty for the defaults."""
        return " ".join(self._options())

    def _options(self) -> Iterator[str]:
        if self.metadata:
            yield "--settings-file ..."
        setting = ModeSetting.FromString(self.mode_setting)
        if setting.HasField("zoom_ratio"):
            yield f"--zoom {setting.zoom_ratio:g}"
        if setting.HasField("frame_rate_range"):
            yield f"--fps {setting.frame_rate_range.min_fps}-{setting.frame_rate_range.max_fps}"
        if self.encode_type:
            yield f"--codec {self.encode_type.name.lower()}"
        if self.width:
            yield f"--size {self.width}x{self.height}"


def pack(
    settings: bytes | ModeSetting | None, encode_type: EncodeType, width: int, height: int
) -> StreamSettings:
    """The form that is remembered.

    Args:
        settings: Serialised camera metadata, the typed form, or None for the defaults.
        encode_type: Codec of the result; NULL: the source's.
        width: Width of the result in pixels; 0: the source's.
        height: Height of the result in pixels; 0: the source's.
    """
    typed = settings.SerializeToString(deterministic=True) if isinstance(settings, ModeSetting) else b""
    return StreamSettings(
        encode_type=encode_type,
        width=width,
        height=height,
        metadata=settings if isinstance(settings, bytes) else b"",
        mode_setting=typed,
    )
