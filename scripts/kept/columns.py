"""The columns: what is compared, how, and which words of a report may name a difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kept import file_columns, picture_columns, tags, track_columns
from kept.facts import FileFacts, is_cover
from kept.tag_columns import Finder, has_tags, of_tags


@dataclass(frozen=True)
class Column:
    """One thing that a result has to keep."""

    name: str
    find: Finder
    #: categories of the report that may name a difference of it, without their prefix
    named_by: tuple[str, ...] = ()
    #: tells whether a source has anything of it
    applies: Callable[[FileFacts], bool] = lambda _: True


def _has(kind: str) -> Callable[[FileFacts], bool]:
    return lambda facts: any(s.get("codec_type") == kind for s in facts.streams)


def _has_others(facts: FileFacts) -> bool:
    return any(s["index"] != facts.main and s.get("codec_type") != "audio" for s in facts.streams)


def _has_cover(facts: FileFacts) -> bool:
    return any(is_cover(s) or s.get("codec_type") == "attachment" for s in facts.streams)


#: every column of the table, in its order
TABLE: Sequence[Column] = (
    Column("frames", picture_columns.frames, ("FRAME", "PACKET")),
    Column("pictures", picture_columns.pictures),
    Column("time stamps", picture_columns.time_stamps, ("TIMESTAMP", "FRAME")),
    Column("durations", picture_columns.durations, ("TIMESTAMP", "PACKET", "EDIT_LIST", "FRAME")),
    Column("audio packets", track_columns.sound, ("PACKET", "EDIT_LIST", "TIMESTAMP"), _has("audio")),
    Column("other packets", track_columns.other_packets, ("PACKET", "TIMESTAMP"), _has_others),
    Column("tracks", track_columns.tracks, ("USER_METADATA",)),
    Column("sample entries", track_columns.sample_entries, ("CODEC", "HDR_METADATA")),
    Column("sound offset", track_columns.offset, ("TIMESTAMP", "EDIT_LIST"), lambda facts: len(facts.streams) > 1),
    Column("rotation", picture_columns.rotation, ("ROTATION",)),
    Column("size", picture_columns.size, ("PICTURE_SIZE",)),
    Column("pixels", picture_columns.pixels, ("OTHER",)),
    Column("colour", picture_columns.colour, ("COLOR",)),
    Column("HDR", picture_columns.hdr, ("HDR_METADATA",), picture_columns.has_hdr),
    Column("frame data", picture_columns.other_frame_data, ("SIDE_DATA", "HDR_METADATA"), picture_columns.has_frame_data),
    Column("creation time", of_tags("creation time"), ("CREATION_TIME", "USER_METADATA"), has_tags("creation time")),
    Column("location", of_tags("location"), ("LOCATION", "USER_METADATA"), has_tags("location")),
    Column("make, model", of_tags("make, model"), ("DEVICE", "USER_METADATA"), has_tags("make, model")),
    Column("user keys", of_tags(tags.USER_KEYS), ("USER_METADATA",), has_tags(tags.USER_KEYS)),
    Column("time code", of_tags("time code"), ("TRACK", "USER_METADATA"), has_tags("time code")),
    Column("chapters", file_columns.chapters, ("CHAPTER",), lambda facts: bool(facts.chapters)),
    Column("cover art", track_columns.cover_art, (), _has_cover),
    Column("readable", file_columns.readable),
    Column("file size", file_columns.file_size),
)  # fmt: skip
