"""Compares a result with an MP4, MOV or 3GP source, of which every other track and all metadata are kept as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from av.container import InputContainer
from av.stream import Stream

from videoprocess_server.media.compare_movies import movie_differences
from videoprocess_server.media.completion_keys import COMPLETION_KEYS
from videoprocess_server.media.differences import Difference
from videoprocess_server.media.iso.movie import read_movie
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.source import open_source
from videoprocess_server.media.track_digests import TrackDigest, digest_tracks
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.tasks import VerifyTask


def _digest_of_description(stream: Stream) -> str:
    context = stream.codec_context
    return hashlib.sha256((context and context.extradata) or b"").hexdigest()


#: what FFmpeg tells of a track, and the loss that a report may explain a difference with
_OF_A_TRACK: Final[Mapping[str, tuple[Callable[[Stream], Any], Loss | None]]] = {
    "id": (lambda stream: stream.id, None),
    "kind": (lambda stream: stream.type, None),
    "disposition": (lambda stream: int(stream.disposition), None),
    "time base": (lambda stream: stream.time_base, None),
    "start": (lambda stream: stream.start_time, Loss.EDIT_LIST),
    "duration": (lambda stream: stream.duration, None),
    "metadata": (lambda stream: stream.metadata, Loss.METADATA),
    "codec": (lambda stream: _of_codec(stream, "name"), None),
    "sample entry": (lambda stream: _of_codec(stream, "codec_tag"), None),
    "description": (_digest_of_description, None),
    "profile": (lambda stream: _of_codec(stream, "profile"), None),
    "width": (lambda stream: _of_codec(stream, "width"), None),
    "height": (lambda stream: _of_codec(stream, "height"), None),
    "sample rate": (lambda stream: _of_codec(stream, "sample_rate"), None),
}
#: what of it the new picture has, too
_OF_THE_PICTURE: Final = ("id", "kind", "disposition", "metadata")
#: of a picture's metadata: who encoded it
_OF_THE_ENCODER: Final = frozenset({"encoder", "vendor_id"})
#: what FFmpeg tells otherwise of a file in fragments, whose edit lists have no lengths
_OF_FRAGMENTS: Final = frozenset({"start", "duration"})
#: compared as boxes
_BRANDS: Final = frozenset({"major_brand", "compatible_brands"})


def iso_differences(source_fd: int, result_fd: int, task: VerifyTask, pulse: Pulse) -> Iterator[Difference]:
    """Give all differences but those of the picture's frames."""
    picture = task.media.video.index
    movie = read_movie(source_fd)
    in_fragments = movie.is_fragmented
    outside = {track.track_id for track in movie.tracks if track.is_external}
    with open_source(source_fd) as source, open_source(result_fd) as result:
        yield from _of_files(source, result)
        yield from _of_streams(source, result, picture, in_fragments=in_fragments)
        ids = {stream.index: stream.id for stream in source.streams}
    read: set[int] = set()
    for ignore_edit_list in (True, False):
        before, after = (
            digest_tracks(
                fd,
                pulse,
                skip={picture, *(index for index, track_id in ids.items() if track_id in outside)},
                ignore_edit_list=ignore_edit_list,
                marks=ignore_edit_list or not in_fragments,
                gaps=in_fragments,
            )
            for fd in (source_fd, result_fd)
        )
        yield from _of_packets(before, after, "" if ignore_edit_list else " with its edit list")
        read |= {ids[index] for index, track in before.items() if track.units}
    written = {ids[report.index]: report.packet_count for report in task.join.tracks}
    yield from movie_differences(source_fd, result_fd, ids[picture], written, frozenset(read), pulse)


def _of_files(source: InputContainer, result: InputContainer) -> Iterator[Difference]:
    before, after = source.metadata, result.metadata
    for key in sorted(before.keys() | after.keys()):
        if key not in _BRANDS | COMPLETION_KEYS and before.get(key) != after.get(key):
            text = f"{key} is {after.get(key)!r}, not {before.get(key)!r}"
            yield Difference(what=Loss.METADATA, track_index=None, text=text)
    if source.chapters() != result.chapters():
        yield Difference(what=None, track_index=None, text="its chapters are others")


def _of_streams(
    source: InputContainer, result: InputContainer, picture: int, *, in_fragments: bool
) -> Iterator[Difference]:
    if len(result.streams) < len(source.streams):
        text = f"it has {len(result.streams)} tracks, its source {len(source.streams)}"
        yield Difference(what=None, track_index=None, text=text)
    for before, after in zip(source.streams, result.streams, strict=False):
        for name in _OF_THE_PICTURE if before.index == picture else _OF_A_TRACK:
            if in_fragments and name in _OF_FRAGMENTS:
                continue
            read, loss = _OF_A_TRACK[name]
            old, new = read(before), read(after)
            if name == "metadata" and before.index == picture:
                old, new = _without_encoder(old), _without_encoder(new)
            if old != new:
                text = f"the {name} of track {before.index} is {new!r}, not {old!r}"
                yield Difference(what=loss, track_index=before.index, text=text)


def _of_packets(
    before: Mapping[int, TrackDigest], after: Mapping[int, TrackDigest], seen: str
) -> Iterator[Difference]:
    for index, old in before.items():
        new = after.get(index)
        if new != old:
            text = f"track {index} has other packets{seen}: {new}, not {old}"
            yield Difference(what=None, track_index=index, text=text)


def _without_encoder(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key not in _OF_THE_ENCODER}


def _of_codec(stream: Stream, name: str) -> object:
    context = stream.codec_context
    return context and getattr(context, name, None)
