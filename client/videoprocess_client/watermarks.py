"""A watermark from a picture of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videoprocess.v1.mode_setting_pb2 import ModeSetting, Watermark
from videoprocess_client.sources import uploaded

if TYPE_CHECKING:
    from videoprocess_client.client import Client


@dataclass(frozen=True)
class WatermarkFile:
    """A picture that is burnt into every frame, and where."""

    #: PNG, JPEG or WebP, at most 512 KiB
    path: Path
    #: of its left and top edge, in pixels of the coded picture
    x: int = 0
    y: int = 0
    #: pixels; 0: the picture's
    width: int = 0
    height: int = 0
    scale_factor: float = 1.0
    #: counter-clockwise, a multiple of 90
    rotation_degrees: int = 0


async def with_watermark(
    client: Client, settings: bytes | ModeSetting | None, mark: WatermarkFile
) -> ModeSetting:
    """Upload the picture and return the settings with it. CommitStreams reads it; it may go then.

    Raises:
        ValueError: The settings are serialised metadata, which has no place for it.
    """
    if isinstance(settings, bytes):
        raise ValueError("a watermark needs the typed form of the settings")  # noqa: TRY004 - the type is fine elsewhere
    image = uploaded((await client.upload(mark.path)).upload_id)
    made = ModeSetting()
    if settings is not None:
        made.CopyFrom(settings)
    made.watermark.CopyFrom(
        Watermark(
            image=image,
            x=mark.x,
            y=mark.y,
            width=mark.width,
            height=mark.height,
            scale_factor=mark.scale_factor,
            rotation_degrees=mark.rotation_degrees,
        )
    )
    return made
