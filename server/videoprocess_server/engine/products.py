"""The files a job makes: what each of them is, and what it is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.records import ArtifactKind

MEDIA_TYPES: Mapping[str, str] = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".3gp": "video/3gpp",
    ".mkv": "video/x-matroska",
    ".jpg": "image/jpeg",
    ".json": "application/json",
}


@dataclass(frozen=True)
class _Naming:
    kind: ArtifactKind
    #: what comes after the source's name
    word: str
    #: whether the stream has a file for each of several frames
    numbered: bool = False
    #: where the extension alone would say too much
    media_type: str = ""


_NAMING: Mapping[StreamIntent, _Naming] = {
    StreamIntent.VIDEO: _Naming(ArtifactKind.VIDEO, "enhanced"),
    StreamIntent.PREVIEW: _Naming(ArtifactKind.PREVIEW, "preview"),
    StreamIntent.STILL_CAPTURE: _Naming(ArtifactKind.STILL, "cover"),
    StreamIntent.POST_VIEW: _Naming(ArtifactKind.THUMBNAIL, "thumbnail", numbered=True),
    StreamIntent.ANALYZE: _Naming(ArtifactKind.REPORT, "report"),
    StreamIntent.CUSTOM: _Naming(ArtifactKind.METADATA, "maker", media_type="application/mp4"),
}
#: of streams that have files of two kinds: those that are no pictures and those that are
_PICTURE_NAMING: Mapping[StreamIntent, _Naming] = {
    StreamIntent.ANALYZE: _Naming(ArtifactKind.COMPARISON, "comparison"),
}
_PICTURE_EXTENSION = ".jpg"


@dataclass(frozen=True, kw_only=True)
class Product:
    """A finished file that is not published yet."""

    #: of its WORK blob
    work_key: str
    stream_id: int
    intent: StreamIntent
    #: with its dot
    extension: str
    size_bytes: int
    sha256: str
    #: of a picture: its frame's time, relative to the first frame
    media_time_us: int | None = None

    @property
    def naming(self) -> _Naming:
        """What it is, and is called."""
        table = _PICTURE_NAMING if self.extension == _PICTURE_EXTENSION else {}
        return table.get(self.intent, _NAMING[self.intent])

    @property
    def kind(self) -> ArtifactKind:
        """What it is."""
        return self.naming.kind

    @property
    def media_type(self) -> str:
        """Its media type."""
        return self.naming.media_type or MEDIA_TYPES[self.extension]


def file_names(products: Sequence[Product], source_name: str) -> list[str]:
    """Return a name for each file, no two the same: the source's, what it is, and a number where there may be several.

    Streams of one intent are told apart by their ids.
    """
    stem = PurePath(source_name).stem
    streams = Counter(intent for intent, _ in {(product.intent, product.stream_id) for product in products})
    numbers: Counter[int] = Counter()
    names = []
    for product in products:
        naming = product.naming
        parts = [stem, naming.word] if stem else [naming.word]
        if streams[product.intent] > 1:
            parts.append(str(product.stream_id))
        if naming.numbered:
            numbers[product.stream_id] += 1
            parts.append(f"{numbers[product.stream_id]:02d}")
        names.append("_".join(parts) + product.extension)
    return names
