"""Compares a result with a Matroska or WebM source, of which FFmpeg's muxer wrote what its container holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from av.container import InputContainer
from av.stream import AttachmentStream, Stream

from videoprocess_server.media.differences import Difference
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.source import open_source
from videoprocess_server.media.track_digests import TrackDigest, digest_tracks
from videoprocess_server.media.tracks import metadata_losses
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.tasks import VerifyTask

if TYPE_CHECKING:
    from av.container.core import Chapter

#: what FFmpeg tells of a track, and the loss that a report may explain a difference with
_OF_A_TRACK: Final[Mapping[str, tuple[Callable[[Stream], Any], Loss | None]]] = {
    "kind": (lambda stream: stream.type, None),
    "codec": (lambda stream: stream.codec_context and stream.codec_context.codec.canonical_name, None),
    "sample rate": (lambda stream: getattr(stream.codec_context, "sample_rate", None), None),
    "language": (lambda stream: stream.metadata.get("language", "und"), Loss.METADATA),
}
#: what of it the new picture has, too
_OF_THE_PICTURE: Final = ("kind", "language")
#: a chapter's times in another container's ticks
_CHAPTER_SECONDS: Final = Fraction(1, 1000)


def muxed_differences(source_fd: int, result_fd: int, task: VerifyTask, pulse: Pulse) -> Iterator[Difference]:
    """Give all differences but those of the picture's frames."""
    picture = task.media.video.index
    kept = [report.index for report in task.join.tracks if report.kept]
    with open_source(source_fd) as source, open_source(result_fd) as result:
        if len(result.streams) < len(kept):
            text = f"it has {len(result.streams)} tracks, {len(kept)} were written"
            yield Difference(what=None, track_index=None, text=text)
        for report in task.join.tracks:
            if not report.kept:
                yield Difference(
                    what=Loss.TRACK, track_index=report.index, text=f"it has no track {report.index}"
                )
        pairs = [(source.streams[index], made) for index, made in zip(kept, result.streams, strict=False)]
        yield from _of_streams(pairs, picture)
        yield from _of_attachments(pairs)
        yield from _of_chapters(source, result)
        for lost in metadata_losses(
            source, result, dict(zip(kept, range(len(result.streams)), strict=False))
        ):
            yield Difference(what=lost.what, track_index=lost.track_index, text=lost.reason)
        places = {before.index: after.index for before, after in pairs}
        ticks = {before.index: after.time_base or Fraction(1) for before, after in pairs}
    before = digest_tracks(source_fd, pulse, skip={picture}, ticks=ticks)
    same = {after: ticks[index] for index, after in places.items()}
    after = digest_tracks(result_fd, pulse, skip={places[picture]}, ticks=same)
    for index, place in places.items():
        if index != picture:
            yield from _of_packets(index, before[index], after[place], ticks[index])


def _of_attachments(pairs: list[tuple[Stream, Stream]]) -> Iterator[Difference]:
    for before, after in pairs:
        if isinstance(before, AttachmentStream) and before.data != getattr(after, "data", None):
            text = f"track {before.index} is another file"
            yield Difference(what=None, track_index=before.index, text=text)


def _of_streams(pairs: list[tuple[Stream, Stream]], picture: int) -> Iterator[Difference]:
    for before, after in pairs:
        for name in _OF_THE_PICTURE if before.index == picture else _OF_A_TRACK:
            tell, loss = _OF_A_TRACK[name]
            if tell(before) != tell(after):
                text = f"the {name} of track {before.index} is {tell(after)!r}, not {tell(before)!r}"
                yield Difference(what=loss, track_index=before.index, text=text)


def _of_chapters(source: InputContainer, result: InputContainer) -> Iterator[Difference]:
    before, after = source.chapters(), result.chapters()
    if len(before) != len(after) or any(
        abs(a - b) > _CHAPTER_SECONDS or old["metadata"].get("title") != new["metadata"].get("title")
        for old, new in zip(before, after, strict=False)
        for a, b in zip(_seconds(old), _seconds(new), strict=True)
    ):
        yield Difference(what=None, track_index=None, text="its chapters are others")


def _seconds(chapter: Chapter) -> tuple[Fraction, Fraction]:
    tick = chapter["time_base"] or Fraction(1)
    return chapter["start"] * tick, chapter["end"] * tick


def _of_packets(index: int, old: TrackDigest, new: TrackDigest, tick: Fraction) -> Iterator[Difference]:
    if (old.units, old.size_bytes, old.content) != (new.units, new.size_bytes, new.content):
        yield Difference(
            what=None, track_index=index, text=f"track {index} has other packets: {new}, not {old}"
        )
    if old.packets != new.packets:
        text = f"packets of track {index} have other times"
        yield Difference(what=Loss.TIME_STAMPS, track_index=index, text=text)
    # How long a packet is is a guess of some readers; what is not played of it somebody wrote.
    for name in ("start", "last", *(("end",) if old.silent_end else ())):
        times = getattr(old, name), getattr(new, name)
        if None not in times and abs(times[0] - times[1]) > 2 * tick:
            text = f"the {name} time of track {index} is {float(times[1]):.6f} s, not {float(times[0]):.6f}"
            yield Difference(what=None, track_index=index, text=text)
