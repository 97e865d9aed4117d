"""Files of a day, and beyond 4 GiB: offsets of 64 bits, and memory for tables only."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from iso_files import (
    HandTrack,
    box,
    full,
    hand_made,
    movie_of,
    mvhd,
    new_picture,
    opened,
    picture_track,
    transplanted,
    u32,
    u64,
)
from soaking import SOAKING
from videoprocess_server.media.iso.boxes import child
from videoprocess_server.media.iso.layout import BLOCK_BYTES
from videoprocess_server.media.iso.transplant import transplant

GIB = 1 << 30
FAR = 4 * GIB + (64 << 20)
DAY_FRAMES = 24 * 3600 * 30
DAY_SOUNDS = 24 * 3600 * 48_000 // 1024


def sparse(path: Path, *, sample_bytes: int) -> Path:
    """A picture at the beginning and a track 2 of two chunks, the second one 4 GiB and more on, in a file that is mostly hole.

    The first chunk has two samples more, of so many bytes.
    """
    head = box("ftyp", b"isom", u32(0), b"isom")
    media = len(head) + 16
    picture = picture_track()
    payload = sum(len(frame) for frame in picture.payloads)
    first, second = media + payload, media + FAR
    end = second + 4
    track = HandTrack(
        track_id=2,
        payloads=(b"near", b"far!"),
        tables={
            "stco": full("co64", u32(2), u64(first, second)),
            "stts": full("stts", u32(1, 4, 100)),
            "stsc": full("stsc", u32(2, 1, 3, 1, 2, 1, 1)),
            "stsz": full("stsz", u32(0, 4, 4, sample_bytes, sample_bytes, 4)),
        },
    )
    moov = box("moov", mvhd(), picture.trak([media, media + 7, media + 14]), track.trak([]))
    with path.open("wb") as file:
        file.write(head + u32(1) + b"mdat" + u64(end - len(head)) + b"".join(picture.payloads) + b"near")
        file.seek(second)
        file.write(b"far!" + moov)
    return path


def test_chunks_beyond_4_gib_come_near(tmp_path: Path) -> None:
    source = sparse(tmp_path / "source.mp4", sample_bytes=1)
    made = transplanted(source, new_picture(), tmp_path / "made.mp4")
    track = made.movie.track(2)
    assert child(track.box, b"mdia", b"minf", b"stbl", b"stco") is not None
    near, _, _, far = track.samples().offset.tolist()
    assert [made.data[at : at + 4] for at in (near, far)] == [b"near", b"far!"]


_ZEROS = bytes(BLOCK_BYTES)


class _Holes(io.RawIOBase):
    """Writes to a file, and where there are zeros makes a hole."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._at = 0
        self.largest = 0

    def write(self, data: object) -> int:
        block = bytes(data)  # type: ignore[call-overload]
        self.largest = max(self.largest, len(block))
        if block != _ZEROS[: len(block)]:
            os.pwrite(self._fd, block, self._at)
        self._at += len(block)
        return len(block)

    def close(self) -> None:
        os.ftruncate(self._fd, self._at)
        os.close(self._fd)


@pytest.mark.slow
@pytest.mark.parametrize("moov_first", [False, True] if SOAKING else [True])
def test_a_result_beyond_4_gib_has_offsets_of_64_bits(moov_first: bool, tmp_path: Path) -> None:
    source = sparse(tmp_path / "source.mp4", sample_bytes=FAR // 2 - 20)
    target = tmp_path / "made.mp4"
    sink = _Holes(target)
    with opened(source) as fd:
        transplant(fd, sink, new_picture(), moov_first=moov_first, beat=lambda _: None)  # type: ignore[arg-type]
    sink.close()
    assert sink.largest <= BLOCK_BYTES
    assert target.stat().st_size > FAR - 40
    movie = movie_of(target)
    assert movie.moov_first is moov_first
    with target.open("rb") as file:
        for track_id, expected in (
            (1, [b"new frame 0", b"new frame 1", b"new frame 2"]),
            (2, [b"near", b"far!"]),
        ):
            samples = movie.track(track_id).samples()
            assert child(movie.track(track_id).box, b"mdia", b"minf", b"stbl", b"co64") is not None
            offsets = samples.offset.tolist()
            for offset, payload in ((offsets[0], expected[0]), (offsets[-1], expected[-1])):
                assert os.pread(file.fileno(), len(payload), offset) == payload


@pytest.mark.slow
def test_a_day_takes_a_few_hundred_megabytes(tmp_path: Path) -> None:
    source = _a_day(tmp_path / "day.mp4")
    program = (
        "import sys, resource; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from test_iso_large import transplant_a_day\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "transplant_a_day(Path(sys.argv[1]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    printed = subprocess.run(
        [sys.executable, "-c", program, source, *folders], capture_output=True, text=True, check=True
    )
    kibibytes = int(printed.stdout)
    print(f"count mebibytes_of_a_day = {kibibytes >> 10}")
    assert kibibytes < 400 << 10


def transplant_a_day(source: Path) -> None:
    frame = bytes(10)
    size = np.full(DAY_FRAMES, len(frame), dtype=np.int64)
    size[::2] += 1

    def read() -> Iterator[bytes]:
        for k in range(DAY_FRAMES):
            yield frame + b"!" if k % 2 == 0 else frame

    pts = np.arange(DAY_FRAMES, dtype=np.int64) * 1001
    pts.reshape(-1, 4)[:] = pts.reshape(-1, 4)[:, [0, 3, 1, 2]]
    dts = np.arange(DAY_FRAMES, dtype=np.int64) * 1001 - 2002
    picture = replace(
        new_picture(),
        pts=pts,
        dts=dts,
        size=size,
        sync=np.arange(DAY_FRAMES) % 30 == 0,
        timescale=30_000,
        shown_until=DAY_FRAMES * 1001,
        read=read,
    )
    with opened(source) as fd, Path(os.devnull).open("wb") as out:
        transplant(fd, out, picture, moov_first=True, beat=lambda _: None)


def _a_day(path: Path) -> Path:
    """24 hours of picture and sound, each sample of its own size, a chunk a third of a second."""
    sounds = np.random.default_rng(1).integers(200, 400, DAY_SOUNDS).astype(">u4")
    per_chunk = 16
    totals = np.add.reduceat(sounds.astype(np.int64), np.arange(0, DAY_SOUNDS, per_chunk))
    offsets = np.cumsum(totals) - totals + 4096
    sound = HandTrack(
        track_id=2,
        handler="soun",
        timescale=48_000,
        payloads=(),
        tables={
            "stts": full("stts", u32(1, DAY_SOUNDS, 1024)),
            "stsz": full("stsz", u32(0, DAY_SOUNDS), sounds.tobytes()),
            "stsc": full("stsc", u32(1, 1, per_chunk, 1)),
            "stco": full("stco", u32(len(offsets)), offsets.astype(">u4").tobytes()),
        },
    )
    hand_made(path, picture_track(), sound, before=box("free", bytes(4096)))
    os.truncate(path, int(totals.sum()) + 8192)
    return path
