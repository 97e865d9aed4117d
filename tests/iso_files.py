"""Files for the tests of media/iso: boxes built by hand, pictures to put into files, and what readers see in them."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np

from videoprocess_server.media.declared_end import declared_end
from videoprocess_server.media.iso.added import Left, NewPicture
from videoprocess_server.media.iso.boxes import Box, child, split
from videoprocess_server.media.iso.movie import Movie, read_movie
from videoprocess_server.media.iso.transplant import transplant
from videoprocess_server.media.timestamps import rebuild_dts_array

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
IDENTITY = b"".join(n.to_bytes(4, "big", signed=True) for n in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def movie_of(path: Path) -> Movie:
    with opened(path) as fd:
        return read_movie(fd)


# Boxes


def u16(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def u32(*numbers: int) -> bytes:
    return b"".join((number & 0xFFFF_FFFF).to_bytes(4, "big") for number in numbers)


def u64(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "big") for number in numbers)


def box(kind: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return u32(8 + len(body)) + kind.encode("latin-1") + body


def full(kind: str, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, u32(version << 24 | flags), *parts)


def visual_entry(
    kind: str = "avc1", width: int = 64, height: int = 48, *more: bytes, reference: int = 1
) -> bytes:
    fixed = bytes(6) + u16(reference) + bytes(16) + u16(width, height) + u32(0x480000, 0x480000, 0)
    return box(kind, fixed + u16(1) + bytes(32) + u16(24, 0xFFFF), *more)


def plain_entry(kind: str = "mett", *more: bytes, reference: int = 1) -> bytes:
    return box(kind, bytes(6) + u16(reference), *more)


@dataclass(kw_only=True)
class HandTrack:
    """A trak to build; samples lie one after the other, `per_chunk` in each chunk."""

    track_id: int = 1
    handler: str = "meta"
    timescale: int = 1000
    entries: Sequence[bytes] = (plain_entry(),)
    payloads: Sequence[bytes] = (b"one", b"four", b"five5")
    duration: int = 100
    per_chunk: int = 1
    edits: bytes = b""
    #: boxes of the stbl instead of the usual ones, by kind; b"" leaves one out
    tables: Mapping[str, bytes] = field(default_factory=dict)
    references: bytes = full("url ", flags=1)
    reference_count: int = 1
    more: bytes = b""
    size: tuple[int, int] = (0, 0)
    movie_duration: int = 300

    def trak(self, offsets: Sequence[int]) -> bytes:
        count = len(self.payloads)
        sizes = [len(payload) for payload in self.payloads]
        tables = {
            "stsd": full("stsd", u32(len(self.entries)), *self.entries),
            "stts": full("stts", u32(1, count, self.duration)),
            "stsc": full("stsc", u32(1, 1, self.per_chunk, 1)),
            "stsz": full("stsz", u32(0, count, *sizes)),
            "stco": full("stco", u32(len(offsets), *offsets)),
        }
        tables |= self.tables
        width, height = self.size
        tkhd = (
            u32(0, 0, self.track_id, 0, self.movie_duration)
            + bytes(16)
            + IDENTITY
            + u32(width << 16, height << 16)
        )
        mdhd = full("mdhd", u32(0, 0, self.timescale, count * self.duration) + u16(0x55C4, 0))
        hdlr = full("hdlr", bytes(4) + self.handler.encode() + bytes(13))
        dinf = box("dinf", full("dref", u32(self.reference_count), self.references))
        minf = box("minf", full("nmhd"), dinf, box("stbl", *tables.values()))
        return box("trak", full("tkhd", tkhd, flags=3), self.edits, box("mdia", mdhd, hdlr, minf), self.more)


def mvhd(timescale: int = 1000, duration: int = 300, next_id: int = 9) -> bytes:
    rest = u32(0x10000) + u16(0x100) + bytes(10) + IDENTITY + bytes(24) + u32(next_id)
    return full("mvhd", u32(0, 0, timescale, duration) + rest)


def hand_made(
    path: Path,
    *tracks: HandTrack,
    brand: str = "isom",
    timescale: int = 1000,
    moov_more: bytes = b"",
    before: bytes = b"",
    after: bytes = b"",
    extra: bytes = b"",
    media_box: str = "usual",
    patch: Callable[[bytes, int], bytes] = lambda data, extra_at: data,
) -> Path:
    """Writes ftyp, `before`, mdat with all samples and `extra`, moov, `after`.

    Args:
        media_box: "usual", "64 bits", "to the end" (size 0, after the moov), or "several".
        patch: sees the file and where `extra` is.
    """
    head = box("ftyp", brand.encode(), u32(0), brand.encode(), b"mp42") + before
    media = b"".join(payload for track in tracks for payload in track.payloads)
    heads = {"64 bits": u32(1) + b"mdat" + u64(len(media + extra) + 16), "to the end": u32(0) + b"mdat"}
    media_head = heads.get(media_box, u32(len(media + extra) + 8) + b"mdat")
    if media_box == "several":
        head += box("mdat", b"of nobody")

    def moov(at: int) -> bytes:
        traks = []
        for track in tracks:
            offsets = []
            for k, payload in enumerate(track.payloads):
                if k % track.per_chunk == 0:
                    offsets.append(at)
                at += len(payload)
            traks.append(track.trak(offsets))
        return box("moov", mvhd(timescale), *traks, moov_more)

    at = len(head) + len(media_head) + (len(moov(0)) if media_box == "to the end" else 0)
    body = media_head + media + extra
    rest = moov(at) + body if media_box == "to the end" else body + moov(at)
    path.write_bytes(patch(head + rest + after, at + len(media)))
    return path


def picture_track(**more: Any) -> HandTrack:
    """Three frames of 40 ms, of which no decoder knows anything."""
    return HandTrack(
        **{
            "handler": "vide",
            "entries": (visual_entry(),),
            "payloads": (b"I-frame", b"P-frame", b"P-frame"),
            "duration": 40,
            "size": (64, 48),
            "movie_duration": 120,
            **more,
        }
    )


# Pictures


def new_picture(
    pts: Sequence[int] = (0, 40, 80),
    *,
    track_id: int = 1,
    shown_until: int = 120,
    timescale: int = 1000,
    entry: bytes | None = None,
    payloads: Sequence[bytes] | None = None,
    dts: Sequence[int] | None = None,
    **more: Any,
) -> NewPicture:
    """A picture of frames that say their number."""
    frames = payloads or [b"new frame %d" % k for k in range(len(pts))]
    ticks = np.array(pts, dtype=np.int64)
    return NewPicture(
        **{
            "track_id": track_id,
            "timescale": timescale,
            "sample_entry": entry or visual_entry(),
            "pts": ticks,
            "dts": np.array(dts, dtype=np.int64) if dts is not None else rebuild_dts_array(ticks, 1),
            "size": np.array([len(frame) for frame in frames], dtype=np.int64),
            "sync": np.arange(len(pts)) == 0,
            "shown_until": shown_until,
            "width": 64,
            "height": 48,
            "read": lambda: iter(frames),
            **more,
        }
    )


def same_picture(path: Path) -> NewPicture:
    """The pictures that FFmpeg reads from a file, at the times at which it says they are shown."""
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        frames = [bytes(packet) for packet in packets]
        track_id, aspect = stream.id, stream.sample_aspect_ratio
    track = movie_of(path).track(track_id)
    entry = track.sample_entries[0]
    pts = np.array([packet.pts for packet in packets], dtype=np.int64)
    with opened(path) as fd:
        end = declared_end(fd, track_id)
    if end is None or end <= int(pts.max()):
        end = int(pts.max()) + 1
    steps = np.diff(np.sort(pts)) if len(pts) > 1 else np.array([1])
    return NewPicture(
        track_id=track_id,
        timescale=track.timescale,
        sample_entry=entry,
        pts=pts,
        dts=rebuild_dts_array(pts, int(steps.min())),
        size=np.array([len(frame) for frame in frames], dtype=np.int64),
        sync=np.array([packet.is_keyframe for packet in packets]),
        shown_until=end,
        width=int.from_bytes(entry[32:34], "big"),
        height=int.from_bytes(entry[34:36], "big"),
        sample_aspect_ratio=None if aspect is None else Fraction(aspect),
        read=lambda: iter(frames),
    )


@dataclass(frozen=True)
class Transplanted:
    path: Path
    left: tuple[Left, ...]
    beats: tuple[int, ...]

    @property
    def movie(self) -> Movie:
        return movie_of(self.path)

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()


def transplanted(
    source: Path, picture: NewPicture, target: Path, *, moov_first: bool = False, **more: Any
) -> Transplanted:
    beats: list[int] = []
    out = io.BytesIO()
    with opened(source) as fd:
        left = transplant(fd, out, picture, moov_first=moov_first, beat=beats.append, **more)
    target.write_bytes(out.getvalue())
    return Transplanted(target, left, tuple(beats))


# Readers


def payloads_of(path: Path, track_id: int) -> list[bytes]:
    """A track's samples as the tables of the file say."""
    samples = movie_of(path).track(track_id).samples()
    data = path.read_bytes()
    return [
        data[offset : offset + size]
        for offset, size in zip(samples.offset.tolist(), samples.size.tolist(), strict=True)
    ]


