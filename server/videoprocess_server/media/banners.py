"""Takes out of H.264 packets what x264 writes about itself at the beginning of every segment: 700 bytes of no use to anyone."""

from __future__ import annotations

from typing import Final

#: the identity of x264's message (SEI, user data unregistered)
_X264: Final = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")
#: it follows a start code, the unit's type, the message's type and size: 6, 5, and 255 twice or thrice
_MOST_BYTES_BEFORE: Final = 16
_START_CODE: Final = b"\x00\x00\x01"


def without_banner(packet: bytes) -> bytes:
    """Give the packet without x264's message, the same where it has none; its units have start codes."""
    at = packet.find(_X264, 0, _MOST_BYTES_BEFORE + len(_X264))
    begin = packet.rfind(_START_CODE, 0, at) if at >= 0 else -1
    end = packet.find(_START_CODE, at)
    if begin < 0 or end < 0:
        return packet
    return packet[:begin].rstrip(b"\x00") + b"\x00" + packet[end:]
