"""The sample entry of a new picture: the encoder's, with what the source's says of colour and the like."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from videoprocess_server.media.iso.boxes import HEAD, Box, broken, build, joined, parse, split

#: of a visual sample entry, after its header: its own fields
_FIXED_SIZE: Final = 78
#: of these: what QuickTime says of the compressor, the resolution, the compressor's name and the depth; what lies
#: between is size and count of frames
_FROM_SOURCE: Final = (slice(8, 24), slice(28, 36), slice(42, 76))
#: tells bit rates of the source's samples
_BIT_RATE: Final = b"btrt"
#: colour, which the parameter sets tell as well: some players believe only a part of the box (GStreamer 1.22 takes full
#: range for limited), so a file that did without gets none
_COLOUR: Final = b"colr"


def extension_kinds(entry: bytes) -> tuple[str, ...]:
    """Types of the boxes in a visual sample entry, in their order.

    Raises:
        MediaFault: it is too short to be one.
    """
    return tuple(box.kind.decode("latin-1") for box in _extensions(_checked(entry)))


def merge_sample_entry(encoded: bytes, source: bytes, keep: Collection[str]) -> bytes:
    """Give the encoder's sample entry the source's boxes that still hold.

    Args:
        encoded: a whole visual sample entry, as the encoder's file has it.
        source: that of the picture it replaces.
        keep: types of the source's boxes; where there is one it stands in the place of the encoder's.

    Raises:
        MediaFault: one of them is too short to be a sample entry.
    """
    new, old = _checked(encoded), _checked(source)
    kept = [box for box in _extensions(old) if box.kind.decode("latin-1") in keep and box.kind != _BIT_RATE]
    replaced = {box.kind for box in kept} | {_BIT_RATE}
    if _COLOUR not in {box.kind for box in _extensions(old)}:
        replaced.add(_COLOUR)
    fixed = bytearray(new.body[:_FIXED_SIZE])
    if new.kind == old.kind:
        for part in _FROM_SOURCE:
            fixed[part] = old.body[part]
    boxes = [box.data for box in _extensions(new) if box.kind not in replaced]
    return joined(build(new.kind, bytes(fixed), *boxes, *(box.data for box in kept)))


def _checked(entry: bytes) -> Box:
    if len(entry) < HEAD.size + _FIXED_SIZE:
        raise broken("stsd", f"has a sample entry of {len(entry)} bytes")
    return parse(entry)


def _extensions(entry: Box) -> list[Box]:
    boxes, _ = split(entry.body[_FIXED_SIZE:], entry.name)
    return boxes