def packets_by_id(path: Path, *, ignore_edit_list: bool = False) -> dict[int, list[tuple[Any, ...]]]:
    """What FFmpeg 8 reads, by track id: time stamps, size, marks and a digest."""
    options = {"ignore_editlist": "1"} if ignore_edit_list else {}
    found: dict[int, list[tuple[Any, ...]]] = {}
    with av.open(str(path), options=options, metadata_errors="ignore") as container:
        for packet in container.demux():
            if packet.size:
                digest = hashlib.md5(bytes(packet), usedforsecurity=False).hexdigest()
                marks = packet.is_keyframe, packet.is_discard
                row = (packet.pts, packet.dts, packet.duration, packet.size, marks, digest)
                found.setdefault(packet.stream.id, []).append(row)
    return found


def facts_of(path: Path) -> list[Any]:
    """Everything that FFmpeg 8 tells of a file and its tracks without reading packets."""
    with av.open(str(path), metadata_errors="ignore") as container:
        tracks = [
            (stream.id, stream.type, stream.metadata, stream.disposition, stream.time_base, stream.start_time)
            for stream in container.streams
        ]
        return [dict(container.metadata), container.chapters(), *tracks]


def hashed_by_program(path: Path, *options: str) -> list[str]:
    """What an ffmpeg program, which is not PyAV's, reads of pictures and sound: a line a packet."""
    command = [
        FFMPEG,
        "-v",
        "error",
        *options,
        "-i",
        path,
        "-map",
        "0:v?",
        "-map",
        "0:a?",
        "-c",
        "copy",
        "-f",
        "framemd5",
        "-",
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in printed.splitlines() if not line.startswith("#software")]


def run_ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-y", *arguments], check=True, capture_output=True)


def boxes_without_places(trak: Box) -> dict[str, bytes]:
    """All boxes of a trak but those that say where its chunks are."""
    stbl = child(trak, b"mdia", b"minf", b"stbl")
    assert stbl is not None
    places = {b"stco", b"co64", b"saio"}
    found = {
        f"stbl/{k}/{inner.name}": bytes(inner.data)
        for k, inner in enumerate(split(stbl.body, "stbl")[0])
        if inner.kind not in places
    }
    for path in ((), (b"mdia",), (b"mdia", b"minf")):
        around = child(trak, *path) if path else trak
        assert around is not None
        inners, tail = split(around.body, "trak")
        found[f"{path}/tail"] = bytes(tail)
        found |= {
            f"{path}/{k}/{inner.name}": bytes(inner.data)
            for k, inner in enumerate(inners)
            if inner.kind not in {b"mdia", b"minf", b"stbl"}
        }
    return found
