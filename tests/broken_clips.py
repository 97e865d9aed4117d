"""Breaks packets of clips, and asks a decoder that is not the service's what is left."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import av
import imageio_ffmpeg


@dataclass(frozen=True)
class CodedPacket:
    """A packet of the first video track."""

    pts: int
    is_key: bool
    data: bytes


def coded_packets(path: Path) -> list[CodedPacket]:
    """In decode order."""
    with av.open(str(path)) as container:
        return [
            CodedPacket(packet.pts or 0, packet.is_keyframe, bytes(packet))
            for packet in container.demux(container.streams.video[0])
            if packet.size
        ]


def zeroed(data: bytes, _random: Random) -> bytes:
    """Nothing of the packet is left."""
    return bytes(len(data))


def flipped(data: bytes, random: Random) -> bytes:
    """Bits of three bytes behind the first ones are others."""
    broken = bytearray(data)
    for _ in range(3):
        broken[random.randrange(min(12, len(data) - 1), len(data))] ^= random.randrange(1, 256)
    return bytes(broken)


def beheaded(data: bytes, _random: Random) -> bytes:
    """The first byte that says what the packet is says something else."""
    return data[:4] + bytes([data[4] ^ 0xFF]) + data[5:]


def halved(data: bytes, _random: Random) -> bytes:
    """The second half is gone."""
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


BREAKS: dict[str, Callable[[bytes, Random], bytes]] = {
    "zeroed": zeroed,
    "flipped": flipped,
    "beheaded": beheaded,
    "halved": halved,
}


def break_packet(source: Path, path: Path, packet: CodedPacket, how: str, random: Random) -> Path:
    """Writes the file with one packet broken in its place."""
    whole = source.read_bytes()
    at = whole.index(packet.data)
    assert whole.find(packet.data, at + 1) < 0
    broken = BREAKS[how](packet.data, random)
    path.write_bytes(whole[:at] + broken + whole[at + len(broken) :])
    return path


def decoded_elsewhere(path: Path) -> tuple[dict[int, str], str]:
    """What the independent ffmpeg program decodes: the MD5 of every picture by time stamp, and what it complains about."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-threads",
        "1",
        "-i",
        str(path),
        "-map",
        "0:v:0",
    ]
    command += ["-fps_mode", "passthrough", "-enc_time_base", "demux", "-copyts", "-f", "framemd5", "-"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    rows = [line.split(",") for line in run.stdout.splitlines() if line and not line.startswith("#")]
    return {int(row[2]): row[5].strip() for row in rows}, run.stderr
