"""Files that are made to do harm: names of other files in them, and few bytes that declare very much."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iso_files import HandTrack, box, full, hand_made, mvhd, picture_track, u16, u32, visual_entry

#: writes the file; the second path is of one that nobody may open
Maker = Callable[[Path, Path], object]

_MANY = 0x7FFF_FFFF
_ALL = 0xFFFF_FFFF


# H.264


class _Bits:
    def __init__(self) -> None:
        self.text = ""

    def fixed(self, value: int, width: int) -> _Bits:
        self.text += f"{value:0{width}b}"
        return self

    def golomb(self, *values: int) -> _Bits:
        for value in values:
            digits = f"{value + 1:b}"
            self.text += "0" * (len(digits) - 1) + digits
        return self

    def unit(self, header: int) -> bytes:
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        raw = int(text, 2).to_bytes(len(text) // 8, "big")
        for zeros in (0, 1, 2, 3):
            raw = raw.replace(b"\0\0" + bytes([zeros]), b"\0\0\3" + bytes([zeros])) if zeros else raw
        return bytes([header]) + raw


def _configuration(width: int, height: int) -> bytes:
    """Of H.264 as MP4 and Matroska have it."""
    sets = _Bits().golomb(0, 0, 2, 16).fixed(0, 1).golomb(width // 16 - 1, height // 16 - 1).fixed(0b1100, 4)
    sequence = b"\x67\x42\x00\x3e" + sets.unit(0)[1:]
    picture = _Bits().golomb(0, 0).fixed(0, 2).golomb(0, 0, 0).fixed(0, 3).golomb(0, 0, 0).fixed(0, 3)
    pps = picture.unit(0x68)
    configuration = b"\1\x42\0\x3e\xff\xe1" + u16(len(sequence)) + sequence
    return configuration + b"\1" + u16(len(pps)) + pps


def _key_frame() -> bytes:
    """One that decodes to something."""
    slices = _Bits().golomb(0, 7, 0).fixed(0, 4).golomb(0).fixed(0, 2).golomb(0).unit(0x65)
    return u32(len(slices)) + slices


def _coded(side: int = 64, **more: Any) -> HandTrack:
    """Three frames, whose parameter set tells this side, and whose box 64."""
    entry = visual_entry("avc1", 64, 64, box("avcC", _configuration(side, side)))
    return picture_track(**{"entries": (entry,), "payloads": (_key_frame(),) * 3, **more})


def _huge_picture(side: int) -> Maker:
    """A tiny key frame that says it is a huge one."""
    return lambda path, _canary: hand_made(path, _coded(side))


def _text(template: str) -> Maker:
    return lambda path, canary: path.write_text(template.format(canary=canary))


def _data(data: bytes) -> Maker:
    return lambda path, _canary: path.write_bytes(data)


def _movie(*boxes: bytes) -> Maker:
    return _data(box("ftyp", b"isom", u32(0), b"isom") + box("moov", mvhd(), *boxes) + box("mdat", bytes(64)))


def _tables(handler: str = "vide", **tables: bytes) -> Maker:
    def write(path: Path, _canary: Path) -> None:
        track = (
            _coded(tables=tables)
            if handler == "vide"
            else HandTrack(handler=handler, tables=tables, track_id=1)
        )
        hand_made(path, track)

    return write


def _edits(*rows: bytes, count: int) -> Maker:
    edits = box("edts", full("elst", u32(count), *rows))
    return lambda path, _canary: hand_made(path, _coded(edits=edits))


def _nested(kind: str, depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = box(kind, inner)
    return inner


def _sparse(head: bytes, length: int, tail: bytes = b"") -> Maker:
    """A file with a hole behind its head."""

    def write(path: Path, _canary: Path) -> None:
        with path.open("wb") as file:
            file.write(head)
            file.seek(length, 1)
            file.write(tail)
            file.truncate()

    return write


# References to other files


def _data_reference(kind: str, flags: int = 0) -> Maker:
    def write(path: Path, canary: Path) -> None:
        name = str(canary).encode()
        body = {
            "url ": f"file://{canary}".encode() + b"\0",
            "alis": _alias(name),
        }[kind]
        hand_made(path, _coded(references=full(kind, body, flags=flags)))

    return write


def _alias(path: bytes) -> bytes:
    """Of a Macintosh alias what FFmpeg reads: volume, name, levels, and the whole path."""
    volume = b"\x04disk".ljust(28, b"\0")
    name = (bytes([min(63, len(path))]) + path[:63]).ljust(64, b"\0")
    head = bytes(10) + volume + bytes(12) + name + bytes(16) + u16(1, 1) + bytes(16)
    padded = path + b"\0" * (len(path) % 2)
    return head + u16(2, len(path)) + padded + u16(18, len(path)) + padded + u16(_ALL & 0xFFFF, 0)


def _reference_movie(path: Path, canary: Path) -> None:
    url = f"file://{canary}".encode() + b"\0"
    reference = full("rdrf", b"url ", u32(len(url)), url)
    data = box("ftyp", b"qt  ", u32(0), b"qt  ") + box("moov", box("rmra", box("rmda", reference)))
    path.write_bytes(data)


# Matroska


def element(kind: int, *parts: bytes, size: int | None = None) -> bytes:
    """An element; `size` may be another than its own."""
    body = b"".join(parts)
    told = len(body) if size is None else size
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + (told | 1 << 56).to_bytes(8, "big") + body


def _unsigned(kind: int, value: int) -> bytes:
    return element(kind, value.to_bytes(8, "big"))


_EBML = element(0x1A45DFA3, element(0x4282, b"matroska"))
_INFO = element(0x1549A966, _unsigned(0x2AD7B1, 1_000_000))


def _track(*more: bytes, width: int = 64, height: int = 48) -> bytes:
    video = element(0xE0, _unsigned(0xB0, width), _unsigned(0xBA, height))
    head = _unsigned(0xD7, 1), _unsigned(0x73C5, 1), _unsigned(0x83, 1), element(0x86, b"V_MPEG4/ISO/AVC")
    private = element(0x63A2, _configuration(64, 64))
    return element(0xAE, *head, video, *(more or (private,)))


def _cluster() -> bytes:
    return element(0x1F43B675, _unsigned(0xE7, 0), element(0xA3, b"\x81\0\0\x80", _key_frame()))


def matroska(*elements: bytes, tracks: Sequence[bytes] = (_track(),)) -> bytes:
    """A file with these elements between its tracks and its only cluster."""
    return _EBML + element(0x18538067, _INFO, element(0x1654AE6B, *tracks), *elements, _cluster())


def _linked(path: Path, canary: Path) -> None:
    name = str(canary).encode()
    info = element(
        0x1549A966,
        _unsigned(0x2AD7B1, 1_000_000),
        element(0x73A4, bytes(range(16))),
        element(0x3C83AB, name),
        element(0x3E83BB, name),
        element(0x3CB923, bytes(range(1, 17))),
        element(0x3EB923, bytes(range(2, 18))),
    )
    tracks = element(0x1654AE6B, _track())
    path.write_bytes(_EBML + element(0x18538067, info, tracks, _cluster()))


def _sparse_matroska(kind: int, length: int, *before: bytes) -> Maker:
    """An element whose body is a hole."""
    head = _EBML + element(0x18538067, size=(1 << 56) - 1) + _INFO + element(0x1654AE6B, _track())
    inside = b"".join(before)
    return _sparse(head + element(kind, size=length + len(inside)) + inside, length, _cluster())


def _deep_tags(depth: int) -> bytes:
    """Tags inside each other."""
    inner = b""
    for _ in range(depth):
        inner = element(0x67C8, element(0x45A3, b"a"), inner)
    return element(0x7373, inner)


def _attachment(length: int) -> Maker:
    name = element(0x466E, b"font.ttf") + element(0x4660, b"font/ttf")
    data = element(0x465C, size=length)
    file = element(0x61A7, size=len(name) + len(data) + length)
    return _sparse_matroska(0x1941A469, length, file, name, data)


_HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{canary}\n#EXT-X-ENDLIST\n"

#: what the others are made of, without harm: taken
HARMLESS: Mapping[str, Maker] = {
    "plain.mp4": lambda path, _canary: hand_made(path, _coded()),
    "plain.mkv": _data(matroska()),
}
#: name → what is opened through another name: refused, and the canary never opened
REFERENCES: Mapping[str, Maker] = {
    "hls.mp4": _text(_HLS),
    "hls_file.mp4": _text(_HLS.replace("{canary}", "file://{canary}")),
    "hls_network.mov": _text(_HLS.replace("{canary}", "http://127.0.0.1:9/a.ts")),
    "hls_data.mp4": _text(_HLS.replace("{canary}", "data:video/mp4;base64,AAAA")),
    "hls_key.mp4": _text(_HLS.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="{canary}"\n#EXTINF')),
    "hls_concat.mkv": _text(_HLS.replace("{canary}", "concat:{canary}|{canary}")),
    "ffconcat.mp4": _text("ffconcat version 1.0\nfile {canary}\n"),
    "sdp.mp4": _text("v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"),
    "dash.mp4": _text(
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>file://{canary}'
        "</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ),
    "entity.mp4": _text('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file://{canary}">]><a>&b;</a>'),
    "imf.mp4": _text('<?xml version="1.0"?><AssetMap xmlns="a"><Path>{canary}</Path></AssetMap>'),
    "smil.mp4": _text('<smil><body><video src="{canary}"/></body></smil>'),
    "subtitles.mp4": _text("[Script Info]\nScriptType: v4.00+\nVideo File: {canary}\n"),
    "index.mp4": _text("# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 0\n"),
    "metadata.mp4": _text(";FFMETADATA1\ntitle={canary}\n"),
    "avisynth.mp4": _text('DirectShowSource("{canary}")\n'),
    "two_in_one.mp4": lambda path, canary: path.write_bytes(
        box("ftyp", b"isom", u32(0)) + _HLS.format(canary=canary).encode()
    ),
    "data_reference.mov": _data_reference("url "),
    "alias.mov": _data_reference("alis"),
    "reference_movie.mov": _reference_movie,
    "linked_segments.mkv": _linked,
}

#: name → much is declared by little: refused within time and memory
BOMBS: Mapping[str, Maker] = {
    "samples_of_one_size.mp4": _tables(stsz=full("stsz", u32(1, _MANY))),
    "samples_all.mp4": _tables(stsz=full("stsz", u32(1, _ALL))),
    "samples_untold.mp4": _tables(stsz=full("stsz", u32(0, _ALL))),
    "samples_many_enough.mp4": _tables(
        stsz=full("stsz", u32(1, 16_000_000)),
        stts=full("stts", u32(1, 16_000_000, 1)),
        stsc=full("stsc", u32(1, 1, 16_000_000, 1)),
    ),
    "samples_of_sound.mov": _tables(
        "soun",
        stsz=full("stsz", u32(1, _ALL)),
        stts=full("stts", u32(1, _ALL, 1)),
        stsc=full("stsc", u32(1, 1, _ALL, 1)),
        stco=full("stco", u32(100), *[u32(40)] * 100),
    ),
    "sample_numbers.mp4": _tables(stz2=full("stz2", u32(4, _ALL)), stsz=b""),
    "times.mp4": _tables(stts=full("stts", u32(_ALL, 1, 1))),
    "times_far.mp4": _tables(stts=full("stts", u32(1, _ALL, _ALL))),
    "offsets.mp4": _tables(stco=full("stco", u32(_ALL, 40))),
    "large_offsets.mp4": _tables(stco=full("co64", u32(0x1FFF_FFFF, 0, 40))),
    "chunks.mp4": _tables(stsc=full("stsc", u32(0x1555_5555, 1, 1, 1))),
    "key_frames.mp4": _tables(stss=full("stss", u32(0x3FFF_FFFF, 1))),
    "composition.mp4": _tables(ctts=full("ctts", u32(_MANY, 1, 1))),
    "descriptions.mp4": _tables(stsd=full("stsd", u32(_ALL), visual_entry())),
    "edits.mp4": _edits(u32(100, 0, 0x10000), count=1 << 31),
    "edits_that_are_there.mp4": _edits(*[u32(120, 0, 0x10000)] * 50_000, count=50_000),
    "groups.mp4": _tables(sbgp=full("sbgp", b"roll", u32(_ALL, 1, 1))),
    "deep_movies.mp4": _movie(_nested("moov", 2000)),
    "deep_tracks.mp4": _movie(_nested("trak", 2000)),
    "deep_user_data.mp4": _movie(_nested("udta", 2000)),
    "deep_metadata.mp4": _movie(_nested("meta", 2000)),
    "tracks.mp4": _movie(box("trak") * 100_000),
    "whole_tracks.mp4": _movie(*[_coded(track_id=number + 1).trak([40, 41, 42]) for number in range(2000)]),
    "compressed_movie.mov": _movie(
        box("cmov", box("dcom", b"zlib"), box("cmvd", u32(100 << 20), zlib.compress(bytes(100 << 20), 1)))
    ),
    "compressed_movie_untold.mov": _movie(
        box("cmov", box("dcom", b"zlib"), box("cmvd", u32(_MANY), b"x\x9c\3\0"))
    ),
    "fragment.mp4": _data(
        box("ftyp", b"iso5", u32(0))
        + box("moov", mvhd(), box("mvex", full("trex", u32(1, 1, 1, 1, 0))), _coded().trak([]))
        + box(
            "moof",
            full("mfhd", u32(1)),
            box("traf", full("tfhd", u32(1)), full("trun", u32(100_000_000))),
        )
        + box("mdat", bytes(64))
    ),
    "segment_index.mp4": _data(
        box("ftyp", b"iso5", u32(0))
        + full("sidx", u32(1, 1000, 0, 0) + u16(0, 65535))
        + box("moov", mvhd(), _coded().trak([40]))
    ),
    "large_index.mp4": _sparse(box("ftyp", b"isom", u32(0)) + u32(3 << 29) + b"moov", (3 << 29) - 8),
    "large_user_data.mp4": _sparse(
        box("ftyp", b"isom", u32(0)) + u32((1 << 28) + 16) + b"moov" + u32((1 << 28) + 8) + b"udta", 1 << 28
    ),
    "huge_picture.mp4": _huge_picture(65536),
    "large_picture.mp4": _huge_picture(16384),
    "huge_sample_entry.mp4": lambda path, _canary: hand_made(
        path, picture_track(entries=(visual_entry("avc1", 65535, 65535),))
    ),
    "no_end.mp4": _data((u32(8) + b"free") * 200_000),
    "one_large_hole.mp4": _sparse(b"", 1 << 34),
    "tracks.mkv": _data(matroska(tracks=[b"\xae\x80"] * 100_000)),
    "pixels.mkv": _data(matroska(tracks=[_track(width=65535, height=65535)])),
    "cue_points.mkv": _data(matroska(element(0x1C53BB6B, b"\xbb\x80" * 2_000_000))),
    "tags.mkv": _data(matroska(element(0x1254C367, b"\x73\x73\x80" * 1_000_000))),
    "deep_tags.mkv": _data(matroska(element(0x1254C367, _deep_tags(200)))),
    "large_tags.mkv": _sparse_matroska(0x1254C367, 1 << 29),
    "large_cues.mkv": _sparse_matroska(0x1C53BB6B, 1 << 30),
    "attachment.mkv": _attachment(1 << 29),
    "untold_sizes.mkv": _data(_EBML + (b"\x18\x53\x80\x67\x01" + b"\xff" * 7) * 50_000),
    "seeks.mkv": _data(
        matroska(
            element(
                0x114D9B74, element(0x4DBB, element(0x53AB, b"\x12\x54\xc3\x67"), _unsigned(0x53AC, 0)) * 5000
            )
        )
    ),
    "codec_private.mkv": _data(matroska(tracks=[_track(element(0x63A2, bytes(1 << 20), size=1 << 33))])),
    "header.mkv": _data(element(0x1A45DFA3, size=1 << 40) + bytes(4096)),
}


# Pictures


def _png(width: int, height: int, *more: bytes, rows: int = 64) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return u32(len(body)) + kind + body + u32(zlib.crc32(kind + body))

    head = chunk(b"IHDR", u32(width, height) + b"\x08\x06\0\0\0")
    extra = b"".join(chunk(part[:4], part[4:]) for part in more)
    data = chunk(b"IDAT", zlib.compress(bytes((1 + 4 * width) * rows), 9))
    return b"\x89PNG\r\n\x1a\n" + head + extra + data + chunk(b"IEND", b"")


def _jpeg(width: int, height: int) -> bytes:
    tables = b"\xff\xdb\0\x43\0" + bytes([1] * 64)
    frame = b"\xff\xc0\0\x0b\x08" + u16(height, width) + b"\1\1\x11\0"
    return b"\xff\xd8" + tables + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(64) + b"\xff\xd9"


def _webp(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    chunk = b"VP8L" + (64).to_bytes(4, "little") + b"\x2f" + bits.to_bytes(4, "little") + bytes(59)
    return b"RIFF" + (len(chunk) + 4).to_bytes(4, "little") + b"WEBP" + chunk


def _zipped() -> bytes:
    """Much of nothing."""
    return zlib.compress(bytes(200 << 20), 9)


#: name → makes a picture that is refused
PICTURES: Mapping[str, Callable[[], bytes]] = {
    "png_of_huge_sides": lambda: _png(0x7FFF_FFFF, 0x7FFF_FFFF, rows=0),
    "png_of_large_sides": lambda: _png(65535, 65535, rows=1),
    "png_of_many_pixels": lambda: _png(16384, 16384, rows=1),
    "jpeg_of_large_sides": lambda: _jpeg(65535, 65535),
    "webp_of_large_sides": lambda: _webp(16384, 16384),
}
#: name → makes a picture with parts that unpack to very much: taken or refused, within time and memory
PACKED_PICTURES: Mapping[str, Callable[[], bytes]] = {
    "png_with_a_packed_profile": lambda: _png(16, 16, b"iCCPa\0\0" + _zipped(), rows=16),
    "png_with_packed_text": lambda: _png(16, 16, b"zTXta\0\0" + _zipped(), rows=16),
    "png_with_packed_pixels": lambda: _png(16, 16, rows=2_000_000),
}
