"""What a recorder asks the enhancement's encoder for: the user metadata `com.openharmony.encParam`.

Pairs of key=value between colons, e.g. "video_encode_bitrate_mode=SQR:bitrate=24000000:sqr_factor=27". What cannot be read is
ignored and named; an unknown mode in particular is not taken for constant bitrate, as the reference does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

#: of a file's user metadata
ENC_PARAM_KEY: Final = "com.openharmony.encParam"
#: keys that tell how bits are spent
RATE_KEYS: Final = frozenset({"bitrate", "video_encode_bitrate_mode", "sqr_factor"})
#: characters read at most; recorders write about 150
_MOST_CHARACTERS: Final = 4096
#: digits of a number at most
_MOST_DIGITS: Final = 18


class BitrateMode(Enum):
    """How an encoder spends bits; the HDI's numbers."""

    CBR = 0
    VBR = 1
    CQ = 2
    #: stable quality: a quality, and a rate that it may not exceed
    SQR = 3
    CBR_VIDEOCALL = 10
    CRF = 11


class BFrameGopMode(Enum):
    """How B frames refer to each other; the HDI's numbers."""

    ADAPTIVE = 1
    #: a hierarchy of three
    H3B = 2


@dataclass(frozen=True, kw_only=True)
class EncParam:
    """What was asked for; None where nothing was, or nothing that can be read."""

    #: bits per second, above 0
    bitrate: int | None = None
    bitrate_mode: BitrateMode | None = None
    b_frames: bool | None = None
    b_frame_gop_mode: BFrameGopMode | None = None
    #: a quantiser, above 0
    sqr_factor: int | None = None
    #: pairs that cannot be read or say nothing here, as they stand there
    unread: tuple[str, ...] = ()


def parse_enc_param(text: str) -> EncParam:
    """Read the string; a key that comes twice counts as it comes last."""
    known: dict[str, object] = {}
    unread = []
    for pair in filter(None, (part.strip() for part in text[:_MOST_CHARACTERS].split(":"))):
        key, _, value = pair.partition("=")
        field = _FIELDS.get(key.strip())
        read = field[1](value.strip()) if field else None
        if field is None or read is None:
            unread.append(pair)
        else:
            known[field[0]] = read
    if len(text) > _MOST_CHARACTERS:
        unread.append("…")
    return EncParam(**known, unread=tuple(unread))  # type: ignore[arg-type]


def _natural(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        return None
    return int(text) or None


def _switch(text: str) -> bool | None:
    return {"0": False, "1": True}.get(text)


def _member(choices: type[Enum]) -> Callable[[str], Enum | None]:
    """Give a reader of the names and numbers of an enum."""
    known = {key: choice for choice in choices for key in (choice.name, str(choice.value))}
    return lambda text: known.get(text.upper())


#: key → field and its reader
_FIELDS: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "bitrate": ("bitrate", _natural),
    "video_encode_bitrate_mode": ("bitrate_mode", _member(BitrateMode)),
    "video_encoder_enable_b_frame": ("b_frames", _switch),
    "video_encode_b_frame_gop_mode": ("b_frame_gop_mode", _member(BFrameGopMode)),
    "sqr_factor": ("sqr_factor", _natural),
}
