"""How many bytes a chunk of QuickTime sound has, where its samples are single points in time and not packets.

The sample size is then not in the sample table but follows from the sound's description: as FFmpeg reads it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from videoprocess_server.media.iso.boxes import Box
from videoprocess_server.media.iso.samples import Ticks

#: of a sound sample entry, after its header: version, channels, bits a sample
_SOUND: Final = struct.Struct(">8xH6xHH")
#: of version 1, after it: samples in a packet, bytes of a packet's channel, bytes of a frame
_VERSION_1: Final = struct.Struct(">III")
_VERSION_1_AT: Final = 28
#: of version 2: bytes of a frame and samples of it
_VERSION_2: Final = struct.Struct(">II")
_VERSION_2_AT: Final = 56
#: samples that FFmpeg reads at once, and a frame of so many that it reads one frame
_PACKET: Final = 1024
_LONG_FRAME: Final = 160
#: uncompressed sound of ISO files, of which the sample table tells the bytes
_ISO_UNCOMPRESSED: Final = frozenset({b"ipcm", b"fpcm"})
#: bits a sample of uncompressed sound; 0: as its description says
_BITS: Final = {
    b"raw ": 0, b"NONE": 0, b"twos": 0, b"sowt": 0, b"lpcm": 0, b"in24": 24, b"in32": 32, b"fl32": 32,
    b"fl64": 64, b"ulaw": 8, b"alaw": 8,
}  # fmt: skip


@dataclass(frozen=True)
class SoundChunks:
    """Of a track whose samples are points in time: what a frame of them takes."""

    samples_per_frame: int
    bytes_per_frame: int

    @property
    def samples_per_packet(self) -> int:
        """As many as FFmpeg reads at once."""
        if self.samples_per_frame >= _LONG_FRAME:
            return self.samples_per_frame
        return _PACKET // self.samples_per_frame * self.samples_per_frame

    def size_of(self, samples: Ticks) -> Ticks:
        """Bytes of chunks with so many samples."""
        return samples // self.samples_per_frame * self.bytes_per_frame


def is_uncompressed(entry: Box) -> bool:
    """Whether it is sound whose samples are points in time, of which the sample table tells the bytes."""
    return entry.kind in _ISO_UNCOMPRESSED


def read_sound_chunks(entry: Box) -> SoundChunks | None:
    """What a sound sample entry says, None where the sample table tells the bytes."""
    body = entry.body
    if len(body) < _VERSION_1_AT:
        return None
    version, channels, bits = _SOUND.unpack_from(body)
    if version == 1 and len(body) >= _VERSION_1_AT + _VERSION_1.size:
        samples, _, size = _VERSION_1.unpack_from(body, _VERSION_1_AT)
        if samples and size:
            return SoundChunks(samples, size)
    if version == 2 and len(body) >= _VERSION_2_AT + _VERSION_2.size:
        size, samples = _VERSION_2.unpack_from(body, _VERSION_2_AT)
        return SoundChunks(samples, size) if samples and size else None
    if entry.kind not in _BITS:
        return None
    size = (_BITS[entry.kind] or bits) // 8 * channels
    return SoundChunks(1, size) if size else None
