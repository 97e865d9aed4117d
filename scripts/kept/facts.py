"""All that the programs tell of one file."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from kept import boxes, programs

#: side data of packets that a reader makes of the edit list
_SKIP = "Skip Samples"
#: codecs of which readers make packets as they like: only the row of bytes is a fact
_GROUPED = ("pcm_", "amr")


@dataclass(frozen=True)
class Packet:
    """A packet with times in seconds."""

    pts: Fraction | None
    dts: Fraction | None
    duration: Fraction
    sha256: str
    #: samples that a reader is told not to play, at its beginning and at its end
    skipped: tuple[int, int] = (0, 0)


class FileFacts:
    """What is found in a file, read when it is first asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        answer = programs.ffprobe(path)
        self.streams: list[dict[str, Any]] = answer.get("streams", [])
        self.format: dict[str, Any] = answer.get("format", {})
        self.chapters: list[dict[str, Any]] = answer.get("chapters", [])
        #: as a player reads them, by track
        self.packets = self._packets(answer)
        self.is_iso = "mov" in str(self.format.get("format_name", "")).split(",")

    @cached_property
    def all_packets(self) -> dict[int, list[Packet]]:
        """The packets without the edit list."""
        if not self.is_iso:
            return self.packets
        return self._packets(programs.ffprobe(self.path, ignore_edit_list=True))

    @cached_property
    def main(self) -> int:
        """Index of the track that is processed: the one with the most pixels."""
        pictures = [s for s in self.streams if s.get("codec_type") == "video" and not is_cover(s)]
        if not pictures:
            raise ValueError(f"{self.path.name} has no track of pictures")
        return int(
            max(pictures, key=lambda s: (s.get("width", 0) * s.get("height", 0), -s["index"]))["index"]
        )

    @cached_property
    def frames(self) -> list[dict[str, Any]]:
        """The decoded frames of the main track."""
        return programs.ffprobe_frames(self.path, self.main)

    @cached_property
    def frame_times(self) -> list[Fraction | None]:
        """When each frame is shown."""
        base = Fraction(self.streams[self.main]["time_base"])
        return [_time(frame.get("pts", frame.get("best_effort_timestamp")), base) for frame in self.frames]

    @cached_property
    def end(self) -> Fraction:
        """When the last picture is no longer shown: the sample tables and the edit list tell, or a reader of packets.

        A reader does not tell it of pictures that are not coded in their order: their steps are those of decoding.
        """
        told = self.boxes[self.main].end if self.main < len(self.boxes) else None
        if told is not None:
            return told
        return max((packet.pts or Fraction(0)) + packet.duration for packet in self.packets[self.main])

    @cached_property
    def decoded(self) -> tuple[bytes, list[str]]:
        """Small grey pictures of the main track, and what a decoder says."""
        return programs.decoded(self.path, self.main)

    @cached_property
    def mediainfo(self) -> list[dict[str, Any]]:
        """MediaInfo's tracks: General first."""
        return programs.mediainfo(self.path)

    @cached_property
    def exif(self) -> dict[str, Any]:
        """What exiftool finds."""
        return programs.exiftool(self.path)

    @cached_property
    def boxes(self) -> list[boxes.TrackBoxes]:
        """What the boxes of each track say; empty where the file has none."""
        return boxes.read_tracks(self.path) if self.is_iso else []

    @cached_property
    def is_fragmented(self) -> bool:
        """Whether the samples are in fragments: its headers then tell no lengths."""
        return any(kind == "moof" for kind, _ in self.top_boxes)

    @cached_property
    def top_boxes(self) -> list[tuple[str, int]]:
        """Letters and sizes of the boxes at the top."""
        return [(box.kind, box.size) for box in boxes.read_boxes(self.path)] if self.is_iso else []

    def identity(self, index: int) -> str | tuple[str, ...]:
        """What tells that a copied track is the same."""
        if str(self.streams[index].get("codec_name", "")).startswith(_GROUPED):
            return programs.copied_bytes(self.path, index)
        return tuple(packet.sha256 for packet in self.all_packets[index])

    def is_grouped(self, index: int) -> bool:
        """Whether readers make packets of it as they like."""
        return str(self.streams[index].get("codec_name", "")).startswith(_GROUPED)

    def _packets(self, answer: dict[str, Any]) -> dict[int, list[Packet]]:
        bases = [Fraction(stream["time_base"]) for stream in self.streams]
        found: dict[int, list[Packet]] = defaultdict(list)
        for packet in answer.get("packets", []):
            index = packet["stream_index"]
            if index >= len(bases):  # a picture that the reader adds as it goes on
                continue
            side = [data for data in packet.get("side_data_list", []) if data["side_data_type"] == _SKIP]
            found[index].append(
                Packet(
                    pts=_time(packet.get("pts"), bases[index]),
                    dts=_time(packet.get("dts"), bases[index]),
                    duration=_time(packet.get("duration"), bases[index]) or Fraction(0),
                    sha256=packet.get("data_hash", ""),
                    skipped=(
                        sum(data.get("skip_samples", 0) for data in side),
                        sum(data.get("discard_padding", 0) for data in side),
                    ),
                )
            )
        return found


def is_cover(stream: dict[str, Any]) -> bool:
    """Whether a track is a picture that belongs to the file, and no video."""
    disposition = stream.get("disposition", {})
    return bool(disposition.get("attached_pic") or disposition.get("timed_thumbnails"))


def _time(ticks: int | None, base: Fraction) -> Fraction | None:
    return None if ticks is None else ticks * base
